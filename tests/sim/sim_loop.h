/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent/loop.h in virtual time: the clock jumps from one timer to the next, and stands still
 * while something runs. There is one clock in the process, which util_now_ms and util_now_us tell
 * too, and which begins anew with each loop.
 */
#pragma once

#include <stddef.h>

#include "agent/loop.h"

struct sim_net;
struct sim_radio;

struct loop {
	struct loop_timer **heap; /* owned; the timers are not. The first one due is on top */
	size_t n, size;
	uint64_t started; /* timers, ever: those due at once go in this order */
	bool quit;
	struct sim_net *net; /* not owned; what websocket_new and resolver_start work on */
	struct sim_radio *radio; /* not owned; what ble_new works on */
};

uint64_t sim_now_ms(void);
/* Runs what is due until then, and leaves the clock there, but where loop_quit stops it before. */
void sim_run_until(struct loop *loop, uint64_t until_ms);
