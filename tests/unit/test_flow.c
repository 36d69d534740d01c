/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

static void push_up_to(struct flow *flow, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; i < end; i++)
		assert_int_equal(push_up(flow, i), 0);
}

/* The frame that goes to the cloud next is this one. Returns whether for the first time. */
static bool send_up(struct flow *flow, uint64_t expected_seq, uint64_t number)
{
	const struct flow_frame *frame;
	uint64_t seq = 99;

	for (unsigned i = 0; i < 2; i++) { /* it stays until it was sent */
		frame = flow_next_up(flow, &seq);
		assert_non_null(frame);
		assert_int_equal(seq, expected_seq);
		check_frame(number, frame->channel, frame->data, frame->len);
	}
	return flow_sent_up(flow);
}

static void send_up_to(struct flow *flow, uint64_t first, uint64_t end)
{
	for (uint64_t i = first; i < end; i++)
		assert_true(send_up(flow, i, i));
}

static void expect_none_up(const struct flow *flow)
{
	uint64_t seq;

	assert_null(flow_next_up(flow, &seq));
}

static void take_down(struct flow *flow, uint64_t number)
{
	const struct flow_frame *frame = flow_next_down(flow);

	assert_non_null(frame);
	check_frame(number, frame->channel, frame->data, frame->len);
	flow_pop_down(flow);
}

static size_t waiting_up(const struct flow *flow)
{
	size_t up, down;

	flow_get_waiting(flow, &up, &down);
	return up;
}

static size_t waiting_down(const struct flow *flow)
{
	size_t up, down;

	flow_get_waiting(flow, &up, &down);
	return down;
}

static void starts_empty(void **state)
{
	struct flow flow;

	(void)state;
	memset(&flow, 0xaa, sizeof(flow));
	flow_init(&flow, FLOW_CREDITS_DEFAULT);
	expect_none_up(&flow);
	assert_null(flow_next_down(&flow));
	assert_true(flow_all_sent(&flow));
	assert_int_equal(waiting_up(&flow), 0);
	assert_int_equal(waiting_down(&flow), 0);
	assert_false(flow_grant_due(&flow));
	assert_false(flow_hold(&flow, false));
	assert_false(flow_hold(&flow, true));
	flow_done(&flow);
}

/* As many as there are credits go to the cloud, in order, and the rest when it grants more. */
static void credits_let_frames_go_up(void **state)
{
	struct flow flow;

	(void)state;
	flow_init(&flow, 4);
	push_up_to(&flow, 0, 10);
	send_up_to(&flow, 0, 4);
	expect_none_up(&flow);
	assert_false(flow_all_sent(&flow)); /* they wait for credit */
	assert_int_equal(flow_credit(&flow, 0, 4), 0);
	expect_none_up(&flow);
	assert_int_equal(flow_credit(&flow, 1, 4), 0);
	send_up_to(&flow, 4, 5);
	expect_none_up(&flow);
	assert_int_equal(flow_credit(&flow, 100, 4), 0);
	send_up_to(&flow, 5, 10);
	expect_none_up(&flow);
	assert_true(flow_all_sent(&flow));
	flow_done(&flow);
}

/* What was sent takes room until the cloud says that it arrived. */
static void frames_stay_until_they_arrived(void **state)
{
	struct flow flow;
	size_t room = 0;

	(void)state;
	flow_init(&flow, 16);
	push_up_to(&flow, 0, 10);
	for (uint64_t i = 0; i < 10; i++)
		room += room_of(i);
	assert_int_equal(waiting_up(&flow), room);
	send_up_to(&flow, 0, 10);
	assert_int_equal(waiting_up(&flow), room);
	assert_true(flow_all_sent(&flow));
	assert_int_equal(flow_credit(&flow, 16, 0), 0);
	assert_int_equal(waiting_up(&flow), room);
	for (uint64_t i = 0; i < 10; i++) {
		room -= room_of(i);
		assert_int_equal(flow_credit(&flow, 0, i + 1), 0);
		assert_int_equal(waiting_up(&flow), room);
		assert_int_equal(flow_credit(&flow, 0, i + 1), 0); /* again */
		assert_int_equal(waiting_up(&flow), room);
	}
	assert_int_equal(room, 0);
	flow_done(&flow);
}

/* Nothing of a refused CREDIT counts: neither its credits nor its next_seq. */
static void refuse_credit(struct flow *flow, uint32_t credits, uint64_t next_seq)
{
	struct flow before = *flow;

	assert_int_equal(flow_credit(flow, credits, next_seq), -EPROTO);
	assert_memory_equal(flow, &before, sizeof(before));
}

/* CREDIT cannot confirm what was never sent, nor take back what it confirmed. */
static void refuses_credit_with_an_impossible_seq(void **state)
{
	struct flow flow;

	(void)state;
	flow_init(&flow, 4);
	refuse_credit(&flow, 5, 1);
	refuse_credit(&flow, 5, UINT64_MAX);
	assert_int_equal(flow_credit(&flow, 0, 0), 0);
	push_up_to(&flow, 0, 6);
	refuse_credit(&flow, 5, 1); /* waits, not sent */
	send_up_to(&flow, 0, 4);
	refuse_credit(&flow, 5, 5);
	refuse_credit(&flow, 5, UINT64_C(1) << 32);
	assert_int_equal(flow_credit(&flow, 0, 3), 0);
	refuse_credit(&flow, 5, 2);
	refuse_credit(&flow, 5, 0);
	expect_none_up(&flow);
	assert_int_equal(flow_credit(&flow, 1, 3), 0);
	send_up_to(&flow, 4, 5);
	expect_none_up(&flow);
	flow_done(&flow);
}

/* PROTOCOL.md, "Flow control": no more than 2^32 - 1 at a time. */
static void refuses_too_many_credits(void **state)
{
	struct flow flow;

	(void)state;
	flow_init(&flow, 1);
	assert_int_equal(flow_credit(&flow, UINT32_MAX - 1, 0), 0);
	refuse_credit(&flow, 1, 0);
	refuse_credit(&flow, UINT32_MAX, 0);
	assert_int_equal(flow_credit(&flow, 0, 0), 0);
	push_up_to(&flow, 0, 3);
	send_up_to(&flow, 0, 2); /* uses up two of them */
	refuse_credit(&flow, 3, 2);
	assert_int_equal(flow_credit(&flow, 2, 2), 0);
	refuse_credit(&flow, 1, 2);
	assert_int_equal(flow_resume(&flow, UINT32_MAX, 2), 0);
	refuse_credit(&flow, 1, 2);
	send_up_to(&flow, 2, 3);
	assert_int_equal(flow_credit(&flow, 1, 3), 0);
	flow_done(&flow);
}

/* FLOW_UP_MAX bytes and not one more, however long the frames are. */
static void up_queue_is_bounded(void **state)
{
	static const size_t lengths[] = {0, 2, 60, 510, FLOW_FRAME_MAX};
	static const uint8_t data[FLOW_FRAME_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t room = lengths[i] + FRAME_HEAD, n = FLOW_UP_MAX / room,
		       left = FLOW_UP_MAX % room;
		struct flow flow;
		uint64_t seq;

		flow_init(&flow, 1);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(flow_push_up(&flow, 0, data, lengths[i]), 0);
		assert_int_equal(flow_push_up(&flow, 1, data, lengths[i]), -ENOBUFS);
		/* A shorter one that takes what is left, to the last byte. */
		if (left >= FRAME_HEAD)
			assert_int_equal(flow_push_up(&flow, 0, data, left - FRAME_HEAD), 0);
		assert_int_equal(flow_push_up(&flow, 1, data, 0), -ENOBUFS);
		assert_int_equal(flow.up.size, FLOW_UP_MAX);
		assert_true(waiting_up(&flow) > FLOW_UP_MAX - FRAME_HEAD);
		/* One that arrived makes room for one; that it was sent does not. */
		assert_non_null(flow_next_up(&flow, &seq));
		assert_true(flow_sent_up(&flow));
		assert_int_equal(flow_push_up(&flow, 1, data, 0), -ENOBUFS);
		assert_int_equal(flow_credit(&flow, 1, 1), 0);
		assert_int_equal(flow_push_up(&flow, 0, data, lengths[i]), 0);
		assert_int_equal(flow_push_up(&flow, 1, data, 0), -ENOBUFS);
		/* What was refused is not in it. */
		assert_int_equal(flow_credit(&flow, 1000000, 1), 0);
		for (size_t k = 1; flow_next_up(&flow, &seq); k++) {
			assert_int_equal(seq, k);
			assert_int_equal(flow_next_up(&flow, &seq)->channel, 0);
			assert_true(flow_sent_up(&flow));
		}
		assert_true(flow_all_sent(&flow));
		assert_int_equal(flow.up_seq, n + 1 + (left >= FRAME_HEAD));
		assert_int_equal(flow.up.size, FLOW_UP_MAX);
		flow_done(&flow);
	}
}

/* FLOW_DOWN_MAX is what the longest frames of all credits take, and nothing goes beyond it. */
static void down_queue_is_bounded(void **state)
{
	static const uint8_t data[FLOW_FRAME_MAX];
	struct flow flow;
	uint64_t seq = 0;

	(void)state;
	flow_init(&flow, FLOW_CREDITS_MAX);
	for (; seq < FLOW_CREDITS_MAX; seq++)
		assert_int_equal(flow_push_down(&flow, 0, seq, data, FLOW_FRAME_MAX), 0);
	assert_int_equal(waiting_down(&flow), FLOW_DOWN_MAX);
	assert_int_equal(flow.down.size, FLOW_DOWN_MAX);
	assert_int_equal(flow_push_down(&flow, 0, seq, data, 0), -EPROTO);
	flow.down_limit++; /* were there a credit too many */
	assert_int_equal(flow_push_down(&flow, 0, seq, data, 0), -ENOBUFS);
	flow_pop_down(&flow);
	assert_int_equal(flow_push_down(&flow, 0, seq, data, FLOW_FRAME_MAX), 0);
	assert_int_equal(waiting_down(&flow), FLOW_DOWN_MAX);
	flow_done(&flow);
}

/* A device is held from over FLOW_UP_HOLD bytes on, until no more than half of them are left. */
static void holds_between_two_marks(void **state)
{
	static const uint8_t data[512 - FRAME_HEAD];
	uint64_t n = FLOW_UP_HOLD / 512;
	struct flow flow;
	uint64_t seq;

	(void)state;
	flow_init(&flow, 1);
	assert_int_equal(flow_credit(&flow, 1000, 0), 0);
	for (uint64_t i = 0; i < n; i++)
		assert_int_equal(flow_push_up(&flow, 0, data, sizeof(data)), 0);
	assert_int_equal(waiting_up(&flow), FLOW_UP_HOLD);
	assert_false(flow_hold(&flow, false));
	assert_true(flow_hold(&flow, true));
	assert_int_equal(flow_push_up(&flow, 0, NULL, 0), 0);
	assert_true(flow_hold(&flow, false));
	assert_true(flow_hold(&flow, true));
	while (flow_next_up(&flow, &seq))
		flow_sent_up(&flow);
	assert_true(flow_hold(&flow, false)); /* sent, but perhaps not arrived */
	assert_int_equal(flow_credit(&flow, 0, 1), 0);
	assert_false(flow_hold(&flow, false));
	assert_true(flow_hold(&flow, true));
	assert_int_equal(flow_credit(&flow, 0, n / 2), 0);
	assert_int_equal(waiting_up(&flow), FLOW_UP_HOLD / 2 + FRAME_HEAD);
	assert_true(flow_hold(&flow, true));
	assert_int_equal(flow_credit(&flow, 0, n / 2 + 1), 0);
	assert_false(flow_hold(&flow, true));
	/* Exactly at the mark. */
	while (waiting_up(&flow) + FRAME_HEAD <= FLOW_UP_HOLD / 2)
		assert_int_equal(flow_push_up(&flow, 0, NULL, 0), 0);
	assert_int_equal(waiting_up(&flow), FLOW_UP_HOLD / 2);
	assert_false(flow_hold(&flow, true));
	assert_int_equal(flow_push_up(&flow, 0, NULL, 0), 0);
	assert_true(flow_hold(&flow, true));
	assert_false(flow_hold(&flow, false));
	flow_done(&flow);
}

/* A queue in which few frames wait does not grow, and one that was long is small again. */
static void queues_take_little_memory(void **state)
{
	struct flow flow;
	uint64_t seq = 0;

	(void)state;
	flow_init(&flow, 2);
	assert_int_equal(flow.up.size + flow.down.size, 0);
	assert_int_equal(flow_credit(&flow, 1000000, 0), 0);
	push_up_to(&flow, 0, 1);
	for (; seq < 10000; seq++) {
		push_up_to(&flow, seq + 1, seq + 2);
		assert_true(send_up(&flow, seq, seq));
		assert_int_equal(flow_credit(&flow, 0, seq + 1), 0);
		assert_true(flow.up.size <= 4096);
	}
	push_up_to(&flow, 10001, 10400);
	assert_true(flow.up.size > 65536);
	send_up_to(&flow, seq, 10400);
	assert_int_equal(flow_credit(&flow, 0, 10400), 0);
	assert_true(flow.up.size <= 4096);
	flow_done(&flow);
}

/* The cloud sends as much as it has credits, never more; what the device took is granted again. */
static void cloud_keeps_to_its_credits(void **state)
{
	struct flow flow;
	uint32_t credits;
	uint64_t next_seq;

	(void)state;
	flow_init(&flow, 4);
	for (uint64_t seq = 0; seq < 4; seq++)
		assert_int_equal(push_down(&flow, seq), 0);
	assert_int_equal(push_down(&flow, 4), -EPROTO);
	assert_false(flow_grant_due(&flow)); /* nothing has reached the device */
	take_down(&flow, 0);
	assert_false(flow_grant_due(&flow));
	assert_int_equal(push_down(&flow, 4), -EPROTO); /* taken, but not granted */
	take_down(&flow, 1);
	assert_true(flow_grant_due(&flow));
	flow_grant(&flow, &credits, &next_seq);
	assert_int_equal(credits, 2);
	assert_int_equal(next_seq, 4);
	assert_false(flow_grant_due(&flow));
	assert_int_equal(push_down(&flow, 4), 0);
	assert_int_equal(push_down(&flow, 5), 0);
	assert_int_equal(push_down(&flow, 6), -EPROTO);
	for (uint64_t i = 2; i < 6; i++)
		take_down(&flow, i);
	assert_null(flow_next_down(&flow));
	flow_done(&flow);
}

static void refuses_another_seq(void **state)
{
	struct flow flow;

	(void)state;
	flow_init(&flow, 8);
	assert_int_equal(push_down(&flow, 1), -EPROTO); /* one is missing */
	assert_int_equal(push_down(&flow, 0), 0);
	assert_int_equal(push_down(&flow, 0), -EPROTO); /* again */
	assert_int_equal(push_down(&flow, 2), -EPROTO);
	assert_int_equal(push_down(&flow, UINT64_MAX), -EPROTO);
	assert_int_equal(push_down(&flow, UINT64_C(1) << 32 | 1), -EPROTO);
	assert_int_equal(push_down(&flow, 1), 0);
	take_down(&flow, 0);
	flow_done(&flow);
}

/* Whatever credits there are, a cloud that used up all of them gets more. */
static void a_grant_comes_in_time(void **state)
{
	(void)state;
	for (uint32_t credits = 1; credits <= FLOW_CREDITS_MAX; credits++) {
		struct flow flow;

		flow_init(&flow, credits);
		for (uint64_t seq = 0; seq < credits; seq++) {
			assert_int_equal(push_down(&flow, seq), 0);
			flow_pop_down(&flow);
			assert_int_equal(flow_grant_due(&flow), seq + 1 >= credits / 2);
		}
		assert_true(flow_grant_due(&flow));
		flow_done(&flow);
	}
}

static void frames_have_a_length(void **state)
{
	uint8_t data[FLOW_FRAME_MAX + 1];
	struct flow flow;
	uint64_t seq;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	flow_init(&flow, 8);
	assert_int_equal(flow_push_up(&flow, 0, data, FLOW_FRAME_MAX + 1), -EMSGSIZE);
	assert_int_equal(flow_push_up(&flow, 0, data, SIZE_MAX), -EMSGSIZE);
	expect_none_up(&flow);
	assert_int_equal(flow_push_up(&flow, 3, data, FLOW_FRAME_MAX), 0);
	assert_int_equal(flow_next_up(&flow, &seq)->len, FLOW_FRAME_MAX);
	assert_int_equal(flow_next_up(&flow, &seq)->channel, 3);
	assert_memory_equal(flow_next_up(&flow, &seq)->data, data, FLOW_FRAME_MAX);
	flow_sent_up(&flow);
	assert_int_equal(flow_push_up(&flow, 0, NULL, 0), 0);
	assert_int_equal(flow_next_up(&flow, &seq)->len, 0);

	assert_int_equal(flow_push_down(&flow, 0, 0, data, FLOW_FRAME_MAX + 1), -EMSGSIZE);
	assert_int_equal(flow_push_down(&flow, UINT8_MAX + 1, 0, data, 1), -EMSGSIZE);
	assert_null(flow_next_down(&flow));
	/* What was refused did not use up its seq. */
	assert_int_equal(flow_push_down(&flow, UINT8_MAX, 0, data, FLOW_FRAME_MAX), 0);
	assert_int_equal(flow_next_down(&flow)->len, FLOW_FRAME_MAX);
	assert_int_equal(flow_next_down(&flow)->channel, UINT8_MAX);
	assert_memory_equal(flow_next_down(&flow)->data, data, FLOW_FRAME_MAX);
	assert_int_equal(flow_push_down(&flow, 0, 1, NULL, 0), 0);
	flow_pop_down(&flow);
	assert_int_equal(flow_next_down(&flow)->len, 0);
	flow_done(&flow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_empty),
		cmocka_unit_test(credits_let_frames_go_up),
		cmocka_unit_test(frames_stay_until_they_arrived),
		cmocka_unit_test(refuses_credit_with_an_impossible_seq),
		cmocka_unit_test(refuses_too_many_credits),
		cmocka_unit_test(up_queue_is_bounded),
		cmocka_unit_test(down_queue_is_bounded),
		cmocka_unit_test(holds_between_two_marks),
		cmocka_unit_test(queues_take_little_memory),
		cmocka_unit_test(cloud_keeps_to_its_credits),
		cmocka_unit_test(refuses_another_seq),
		cmocka_unit_test(a_grant_comes_in_time),
		cmocka_unit_test(frames_have_a_length),
	};

	return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
