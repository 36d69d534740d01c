/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/keepalive.h"

static void wait_for_silence(struct keepalive *keepalive)
{
	uint64_t due_ms = keepalive->alive_ms + keepalive->interval_ms, now_ms = util_now_ms();

	loop_timer_start(&keepalive->timer, due_ms - MIN(due_ms, now_ms));
}

static void ping(struct keepalive *keepalive)
{
	keepalive->ping_us = util_now_us();
	loop_timer_start(&keepalive->timer, keepalive->timeout_ms);
	keepalive->on_ping(keepalive->userdata);
}

static void on_timer(void *userdata)
{
	struct keepalive *keepalive = userdata;

	if (keepalive->ping_us != 0) {
		keepalive->on_dead(keepalive->userdata);
		return;
	}
	/* A frame that came meanwhile has not moved the timer: there may be thousands a second. */
	if (keepalive->alive_ms + keepalive->interval_ms > util_now_ms()) {
		wait_for_silence(keepalive);
		return;
	}
	ping(keepalive);
}

void keepalive_init(struct keepalive *keepalive, struct loop *loop, uint32_t interval_ms,
		    uint32_t timeout_ms, void (*on_ping)(void *userdata),
		    void (*on_dead)(void *userdata), void *userdata)
{
	*keepalive = (struct keepalive){
		.interval_ms = interval_ms,
		.timeout_ms = timeout_ms,
		.on_ping = on_ping,
		.on_dead = on_dead,
		.userdata = userdata,
	};
	loop_timer_init(loop, &keepalive->timer, on_timer, keepalive);
}

void keepalive_start(struct keepalive *keepalive)
{
	keepalive->alive_ms = util_now_ms();
	/* How long an answer takes is worth knowing where there is never a silence, too. */
	if (keepalive->interval_ms > 0)
		ping(keepalive);
}

void keepalive_alive(struct keepalive *keepalive, bool pong)
{
	keepalive->alive_ms = util_now_ms();
	if (keepalive->ping_us == 0)
		return;
	if (pong)
		keepalive->rtt_us = (uint32_t)(util_now_us() - keepalive->ping_us);
	keepalive->ping_us = 0;
	wait_for_silence(keepalive);
}

void keepalive_stop(struct keepalive *keepalive)
{
	loop_timer_stop(&keepalive->timer);
	keepalive->ping_us = 0;
}
