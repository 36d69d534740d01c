/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

#define HEAD 4 /* bytes that a frame counts in addition, in FLOW_UP_MAX */

/* Frame `number`: its length and all its bytes follow from that. Returns the length. */
static size_t make_frame(uint32_t number, uint8_t ret[FLOW_FRAME_MAX])
{
	uint32_t hash = number * UINT32_C(2654435761);
	size_t len = (hash >> 16) % (FLOW_FRAME_MAX + 1);

	for (size_t i = 0; i < len; i++)
		ret[i] = (uint8_t)(hash + i);
	return len;
}

static int push_up(struct flow *flow, uint32_t number)
{
	uint8_t data[FLOW_FRAME_MAX];
	size_t len = make_frame(number, data);

	return flow_push_up(flow, number & 1, data, len);
}

static int push_down(struct flow *flow, uint64_t seq)
{
	uint8_t data[FLOW_FRAME_MAX];
	size_t len = make_frame((uint32_t)seq, data);

	return flow_push_down(flow, (unsigned)seq & 1, seq, data, len);
}

static void check_frame(const struct flow_frame *frame, uint32_t number)
{
	uint8_t data[FLOW_FRAME_MAX];
	size_t len = make_frame(number, data);

	assert_non_null(frame);
	assert_int_equal(frame->channel, number & 1);
	assert_int_equal(frame->len, len);
	if (len > 0)
		assert_memory_equal(frame->data, data, len);
}

static void starts_empty(void **state)
{
	struct flow flow;
	uint64_t seq = 99;

	(void)state;
	memset(&flow, 0xaa, sizeof(flow));
	flow_init(&flow, FLOW_CREDITS_DEFAULT);
	assert_null(flow_next_up(&flow, &seq));
	assert_int_equal(seq, 99);
	assert_null(flow_next_down(&flow));
	assert_true(flow_up_empty(&flow));
	assert_false(flow_grant_due(&flow));
	flow_done(&flow);
}

/* As many as there are credits go to the cloud, in order, and the rest when it grants more. */
static void credits_let_frames_go_up(void **state)
{
	struct flow flow;
	uint64_t seq;

	(void)state;
	flow_init(&flow, 4);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(push_up(&flow, i), 0);
	for (uint32_t i = 0; i < 4; i++) {
		check_frame(flow_next_up(&flow, &seq), i);
		check_frame(flow_next_up(&flow, &seq), i); /* it stays until it was sent */
		assert_int_equal(seq, i);
		flow_pop_up(&flow);
	}
	assert_null(flow_next_up(&flow, &seq));
	assert_false(flow_up_empty(&flow)); /* they wait for credit */
	assert_int_equal(flow_credit(&flow, 0, 4), 0);
	assert_null(flow_next_up(&flow, &seq));
	assert_int_equal(flow_credit(&flow, 1, 2), 0);
	check_frame(flow_next_up(&flow, &seq), 4);
	assert_int_equal(seq, 4);
	flow_pop_up(&flow);
	assert_null(flow_next_up(&flow, &seq));
	assert_int_equal(flow_credit(&flow, 100, 5), 0);
	for (uint32_t i = 5; i < 10; i++) {
		check_frame(flow_next_up(&flow, &seq), i);
		assert_int_equal(seq, i);
		flow_pop_up(&flow);
	}
	assert_null(flow_next_up(&flow, &seq));
	flow_done(&flow);
}

/* CREDIT cannot confirm what was never sent. */
static void refuses_credit_for_the_future(void **state)
{
	struct flow flow;
	uint64_t seq;

	(void)state;
	flow_init(&flow, 1);
	assert_int_equal(flow_credit(&flow, 5, 1), -EPROTO);
	assert_int_equal(flow_credit(&flow, 5, UINT64_MAX), -EPROTO);
	assert_int_equal(flow_credit(&flow, 0, 0), 0);
	assert_int_equal(push_up(&flow, 0), 0);
	assert_int_equal(flow_credit(&flow, 5, 1), -EPROTO); /* waits, not sent */
	assert_non_null(flow_next_up(&flow, &seq));
	flow_pop_up(&flow);
	/* None of the refused credits counted. */
	assert_int_equal(push_up(&flow, 1), 0);
	assert_null(flow_next_up(&flow, &seq));
	assert_int_equal(flow_credit(&flow, 1, 1), 0);
	assert_non_null(flow_next_up(&flow, &seq));
	flow_done(&flow);
}

/* The cloud may grant any number, as often as it likes. */
static void credits_do_not_wrap(void **state)
{
	struct flow flow;
	uint64_t seq;

	(void)state;
	flow_init(&flow, 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(flow_credit(&flow, UINT32_MAX, 0), 0);
	for (uint32_t i = 0; i < 1000; i++) {
		assert_int_equal(push_up(&flow, i), 0);
		check_frame(flow_next_up(&flow, &seq), i);
		assert_int_equal(seq, i);
		flow_pop_up(&flow);
	}
	flow_done(&flow);
}

/* FLOW_UP_MAX bytes and not one more, however long the frames are. */
static void up_queue_is_bounded(void **state)
{
	static const size_t lengths[] = {0, 2, 60, 510, FLOW_FRAME_MAX};
	static const uint8_t data[FLOW_FRAME_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		size_t room = lengths[i] + HEAD, n = FLOW_UP_MAX / room, left = FLOW_UP_MAX % room;
		struct flow flow;
		uint64_t seq;

		flow_init(&flow, 1);
		for (size_t k = 0; k < n; k++)
			assert_int_equal(flow_push_up(&flow, 0, data, lengths[i]), 0);
		assert_int_equal(flow_push_up(&flow, 1, data, lengths[i]), -ENOBUFS);
		/* A shorter one that takes what is left, to the last byte. */
		if (left >= HEAD)
			assert_int_equal(flow_push_up(&flow, 0, data, left - HEAD), 0);
		assert_int_equal(flow_push_up(&flow, 1, data, 0), -ENOBUFS);
		assert_int_equal(flow.up.size, FLOW_UP_MAX);
		/* One that goes makes room for one. */
		assert_non_null(flow_next_up(&flow, &seq));
		flow_pop_up(&flow);
		assert_int_equal(flow_push_up(&flow, 0, data, lengths[i]), 0);
		assert_int_equal(flow_push_up(&flow, 1, data, 0), -ENOBUFS);
		/* What was refused is not in it. */
		flow_credit(&flow, UINT32_MAX, 0);
		for (size_t k = 1; flow_next_up(&flow, &seq); k++) {
			assert_int_equal(seq, k);
			assert_int_equal(flow_next_up(&flow, &seq)->channel, 0);
			flow_pop_up(&flow);
		}
		assert_true(flow_up_empty(&flow));
		assert_int_equal(flow.up_seq, n + 1 + (left >= HEAD));
		flow_done(&flow);
	}
}

/* A queue in which few frames wait does not grow, and one that was long is small again. */
static void queues_take_little_memory(void **state)
{
	struct flow flow;
	uint64_t seq;

	(void)state;
	flow_init(&flow, 2);
	assert_int_equal(flow.up.size + flow.down.size, 0);
	flow_credit(&flow, UINT32_MAX, 0);
	assert_int_equal(push_up(&flow, 0), 0);
	for (uint32_t i = 1; i < 10000; i++) {
		assert_int_equal(push_up(&flow, i), 0);
		check_frame(flow_next_up(&flow, &seq), i - 1);
		flow_pop_up(&flow);
		assert_true(flow.up.size <= 4096);
	}
	for (uint32_t i = 10000; i < 10300; i++)
		assert_int_equal(push_up(&flow, i), 0);
	assert_true(flow.up.size > 65536);
	while (flow_next_up(&flow, &seq))
		flow_pop_up(&flow);
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
	check_frame(flow_next_down(&flow), 0);
	flow_pop_down(&flow);
	assert_false(flow_grant_due(&flow));
	assert_int_equal(push_down(&flow, 4), -EPROTO); /* taken, but not granted */
	check_frame(flow_next_down(&flow), 1);
	flow_pop_down(&flow);
	assert_true(flow_grant_due(&flow));
	flow_grant(&flow, &credits, &next_seq);
	assert_int_equal(credits, 2);
	assert_int_equal(next_seq, 4);
	assert_false(flow_grant_due(&flow));
	assert_int_equal(push_down(&flow, 4), 0);
	assert_int_equal(push_down(&flow, 5), 0);
	assert_int_equal(push_down(&flow, 6), -EPROTO);
	for (uint32_t i = 2; i < 6; i++) {
		check_frame(flow_next_down(&flow), i);
		flow_pop_down(&flow);
	}
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
	check_frame(flow_next_down(&flow), 0);
	flow_done(&flow);
}

/* Exactly FLOW_CREDITS_MAX frames fit, round and round the queue. */
static void most_credits(void **state)
{
	struct flow flow;
	uint64_t seq = 0, taken = 0;

	(void)state;
	flow_init(&flow, FLOW_CREDITS_MAX);
	for (unsigned i = 0; i < FLOW_CREDITS_MAX; i++)
		assert_int_equal(push_down(&flow, seq++), 0);
	assert_int_equal(push_down(&flow, seq), -EPROTO);
	for (unsigned round = 0; round < 300; round++) {
		uint32_t credits;
		uint64_t next_seq;

		/* A number that FLOW_CREDITS_MAX is no multiple of. */
		for (unsigned i = 0; i < 45; i++) {
			check_frame(flow_next_down(&flow), (uint32_t)taken++);
			flow_pop_down(&flow);
		}
		assert_true(flow_grant_due(&flow));
		flow_grant(&flow, &credits, &next_seq);
		assert_int_equal(credits, 45);
		assert_int_equal(next_seq, seq);
		for (unsigned i = 0; i < 45; i++)
			assert_int_equal(push_down(&flow, seq++), 0);
		assert_int_equal(push_down(&flow, seq), -EPROTO);
	}
	for (unsigned i = 0; i < FLOW_CREDITS_MAX; i++) {
		check_frame(flow_next_down(&flow), (uint32_t)taken++);
		flow_pop_down(&flow);
	}
	assert_null(flow_next_down(&flow));
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
	assert_null(flow_next_up(&flow, &seq));
	assert_int_equal(flow_push_up(&flow, 3, data, FLOW_FRAME_MAX), 0);
	assert_int_equal(flow_next_up(&flow, &seq)->len, FLOW_FRAME_MAX);
	assert_int_equal(flow_next_up(&flow, &seq)->channel, 3);
	assert_memory_equal(flow_next_up(&flow, &seq)->data, data, FLOW_FRAME_MAX);
	flow_pop_up(&flow);
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

static size_t room_of(uint32_t number)
{
	uint8_t data[FLOW_FRAME_MAX];

	return (make_frame(number, data) + HEAD) & ~(size_t)1;
}

/* Both directions against counters, in random order; the cloud is at times slow and at times fast,
 * so that the queue towards it fills up and empties again and again. */
static void random_traffic(void **state)
{
	struct flow flow;
	uint32_t up_in = 0, up_out = 0, down_in = 0, down_out = 0, full = 0, emptied = 0;
	uint64_t up_allowed = 5, down_allowed = 5;
	size_t waiting = 0;

	(void)state;
	srandom(1);
	flow_init(&flow, 5);
	for (unsigned i = 0; i < 200000; i++) {
		bool slow = i / 10000 % 2 == 0;
		uint64_t seq;
		uint32_t credits;
		size_t room;

		switch (random() % 6) {
		case 0:
			room = room_of(up_in);
			if (waiting + room > FLOW_UP_MAX) {
				assert_int_equal(push_up(&flow, up_in), -ENOBUFS);
				full++;
				break;
			}
			assert_int_equal(push_up(&flow, up_in++), 0);
			waiting += room;
			break;
		case 1:
			for (unsigned n = slow ? 1 : 8; n > 0; n--) {
				assert_int_equal(flow_up_empty(&flow), up_out == up_in);
				if (!flow_next_up(&flow, &seq)) {
					assert_true(up_out == up_in || up_out == up_allowed);
					emptied += up_out == up_in;
					break;
				}
				assert_true(seq == up_out && up_out < up_allowed);
				check_frame(flow_next_up(&flow, &seq), up_out);
				waiting -= room_of(up_out++);
				flow_pop_up(&flow);
			}
			break;
		case 2:
			credits = slow ? random() % 8 == 0 : (uint32_t)random() % 9;
			assert_int_equal(flow_credit(&flow, credits, up_out), 0);
			up_allowed += credits;
			break;
		case 3:
			assert_int_equal(push_down(&flow, down_in),
					 down_in < down_allowed ? 0 : -EPROTO);
			down_in += down_in < down_allowed;
			break;
		case 4:
			if (!flow_next_down(&flow)) {
				assert_int_equal(down_in, down_out);
				break;
			}
			check_frame(flow_next_down(&flow), down_out++);
			flow_pop_down(&flow);
			break;
		default:
			if (!flow_grant_due(&flow))
				break;
			flow_grant(&flow, &credits, &seq);
			down_allowed += credits;
			assert_int_equal(seq, down_in);
			assert_int_equal(down_allowed, down_out + 5);
		}
		assert_int_equal(flow.up.tail - flow.up.head, waiting);
		assert_true(flow.up.size <= FLOW_UP_MAX);
	}
	assert_true(up_out > 10000 && down_out > 10000 && full > 100 && emptied > 100);
	flow_done(&flow);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_empty),
		cmocka_unit_test(credits_let_frames_go_up),
		cmocka_unit_test(refuses_credit_for_the_future),
		cmocka_unit_test(credits_do_not_wrap),
		cmocka_unit_test(up_queue_is_bounded),
		cmocka_unit_test(queues_take_little_memory),
		cmocka_unit_test(cloud_keeps_to_its_credits),
		cmocka_unit_test(refuses_another_seq),
		cmocka_unit_test(most_credits),
		cmocka_unit_test(a_grant_comes_in_time),
		cmocka_unit_test(frames_have_a_length),
		cmocka_unit_test(random_traffic),
	};

	return cmocka_run_group_tests_name("flow", tests, NULL, NULL);
}
