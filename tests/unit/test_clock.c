/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

static bool before_1970;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ts);

	if (before_1970 && clock == CLOCK_REALTIME)
		ts->tv_sec = -5;
	return r;
}

static void tells_one_moment(void **state)
{
	static const uint8_t none[16];
	struct kept_clock then, now;

	(void)state;
	clock_read(&then);
	clock_read(&now);
	assert_memory_equal(then.boot_id, now.boot_id, sizeof(now.boot_id));
	assert_memory_not_equal(now.boot_id, none, sizeof(none));
	assert_true(kept_same_boot(&then, &now));
	assert_true(then.boottime_ms > 0 && then.boottime_ms <= now.boottime_ms);
	assert_in_range(now.wall_ms, (uint64_t)(time(NULL) - 60) * 1000,
			(uint64_t)(time(NULL) + 60) * 1000);
}

static void there_is_nothing_before_1970(void **state)
{
	struct kept_clock now;

	(void)state;
	before_1970 = true;
	clock_read(&now);
	assert_int_equal(now.wall_ms, 0);
	assert_int_equal(clock_wall_ms(), 0);
	assert_true(now.boottime_ms > 0);
	before_1970 = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_one_moment),
		cmocka_unit_test(there_is_nothing_before_1970),
	};

	return cmocka_run_group_tests_name("clock", tests, NULL, NULL);
}
