/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/retry_after.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "agent/util.h"

#define DATE "Sun, 06 Nov 1994 08:49:37 GMT" /* RFC 9110, section 5.6.7 */

static void reads_what_there_is(void **state)
{
	static const struct {
		const char *value, *date;
		uint32_t expected;
	} cases[] = {
		{"0", NULL, 0},
		{"120", NULL, 120},
		{"3600", DATE, 3600},
		{"3601", NULL, 3600},
		{"99999999999999999999999", NULL, 3600},
		{"", NULL, 0},
		{"-1", NULL, 0},
		{"1.5", NULL, 0},
		{"soon", NULL, 0},
		{"Sun, 06 Nov 1994 08:50:37 GMT", DATE, 60},
		{"Mon, 07 Nov 1994 08:49:37 GMT", DATE, 3600},
		{DATE, DATE, 0},
		{"Sun, 06 Nov 1994 08:49:36 GMT", DATE, 0}, /* in the past */
		{"Sun, 06 Nov 1994 08:50:37 GMT", NULL, 0}, /* the hub's clock may be anything */
		{"Sun, 06 Nov 1994 08:50:37 GMT", "yesterday", 0},
		{"Sun, 06 Nov 1994 08:50:37 GMT x", DATE, 0},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint32_t s = retry_after_parse(cases[i].value, cases[i].date);

		if (s != cases[i].expected)
			fail_msg("%s: %u instead of %u", cases[i].value, s, cases[i].expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_there_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
