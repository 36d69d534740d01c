/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/budget.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "agent/util.h"

#define START_MS UINT64_C(1000000)
#define HOUR_MS	 (BUDGET_DAY_MS / 24)

static void without_a_limit(void **state)
{
	struct budget budget;

	(void)state;
	budget_init(&budget, 0, 200, START_MS);
	budget_spend(&budget, START_MS, UINT64_MAX);
	assert_true(budget_left(&budget, START_MS) == UINT64_MAX);
	assert_int_equal(budget_wait_ms(&budget, START_MS, UINT64_MAX), 0);
}

static void begins_full(void **state)
{
	struct budget budget;

	(void)state;
	budget_init(&budget, 24000, 200, START_MS);
	assert_int_equal(budget_left(&budget, START_MS), 1000);
	assert_int_equal(budget_wait_ms(&budget, START_MS, 1000), 0);
	/* It never holds more. */
	assert_int_equal(budget_left(&budget, START_MS + 100 * BUDGET_DAY_MS), 1000);
	assert_true(budget_left(&budget, UINT64_MAX) == 1000);
}

static void the_least_burst(void **state)
{
	struct budget budget;

	(void)state;
	budget_init(&budget, 1000, 128, START_MS);
	assert_int_equal(budget_left(&budget, START_MS), 128);
	budget_init(&budget, 100, 128, START_MS);
	assert_int_equal(budget_left(&budget, START_MS), 50);
	budget_init(&budget, UINT64_MAX, 128, START_MS);
	assert_int_equal(budget_left(&budget, START_MS), BUDGET_PER_DAY_MAX / 24);
}

/* The wait is as long as it takes, and no longer. */
static void waits_for_what_is_missing(void **state)
{
	static const uint64_t per_day[] = {1000, 24000, 24001, 1000003, BUDGET_PER_DAY_MAX};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(per_day); i++) {
		struct budget budget;
		uint64_t burst, wait_ms;

		budget_init(&budget, per_day[i], 200, START_MS);
		burst = budget_left(&budget, START_MS);
		budget_spend(&budget, START_MS, burst);
		assert_int_equal(budget_left(&budget, START_MS), 0);
		assert_int_equal(budget_wait_ms(&budget, START_MS, 0), 0);
		wait_ms = budget_wait_ms(&budget, START_MS, 150);
		assert_true(wait_ms > 0);
		assert_true(budget_left(&budget, START_MS + wait_ms) >= 150);
		assert_int_equal(budget_wait_ms(&budget, START_MS + wait_ms, 150), 0);
		assert_true(budget_left(&budget, START_MS + wait_ms - 1) < 150);
		assert_int_equal(budget_wait_ms(&budget, START_MS + wait_ms - 1, 150), 1);
		/* Full again after a day's 23rd part, roundings aside. */
		assert_int_equal(budget_left(&budget, START_MS + BUDGET_DAY_MS), burst);
	}
}

/* What is larger than the burst goes when that is full, and is made up for. */
static void more_than_the_burst(void **state)
{
	struct budget budget;
	uint64_t now_ms = START_MS, wait_ms;

	(void)state;
	budget_init(&budget, 24000, 200, now_ms);
	assert_int_equal(budget_wait_ms(&budget, now_ms, 72000), 0);
	budget_spend(&budget, now_ms, 72000);
	assert_int_equal(budget_left(&budget, now_ms), 0);
	wait_ms = budget_wait_ms(&budget, now_ms, 1);
	assert_true(wait_ms > 3 * BUDGET_DAY_MS && wait_ms < 4 * BUDGET_DAY_MS);
	now_ms += wait_ms;
	assert_int_equal(budget_left(&budget, now_ms), 1);
	budget_spend(&budget, now_ms, 72000);
	wait_ms = budget_wait_ms(&budget, now_ms, 72000);
	assert_int_equal(budget_left(&budget, now_ms + wait_ms), 1000);
	assert_int_equal(budget_wait_ms(&budget, now_ms + wait_ms, 72000), 0);
}

static void a_limit_can_change(void **state)
{
	struct budget budget;

	(void)state;
	budget_init(&budget, 24000, 200, START_MS);
	budget_spend(&budget, START_MS, 700);
	budget_change(&budget, 48000, 200, START_MS);
	assert_int_equal(budget_left(&budget, START_MS), 300);
	assert_int_equal(budget_left(&budget, START_MS + BUDGET_DAY_MS), 2000);
	budget_change(&budget, 2400, 100, START_MS);
	assert_int_equal(budget_left(&budget, START_MS), 100);
	budget_spend(&budget, START_MS, 50);
	budget_change(&budget, 0, 100, START_MS);
	assert_true(budget_left(&budget, START_MS) == UINT64_MAX);
	/* Without one before, nothing is known to be spent. */
	budget_change(&budget, 24000, 100, START_MS);
	assert_int_equal(budget_left(&budget, START_MS), 1000);
}

#define SPENDS 4000

/* Spends at random, greedily or not, and looks at all 24 hours that end with something spent. */
static void simulate(uint64_t per_day, uint64_t least_burst)
{
	static struct {
		uint64_t at_ms, bytes;
	} spends[SPENDS];
	uint64_t now_ms = START_MS, sum = 0, most = 0;
	struct budget budget;
	size_t first = 0;

	budget_init(&budget, per_day, least_burst, now_ms);
	for (size_t i = 0; i < SPENDS; i++) {
		uint64_t bytes = 1 + (uint64_t)random() % MAX(budget.burst, (uint64_t)1);

		if (random() % 200 == 0)
			now_ms += (uint64_t)random() % (2 * BUDGET_DAY_MS);
		else if (random() % 4 == 0)
			now_ms += (uint64_t)random() % HOUR_MS;
		now_ms += budget_wait_ms(&budget, now_ms, bytes);
		assert_true(budget_left(&budget, now_ms) >= bytes);
		budget_spend(&budget, now_ms, bytes);
		spends[i].at_ms = now_ms;
		spends[i].bytes = bytes;
		sum += bytes;
		while (spends[first].at_ms + BUDGET_DAY_MS < now_ms)
			sum -= spends[first++].bytes;
		assert_true(sum <= per_day);
		most = MAX(most, sum);
	}
	/* And it can be used. */
	assert_true(most > per_day / 10 * 9);
}

static void any_day_has_no_more(void **state)
{
	(void)state;
	srandom(3);
	simulate(1000, 128);
	simulate(5000, 128);
	simulate(24000, 128);
	simulate(999983, 128);
	simulate(BUDGET_PER_DAY_MAX, 128);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_limit),     cmocka_unit_test(begins_full),
		cmocka_unit_test(the_least_burst),     cmocka_unit_test(waits_for_what_is_missing),
		cmocka_unit_test(more_than_the_burst), cmocka_unit_test(a_limit_can_change),
		cmocka_unit_test(any_day_has_no_more),
	};

	return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}
