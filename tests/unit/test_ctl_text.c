/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void tells_durations(void **state)
{
	static const struct {
		double s;
		const char *expected;
	} cases[] = {
		{0, "0.0 s"},
		{9.94, "9.9 s"},
		{9.96, "10 s"},
		{99.4, "99 s"},
		{99.6, "2 min"},
		{3600, "60 min"},
		{5969, "99 min"},
		{5971, "2 h"},
		{47 * 3600, "47 h"},
		{172800, "2 d"},
		{9999.0 * 86400, "9999 d"},
	};
	char t[CTL_SHORT];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(ctl_duration(cases[i].s, t), cases[i].expected);
	assert_string_equal(ctl_ago(12, t), "12 s ago");
	assert_true(strlen(ctl_duration(1e300, t)) < CTL_SHORT);
	assert_true(strlen(ctl_ago(1e300, t)) < CTL_SHORT);
}

static void counts_in_five_characters(void **state)
{
	static const struct {
		int64_t n;
		const char *expected;
	} cases[] = {
		{0, "0"},
		{99999, "99999"},
		{100000, "100k"},
		{999499, "999k"},
		{999500, "1.0M"},
		{12345678, "12.3M"},
		{123456789012, "123G"},
		{999499999999999, "999T"},
		{INT64_MAX, "9223372T"},
	};
	char t[CTL_SHORT];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_string_equal(ctl_count(cases[i].n, t), cases[i].expected);
}

static void counts_days(void **state)
{
	int64_t days = 0;

	(void)state;
	assert_true(ctl_days("2026-11-23T20:45:10.123Z", "2027-11-22T18:32:22Z", &days));
	assert_int_equal(days, 363);
	assert_true(ctl_days("2026-11-23T20:45:10.123Z", "2026-11-21T20:45:10Z", &days));
	assert_int_equal(days, -2);
	assert_false(ctl_days("", "2026-11-21T20:45:10Z", &days));
	assert_false(ctl_days("2026-11-21T20:45:10Z", "soon", &days));
}

static void takes_what_is_absent_for_nothing(void **state)
{
	struct json_object *o = json_tokener_parse(
		"{\"text\":\"a\\u001bb\",\"list\":[1],\"device_url\":\"https://blecon.dev/x\"}");

	(void)state;
	assert_string_equal(ctl_text(o, "text"), "a?b");
	assert_string_equal(ctl_text(o, "none"), "");
	assert_string_equal(ctl_text(NULL, "none"), "");
	assert_int_equal(ctl_number(ctl_get(o, "none"), "none"), 0);
	assert_int_equal(ctl_length(ctl_get(o, "list")), 1);
	assert_int_equal(ctl_length(ctl_get(o, "text")), 0);
	assert_int_equal(ctl_length(NULL), 0);
	assert_string_equal(ctl_device_id(o), "x");
	assert_string_equal(ctl_device_id(NULL), "");
	json_object_put(o);
}

static void breaks_lines(void **state)
{
	static const struct {
		const char *text;
		size_t columns;
		int indent;
		const char *expected;
	} cases[] = {
		{"", 10, 2, "\n"},
		{"one two", SIZE_MAX, 2, "one two\n"},
		{"one two", 7, 2, "one two\n"},
		{"one two", 6, 2, "one\n  two\n"},
		{"one   two  ", 5, 2, "one\n  two\n"},
		{"one two three four", 10, 4, "one two\n    three\n    four\n"},
		/* Too long for any line, and not moved away from its heading. */
		{"url 0123456789", 8, 4, "url 0123\n    4567\n    89\n"},
		{"xy \xe6\x9d\xb1\xe4\xba\xac", 5, 1, "xy\n \xe6\x9d\xb1\xe4\xba\xac\n"},
		/* No room beside the indent: it ends all the same. */
		{"abcdef", 3, 8, "abcdef\n"},
		{"abcdef ghi", 0, 2, "abcd\n  ef\n  gh\n  i\n"},
	};
	char *text = NULL;
	size_t len;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ctl_page page = {open_memstream(&text, &len), cases[i].columns};

		assert_non_null(page.out);
		ctl_line(&page, cases[i].indent, "%s", cases[i].text);
		fclose(page.out);
		assert_string_equal(text, cases[i].expected);
		free(text);
	}
}

static void joins_the_pieces_of_a_row(void **state)
{
	char *text = NULL;
	size_t len;
	struct ctl_page page = {open_memstream(&text, &len), 80};
	struct ctl_row row = {0};

	(void)state;
	ctl_row_end(&row, &page, 0);
	ctl_row_add(&row, "  ");
	ctl_row_end(&row, &page, 0);
	ctl_row_add(&row, "  ");
	ctl_row_list(&row, "%d", 1);
	ctl_row_list(&row, "%d", 2);
	ctl_row_add(&row, "!");
	ctl_row_end(&row, &page, 0);
	assert_null(row.text);
	fclose(page.out);
	assert_string_equal(text, "  1, 2!\n");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_durations),
		cmocka_unit_test(counts_in_five_characters),
		cmocka_unit_test(counts_days),
		cmocka_unit_test(takes_what_is_absent_for_nothing),
		cmocka_unit_test(breaks_lines),
		cmocka_unit_test(joins_the_pieces_of_a_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
