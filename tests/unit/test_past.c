/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/past.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

/* Session `id`; what is said of it follows from that. */
static void add(struct past *past, uint32_t id)
{
	char reason[32];
	struct session_status status = {
		.id = id,
		.state = SESSION_STATE_ENDED,
		.timing = {.begun_ms = id, .ended_ms = 2 * (uint64_t)id},
		.frames_up = id,
		.reason = reason,
	};

	snprintf(reason, sizeof(reason), "reason %u", id);
	past_add(past, &status);
	memset(reason, 'x', sizeof(reason)); /* it was copied */
}

struct expected {
	uint32_t next;
	unsigned n;
};

static void check(void *userdata, const struct session_status *status)
{
	struct expected *expected = userdata;
	char reason[32];

	snprintf(reason, sizeof(reason), "reason %u", expected->next);
	assert_int_equal(status->id, expected->next);
	assert_int_equal(status->frames_up, expected->next);
	assert_true(status->timing.ended_ms == 2 * (uint64_t)expected->next);
	assert_string_equal(status->reason, reason);
	expected->next--;
	expected->n++;
}

/* These n, newest first. */
static void expect(const struct past *past, uint32_t newest, unsigned n)
{
	struct expected expected = {.next = newest};

	past_each(past, check, &expected);
	assert_int_equal(expected.n, n);
}

static void remembers_the_newest(void **state)
{
	static struct past past;

	(void)state;
	expect(&past, 0, 0);
	for (uint32_t id = 1; id <= 5 * PAST_MAX / 2; id++) {
		add(&past, id);
		expect(&past, id, MIN(id, PAST_MAX));
	}
}

static void keeps_a_long_reason(void **state)
{
	struct past past = {0};
	char reason[MESSAGE_REASON_MAX + 1];
	struct session_status status = {.reason = reason};

	(void)state;
	memset(reason, 'r', MESSAGE_REASON_MAX);
	reason[MESSAGE_REASON_MAX] = '\0';
	past_add(&past, &status);
	assert_string_equal(past.sessions[0].reason, reason);
}

static void says_what_became_of_it(void **state)
{
	static const struct {
		struct session_status status;
		const char *expected;
	} cases[] = {
		{{.was_up = true}, "served"},
		{{.was_up = true, .broken = true}, "broken"},
		{{.broken = true}, "broken"},
		{{.was_up = true, .failed = true}, "failed"},
		{{.was_up = true, .failed = true, .broken = true}, "failed"},
		{{.failed = true}, "failed"},
		{{.was_connected = true}, "given-up"},
		{{.was_up = false}, "given-up"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(session_result_name(session_get_result(&cases[i].status)),
				    cases[i].expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(remembers_the_newest),
		cmocka_unit_test(keeps_a_long_reason),
		cmocka_unit_test(says_what_became_of_it),
	};

	return cmocka_run_group_tests_name("past", tests, NULL, NULL);
}
