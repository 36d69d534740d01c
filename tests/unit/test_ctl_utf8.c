/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

static void cleans_what_a_terminal_acts_on(void **state)
{
	static const struct {
		const char *text, *expected;
	} cases[] = {
		{"", ""},
		{"plain ~ text", "plain ~ text"},
		{"\x1b[2J\x07\t\r\n\x7f", "?[2J?????"},
		{"caf\xc3\xa9 \xe6\x9d\xb1 \xf0\x9f\x98\x80",
		 "caf\xc3\xa9 \xe6\x9d\xb1 \xf0\x9f\x98\x80"},
		{"\xc2\x9b"
		 "31m",
		 "??31m"}, /* CSI in one character */
		{"a\xe2\x80\xaez\xe2\x81\xa6", "a???z???"}, /* right to left */
		{"\xe2\x80\xa8|\xd8\x9c", "???|??"},
		{"\xff|\xc3|\xc0\x80|\xed\xa0\x80|\xf5\x80\x80\x80",
		 "?|?|??|???|????"}, /* no UTF-8 */
		{"cut \xe6\x9d", "cut ??"},
		{"cut \xf0\x9f\x98", "cut ???"},
	};
	char text[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		snprintf(text, sizeof(text), "%s", cases[i].text);
		ctl_utf8_clean(text);
		assert_string_equal(text, cases[i].expected);
	}
}

static void fits_whole_characters(void **state)
{
	static const struct {
		const char *text;
		size_t columns, expected;
	} cases[] = {
		{"abc", 0, 0},
		{"abc", 2, 2},
		{"abc", 3, 3},
		{"abc", SIZE_MAX, 3},
		{"caf\xc3\xa9s", 4, 5},
		{"caf\xc3\xa9s", 3, 3},
		{"\xe6\x9d\xb1\xe4\xba\xac", 3, 3}, /* two columns each */
		{"\xe6\x9d\xb1\xe4\xba\xac", 4, 6},
		{"\xf0\x9f\x98\x80!", 2, 4},
		{"e\xcc\x81x", 1, 3}, /* a combining accent takes none */
		{"\xff\xff", 1, 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(ctl_utf8_fit(cases[i].text, cases[i].columns), cases[i].expected);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cleans_what_a_terminal_acts_on),
		cmocka_unit_test(fits_whole_characters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
