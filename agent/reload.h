/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of the configuration while the agent runs: the file is read again, and what changed is
 * applied, without dropping a device's connection. New settings with which the cloud is not reached
 * are given up for the last that did.
 */
#pragma once

#include <stdint.h>

struct agent;
struct reload;

enum reload_state {
	RELOAD_NONE, /* as it was started */
	RELOAD_APPLIED,
	RELOAD_PENDING, /* applied, and given up if the cloud is not reached */
	RELOAD_REFUSED, /* the last file was no good: what ran goes on */
	RELOAD_REVERTED, /* the cloud was not reached with it */
};
const char *reload_state_name(enum reload_state state);

struct reload_status {
	enum reload_state state;
	uint64_t since_ms; /* monotonic */
	uint64_t revert_ms; /* monotonic, when it is given up; 0 where it is not */
	const char *text; /* what is wrong, or what changed */
	const char *restart; /* options that differ, and need a restart; empty for none */
};

/* agent must outlive it. Returns 0 or -ENOMEM. */
int reload_new(struct agent *agent, struct reload **ret);
/* NULL is fine. */
void reload_free(struct reload *reload);
/* Reads the file, and applies it or says why not. */
void reload_run(struct reload *reload);
/* From now on nothing changes any more, whatever is asked for. */
void reload_stop(struct reload *reload);
/* The cloud has welcomed the hotspot. NULL is fine. */
void reload_reached(struct reload *reload);
void reload_get_status(const struct reload *reload, struct reload_status *ret);
