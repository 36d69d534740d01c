/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a TCP connection cannot be made: libwebsockets says no more than that it cannot, so after a
 * failure this tries once more and reads the error.
 */
#pragma once

#include <stdint.h>

#include "agent/loop.h"

struct probe {
	struct loop *loop; /* not owned */
	int fd; /* owned, -1: none runs */
	struct loop_fd watch;
	struct loop_timer timer;
	void (*on_done)(void *userdata, int error);
	void *userdata; /* not owned */
};

/* on_done: with 0 where it could connect now, else the errno of connect; from the loop, within
 * seconds, never from in here. */
void probe_init(struct probe *probe, struct loop *loop, void (*on_done)(void *userdata, int error),
		void *userdata);
/* address: in numbers. */
void probe_start(struct probe *probe, const char *address, uint16_t port);
/* No on_done comes any more. Also where none runs. */
void probe_stop(struct probe *probe);
