/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/keepalive.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "agent/loop.h"

#define INTERVAL_MS 40
#define TIMEOUT_MS  20

struct fixture {
	struct loop *loop;
	struct keepalive keepalive;
	struct loop_timer frame_timer, end_timer;
	unsigned frames, pings, deaths;
	bool answers; /* pings */
	uint64_t start_ms, frame_ms, ping_ms, dead_ms; /* frame, ping: the last */
};

static void on_ping(void *userdata)
{
	struct fixture *f = userdata;

	f->pings++;
	f->ping_ms = util_now_ms();
	if (f->answers)
		keepalive_alive(&f->keepalive, true);
}

static void on_dead(void *userdata)
{
	struct fixture *f = userdata;

	f->deaths++;
	f->dead_ms = util_now_ms();
	loop_quit(f->loop);
}

/* A frame each 5 ms, as long as frames says. */
static void on_frame(void *userdata)
{
	struct fixture *f = userdata;

	f->frame_ms = util_now_ms();
	keepalive_alive(&f->keepalive, false);
	if (--f->frames > 0)
		loop_timer_start(&f->frame_timer, 5);
}

static void on_end(void *userdata)
{
	struct fixture *f = userdata;

	loop_quit(f->loop);
}

static void run(struct fixture *f, uint32_t interval_ms, unsigned frames, bool answers,
		uint64_t for_ms)
{
	*f = (struct fixture){.frames = frames, .answers = answers};
	assert_int_equal(loop_new(&f->loop), 0);
	keepalive_init(&f->keepalive, f->loop, interval_ms, TIMEOUT_MS, on_ping, on_dead, f);
	loop_timer_init(f->loop, &f->frame_timer, on_frame, f);
	loop_timer_init(f->loop, &f->end_timer, on_end, f);
	f->start_ms = util_now_ms();
	keepalive_start(&f->keepalive);
	if (frames > 0)
		loop_timer_start(&f->frame_timer, 5);
	loop_timer_start(&f->end_timer, for_ms);
	assert_int_equal(loop_run(f->loop), 0);
	keepalive_stop(&f->keepalive);
	loop_timer_stop(&f->frame_timer);
	loop_timer_stop(&f->end_timer);
	loop_free(f->loop);
}

/* Nothing ever comes: dead after the first ping's timeout, once. */
static void finds_a_dead_line(void **state)
{
	struct fixture f;

	(void)state;
	run(&f, INTERVAL_MS, 0, false, 60000);
	assert_int_equal(f.pings, 1);
	assert_int_equal(f.deaths, 1);
	assert_true(f.dead_ms - f.start_ms >= TIMEOUT_MS);
}

static void takes_a_pong(void **state)
{
	struct fixture f;

	(void)state;
	run(&f, INTERVAL_MS, 0, true, INTERVAL_MS * 5);
	assert_int_equal(f.deaths, 0);
	assert_in_range(f.pings, 2, 6);
	assert_true(f.keepalive.rtt_us < 1000000);
}

/* The first frame answers the first ping; the next is due an interval after the last frame. */
static void takes_any_frame(void **state)
{
	struct fixture f;

	(void)state;
	run(&f, INTERVAL_MS, 20, false, 60000);
	assert_int_equal(f.frames, 0);
	assert_int_equal(f.pings, 2);
	assert_true(f.ping_ms - f.frame_ms >= INTERVAL_MS);
	assert_true(f.dead_ms - f.frame_ms >= INTERVAL_MS + TIMEOUT_MS);
	assert_int_equal(f.deaths, 1);
}

static void can_be_off(void **state)
{
	struct fixture f;

	(void)state;
	run(&f, 0, 1, false, 3 * (INTERVAL_MS + TIMEOUT_MS));
	assert_int_equal(f.pings, 0);
	assert_int_equal(f.deaths, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_a_dead_line),
		cmocka_unit_test(takes_a_pong),
		cmocka_unit_test(takes_any_frame),
		cmocka_unit_test(can_be_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
