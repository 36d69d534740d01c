/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/timing.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void tell(void *userdata, const char *name, uint64_t ms)
{
	char *text = userdata;
	size_t len = strlen(text);

	snprintf(text + len, 256 - len, "%s %" PRIu64 "\n", name, ms);
}

static void expect(const struct timing *timing, const char *expected)
{
	char text[256] = "";

	timing_each(timing, tell, text);
	assert_string_equal(text, expected);
}

static void says_what_has_come(void **state)
{
	struct timing timing = {.begun_ms = 1000};

	(void)state;
	expect(&timing, "");
	timing.connected_ms = 1300;
	expect(&timing, "connect_ms 300\n");
	timing.open_ms = 1350;
	expect(&timing, "connect_ms 300\ndiscover_ms 50\n");
	timing.first_frame_ms = 1361;
	timing.first_answer_ms = 1761;
	expect(&timing, "connect_ms 300\ndiscover_ms 50\nfirst_frame_ms 361\n"
			"first_answer_ms 761\n");
	timing.ended_ms = 61000;
	expect(&timing, "connect_ms 300\ndiscover_ms 50\nfirst_frame_ms 361\n"
			"first_answer_ms 761\ntotal_ms 60000\n");
}

static void says_nothing_of_what_never_came(void **state)
{
	static const struct timing never_connected = {.begun_ms = 1, .ended_ms = 20001};
	static const struct timing never_open = {
		.begun_ms = 1, .connected_ms = 2, .ended_ms = 10002};
	static const struct timing never_answered = {
		.begun_ms = 1, .connected_ms = 2, .open_ms = 4, .first_frame_ms = 4, .ended_ms = 9};

	(void)state;
	expect(&never_connected, "total_ms 20000\n");
	expect(&never_open, "connect_ms 1\ntotal_ms 10001\n");
	expect(&never_answered, "connect_ms 1\ndiscover_ms 2\nfirst_frame_ms 3\ntotal_ms 8\n");
}

/* All in one millisecond is not the same as never. */
static void says_zero(void **state)
{
	static const struct timing at_once = {7, 7, 7, 7, 7, 7};

	(void)state;
	expect(&at_once, "connect_ms 0\ndiscover_ms 0\nfirst_frame_ms 0\nfirst_answer_ms 0\n"
			 "total_ms 0\n");
}

/* While the second channel is waited for. */
static void a_frame_may_come_before_all_is_open(void **state)
{
	static const struct timing timing = {
		.begun_ms = 100, .connected_ms = 200, .open_ms = 2300, .first_frame_ms = 310};

	(void)state;
	expect(&timing, "connect_ms 100\ndiscover_ms 2100\nfirst_frame_ms 210\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_has_come),
		cmocka_unit_test(says_nothing_of_what_never_came),
		cmocka_unit_test(says_zero),
		cmocka_unit_test(a_frame_may_come_before_all_is_open),
	};

	return cmocka_run_group_tests_name("timing", tests, NULL, NULL);
}
