/* SPDX-License-Identifier: Apache-2.0 */
/* A blecon-hotspotd that only tries (--probe), as a child and as the daemon's user. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define DOCTOR_PROBE_STOP_MS 8000 /* for its end; after that it is killed */

struct doctor_probe {
	pid_t pid; /* 0: none */
	int input; /* owned: it ends when this is closed; -1 for none */
	int log; /* owned: what it wrote on standard error; -1 for none */
	char directory[88]; /* for the socket; "" for none */
	char socket[104]; /* as long as an address may be */
};

/* Starts one for a configuration; state_dir's owner is the user it runs as, where this process may
 * choose. Returns 0, or -errno with ret_error (size bytes) saying what is missing. In both cases
 * doctor_probe_stop is right, as it is for all of *ret unset but pid 0, input and log -1. */
int doctor_probe_start(const char *config, const char *state_dir, struct doctor_probe *ret,
		       char *ret_error, size_t size);
/* Whether it has ended by itself; ret_error then is the last error it logged. */
bool doctor_probe_ended(struct doctor_probe *probe, char *ret_error, size_t size);
/* Ends it, waits for it, and removes what it left. */
void doctor_probe_stop(struct doctor_probe *probe);
