/* SPDX-License-Identifier: Apache-2.0 */
/* Flow control over dropped connections. */
#include "agent/flow.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

/* Frames first to end - 1 go to the cloud next, as these numbers, for the first time or not. */
static void send_up(struct flow *flow, uint64_t first, uint64_t end, uint64_t number, bool new)
{
	for (uint64_t i = first; i < end; i++) {
		const struct flow_frame *frame;
		uint64_t seq;

		frame = flow_next_up(flow, &seq);
		assert_non_null(frame);
		assert_int_equal(seq, i);
		check_frame(number + i - first, frame->channel, frame->data, frame->len);
		assert_int_equal(flow_sent_up(flow), new);
	}
}

static void expect_none_up(const struct flow *flow)
{
	uint64_t seq;

	assert_null(flow_next_up(flow, &seq));
}

static void expect_want(struct flow *flow, uint32_t expected_credits, uint64_t expected_seq)
{
	uint64_t next_seq;
	uint32_t credits;

	flow_want(flow, &credits, &next_seq);
	assert_int_equal(credits, expected_credits);
	assert_int_equal(next_seq, expected_seq);
}

/* Ten frames, of which eight were sent and three are known to have arrived. */
static void setup(struct flow *flow)
{
	flow_init(flow, 8);
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(push_up(flow, i), 0);
	send_up(flow, 0, 8, 0, true);
	assert_int_equal(flow_credit(flow, 0, 3), 0);
}

/* The cloud gets again what it has not got, and what is new, by its new credits alone. */
static void sends_again_what_was_lost(void **state)
{
	struct flow flow;

	(void)state;
	setup(&flow);
	assert_int_equal(flow_resume(&flow, 4, 5), 0);
	assert_false(flow_all_sent(&flow));
	send_up(&flow, 5, 8, 5, false);
	send_up(&flow, 8, 9, 8, true);
	expect_none_up(&flow);
	assert_false(flow_all_sent(&flow));
	/* Dropped again, at once: nothing of it had arrived, and there are no credits. */
	assert_int_equal(flow_resume(&flow, 0, 5), 0);
	expect_none_up(&flow);
	assert_int_equal(flow_credit(&flow, 1, 5), 0);
	send_up(&flow, 5, 6, 5, false);
	expect_none_up(&flow);
	assert_int_equal(flow_credit(&flow, 10, 6), 0);
	send_up(&flow, 6, 9, 6, false);
	send_up(&flow, 9, 10, 9, true);
	assert_true(flow_all_sent(&flow));
	flow_done(&flow);
}

/* Where all had arrived nothing goes again, and what was confirmed on the way is out of the queue. */
static void sends_nothing_again_that_arrived(void **state)
{
	struct flow flow;
	size_t before, up, down;

	(void)state;
	setup(&flow);
	flow_get_waiting(&flow, &before, &down);
	assert_int_equal(flow_resume(&flow, 2, 8), 0);
	flow_get_waiting(&flow, &up, &down);
	assert_true(up < before);
	send_up(&flow, 8, 10, 8, true);
	expect_none_up(&flow);
	assert_int_equal(flow_resume(&flow, 64, 10), 0);
	flow_get_waiting(&flow, &up, &down);
	assert_int_equal(up, 0);
	assert_true(flow_all_sent(&flow));
	expect_none_up(&flow);
	assert_int_equal(push_up(&flow, 10), 0);
	send_up(&flow, 10, 11, 10, true);
	flow_done(&flow);
}

/* What goes again was not sent on this connection yet: CREDIT cannot confirm it before. */
static void credit_after_a_resume_covers_what_went_again(void **state)
{
	struct flow flow;
	struct flow before;

	(void)state;
	setup(&flow);
	assert_int_equal(flow_resume(&flow, 8, 4), 0);
	send_up(&flow, 4, 5, 4, false);
	before = flow;
	assert_int_equal(flow_credit(&flow, 5, 6), -EPROTO);
	assert_int_equal(flow_credit(&flow, 5, 3), -EPROTO);
	assert_memory_equal(&flow, &before, sizeof(before));
	assert_int_equal(flow_credit(&flow, 5, 5), 0);
	send_up(&flow, 5, 8, 5, false);
	flow_done(&flow);
}

static void refuse_resume(struct flow *flow, uint64_t next_seq)
{
	struct flow before = *flow;

	assert_int_equal(flow_resume(flow, 5, next_seq), -EPROTO);
	assert_memory_equal(flow, &before, sizeof(before));
}

static void refuses_to_resume_at_an_impossible_seq(void **state)
{
	struct flow flow;

	(void)state;
	setup(&flow);
	refuse_resume(&flow, 2); /* the cloud had it, so it is gone */
	refuse_resume(&flow, 0);
	refuse_resume(&flow, 9); /* waits, was never sent */
	refuse_resume(&flow, 11);
	refuse_resume(&flow, UINT64_MAX);
	assert_int_equal(flow_resume(&flow, 0, 6), 0);
	refuse_resume(&flow, 5);
	refuse_resume(&flow, 9);
	/* Sent, though not on this connection. */
	assert_int_equal(flow_resume(&flow, 0, 8), 0);
	refuse_resume(&flow, 7);
	flow_done(&flow);
}

/* The cloud is granted by want what it had and what the device took since, and that once. */
static void wants_what_has_not_arrived(void **state)
{
	struct flow flow;
	uint64_t next_seq;
	uint32_t credits;

	(void)state;
	flow_init(&flow, 4);
	expect_want(&flow, 4, 0);
	for (uint64_t seq = 0; seq < 3; seq++)
		assert_int_equal(push_down(&flow, seq), 0);
	expect_want(&flow, 1, 3);
	flow_pop_down(&flow);
	flow_pop_down(&flow);
	assert_true(flow_grant_due(&flow));
	expect_want(&flow, 3, 3);
	assert_false(flow_grant_due(&flow)); /* it is granted */
	expect_want(&flow, 3, 3); /* the next connection dropped as well */
	for (uint64_t seq = 3; seq < 6; seq++)
		assert_int_equal(push_down(&flow, seq), 0);
	assert_int_equal(push_down(&flow, 6), -EPROTO);
	expect_want(&flow, 0, 6);
	/* The measure for granting stays: half of four. */
	flow_pop_down(&flow);
	assert_false(flow_grant_due(&flow));
	flow_pop_down(&flow);
	assert_true(flow_grant_due(&flow));
	flow_grant(&flow, &credits, &next_seq);
	assert_int_equal(credits, 2);
	assert_int_equal(next_seq, 6);
	expect_want(&flow, 2, 6);
	flow_done(&flow);
}

/* A session the cloud never heard of starts over: all frames that were sent go again, from seq 0
 * on, by the credits of the new connection, and in both directions. */
static void restarts_with_the_frames_that_wait(void **state)
{
	struct flow flow;

	(void)state;
	flow_init(&flow, 4);
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(push_up(&flow, i), 0);
	send_up(&flow, 0, 3, 0, true);
	expect_want(&flow, 4, 0);
	flow_restart(&flow, 6);
	assert_false(flow_all_sent(&flow));
	send_up(&flow, 0, 3, 0, false);
	send_up(&flow, 3, 6, 3, true);
	expect_none_up(&flow);
	assert_int_equal(flow_credit(&flow, 100, 6), 0);
	send_up(&flow, 6, 10, 6, true);
	for (uint64_t seq = 0; seq < 6; seq++)
		assert_int_equal(push_down(&flow, seq), 0);
	assert_int_equal(push_down(&flow, 6), -EPROTO);
	flow_pop_down(&flow);
	flow_pop_down(&flow);
	assert_false(flow_grant_due(&flow)); /* half of six by now */
	flow_pop_down(&flow);
	assert_true(flow_grant_due(&flow));
	flow_done(&flow);
}

/* All that was sent before counts as unsent: the cloud cannot want to go on behind it. */
static void refuses_to_resume_behind_a_restart(void **state)
{
	struct flow flow;

	(void)state;
	flow_init(&flow, 8);
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(push_up(&flow, i), 0);
	send_up(&flow, 0, 5, 0, true);
	flow_restart(&flow, 8);
	refuse_resume(&flow, 1);
	send_up(&flow, 0, 2, 0, false);
	refuse_resume(&flow, 3);
	refuse_resume(&flow, 5);
	assert_int_equal(flow_resume(&flow, 8, 1), 0);
	refuse_resume(&flow, 3);
	send_up(&flow, 1, 5, 1, false);
	send_up(&flow, 5, 6, 5, true);
	assert_int_equal(flow_resume(&flow, 8, 6), 0);
	flow_done(&flow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sends_again_what_was_lost),
		cmocka_unit_test(sends_nothing_again_that_arrived),
		cmocka_unit_test(credit_after_a_resume_covers_what_went_again),
		cmocka_unit_test(refuses_to_resume_at_an_impossible_seq),
		cmocka_unit_test(wants_what_has_not_arrived),
		cmocka_unit_test(restarts_with_the_frames_that_wait),
		cmocka_unit_test(refuses_to_resume_behind_a_restart),
	};

	return cmocka_run_group_tests_name("flow_resume", tests, NULL, NULL);
}
