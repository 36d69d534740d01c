/* SPDX-License-Identifier: Apache-2.0 */
/* Finds out that a connection is dead: after some silence of the other side it is pinged (RFC 6455,
 * section 5.5.2), and any frame of it counts as an answer. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/loop.h"

struct keepalive {
	uint32_t interval_ms, timeout_ms;
	struct loop_timer timer;
	uint64_t alive_ms; /* monotonic, of the last frame */
	uint64_t ping_us; /* monotonic, of the ping that is out; 0 for none */
	uint32_t rtt_us; /* of the last ping answered, 0 for none */
	void (*on_ping)(void *userdata); /* send one */
	void (*on_dead)(void *userdata);
	void *userdata; /* not owned */
};

/* interval_ms: of silence until a ping, 0 for never; timeout_ms: for its answer. */
void keepalive_init(struct keepalive *keepalive, struct loop *loop, uint32_t interval_ms,
		    uint32_t timeout_ms, void (*on_ping)(void *userdata),
		    void (*on_dead)(void *userdata), void *userdata);
/* With a first ping. */
void keepalive_start(struct keepalive *keepalive);
/* A frame came; pong: that of a ping. */
void keepalive_alive(struct keepalive *keepalive, bool pong);
/* Also where it does not run. */
void keepalive_stop(struct keepalive *keepalive);
