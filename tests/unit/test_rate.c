/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "agent/util.h"

#define START_MS UINT64_C(34560000123) /* the clock is far ahead, and on no full second */

static void nothing_happened(void **state)
{
	const struct rate rate = {0};

	(void)state;
	assert_int_equal(rate_tenths(&rate, START_MS), 0);
}

/* Five a second are fifty tenths, at any time after ten seconds. */
static void a_steady_rate(void **state)
{
	struct rate rate = {0};

	(void)state;
	for (uint64_t ms = 0; ms < 30000; ms += 200) {
		rate_add(&rate, START_MS + ms);
		if (ms >= 11000)
			assert_int_equal(rate_tenths(&rate, START_MS + ms), 50);
	}
}

/* A second counts once it is full, and for ten seconds. */
static void a_single_event(void **state)
{
	struct rate rate = {0};

	(void)state;
	rate_add(&rate, START_MS);
	assert_int_equal(rate_tenths(&rate, START_MS + 999), 0);
	assert_int_equal(rate_tenths(&rate, START_MS + 1000), 1);
	assert_int_equal(rate_tenths(&rate, START_MS + 10999), 1);
	assert_int_equal(rate_tenths(&rate, START_MS + 11000), 0);
	assert_int_equal(rate_tenths(&rate, START_MS + 1000000000), 0);
}

/* Old seconds do not come back, however long nothing happened. */
static void after_a_pause(void **state)
{
	static const uint64_t pauses_ms[] = {9000, 10000, 11000, 12000, 86400000};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(pauses_ms); i++) {
		struct rate rate = {0};
		uint64_t again_ms = START_MS + pauses_ms[i];

		for (int n = 0; n < 7; n++)
			rate_add(&rate, START_MS);
		rate_add(&rate, again_ms);
		assert_int_equal(rate_tenths(&rate, again_ms), pauses_ms[i] <= 10000 ? 7 : 0);
		assert_int_equal(rate_tenths(&rate, again_ms + 2000), 1);
	}
}

/* Whatever comes when: what was counted is what a list of all events has. */
static void agrees_with_a_list(void **state)
{
	static uint64_t times[20000];
	struct rate rate = {0};
	uint64_t now_ms = START_MS;
	size_t n = 0, first = 0;

	(void)state;
	srandom(5);
	while (n < ARRAY_SIZE(times)) {
		uint64_t begun_ms;
		size_t expected = 0;

		now_ms += (uint64_t)random() % (random() % 50 == 0 ? 5000 : 100);
		rate_add(&rate, now_ms);
		times[n++] = now_ms;
		/* The window ends where the second under way has begun. */
		begun_ms = rate.end_ms - 1000;
		while (times[first] + 10000 < begun_ms)
			first++;
		for (size_t i = first; i < n; i++)
			expected += times[i] < begun_ms && times[i] + 10000 >= begun_ms;
		assert_int_equal(rate_tenths(&rate, now_ms), expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_happened),   cmocka_unit_test(a_steady_rate),
		cmocka_unit_test(a_single_event),     cmocka_unit_test(after_a_pause),
		cmocka_unit_test(agrees_with_a_list),
	};

	return cmocka_run_group_tests_name("rate", tests, NULL, NULL);
}
