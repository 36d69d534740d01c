/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/util.h"

/* The smallest and the largest wait, and the one in the middle. */
static void stays_within_the_ceiling(void **state)
{
	struct backoff low, high, middle;
	uint32_t ceiling = 1000;

	(void)state;
	backoff_init(&low, 1000, 300000);
	backoff_init(&high, 1000, 300000);
	backoff_init(&middle, 1000, 300000);
	for (unsigned i = 0; i < 40; i++) {
		assert_int_equal(backoff_next(&low, 0), 0);
		assert_int_equal(backoff_next(&high, UINT32_MAX), ceiling);
		assert_int_equal(backoff_next(&middle, UINT32_C(1) << 31), ceiling / 2);
		ceiling = MIN(2 * ceiling, 300000);
	}
}

/* 1 s, 2 s, 4 s, ... 256 s, 300 s: where doubling would pass the longest, it is the longest. */
static void doubles_up_to_the_longest(void **state)
{
	static const uint32_t ceilings[] = {1000,  2000,   4000,   8000,   16000,  32000,
					    64000, 128000, 256000, 300000, 300000, 300000};
	struct backoff backoff;

	(void)state;
	backoff_init(&backoff, 1000, 300000);
	for (size_t i = 0; i < ARRAY_SIZE(ceilings); i++)
		assert_int_equal(backoff_next(&backoff, UINT32_MAX), ceilings[i]);
}

static void starts_over(void **state)
{
	struct backoff backoff;

	(void)state;
	backoff_init(&backoff, 500, 8000);
	for (unsigned i = 0; i < 10; i++)
		backoff_next(&backoff, 0);
	assert_int_equal(backoff_next(&backoff, UINT32_MAX), 8000);
	backoff_reset(&backoff);
	assert_int_equal(backoff_next(&backoff, UINT32_MAX), 500);
	assert_int_equal(backoff_next(&backoff, UINT32_MAX), 1000);
}

static void longest_is_in_the_upper_half(void **state)
{
	static const uint32_t longest[] = {1, 2, 3, 999, 300000, UINT32_MAX - 1, UINT32_MAX};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(longest); i++) {
		struct backoff backoff;

		backoff_init(&backoff, 1, longest[i]);
		assert_int_equal(backoff_longest(&backoff, 0), longest[i] / 2);
		assert_int_equal(backoff_longest(&backoff, UINT32_MAX), longest[i]);
		for (unsigned n = 0; n < 100; n++) {
			uint32_t random, wait;

			util_random(&random, sizeof(random));
			wait = backoff_longest(&backoff, random);
			assert_true(wait >= longest[i] / 2 && wait <= longest[i]);
		}
		/* What comes after it is not short either. */
		assert_int_equal(backoff_next(&backoff, UINT32_MAX), longest[i]);
		backoff_reset(&backoff);
		assert_int_equal(backoff_next(&backoff, UINT32_MAX), 1);
	}
}

/* The ends of the range: nothing wraps. */
static void extremes(void **state)
{
	struct backoff backoff;

	(void)state;
	backoff_init(&backoff, 1, 1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(backoff_next(&backoff, UINT32_MAX), 1);
	backoff_init(&backoff, UINT32_MAX, UINT32_MAX);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(backoff_next(&backoff, UINT32_MAX), UINT32_MAX);
	backoff_init(&backoff, 1, UINT32_MAX);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(backoff_next(&backoff, UINT32_MAX), UINT32_C(1) << i);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(backoff_next(&backoff, UINT32_MAX), UINT32_MAX);
}

/* Full jitter: each quarter of the range is hit about as often. */
static void waits_are_spread(void **state)
{
	unsigned quarters[4] = {0};

	(void)state;
	for (uint32_t i = 0; i < 4000; i++) {
		struct backoff backoff;
		uint32_t wait;

		backoff_init(&backoff, 1000, 1000);
		wait = backoff_next(&backoff, i * (UINT32_MAX / 4000));
		quarters[MIN(wait / 250, 3)]++;
	}
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(quarters[i], 990, 1010);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stays_within_the_ceiling),
		cmocka_unit_test(doubles_up_to_the_longest),
		cmocka_unit_test(starts_over),
		cmocka_unit_test(longest_is_in_the_upper_half),
		cmocka_unit_test(extremes),
		cmocka_unit_test(waits_are_spread),
	};

	return cmocka_run_group_tests_name("backoff", tests, NULL, NULL);
}
