/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/recent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

#define HEAD_MAX 16 /* bytes a line may take besides its text */

/* What there is: line `number` has a text of a length that follows from it, and the number at its
 * end. */
struct seen {
	unsigned n, first, next;
	size_t bytes;
};

static size_t length_of(unsigned number, size_t max)
{
	return 10 + number * 2654435761u % (max - 10 + 1);
}

static void add(struct recent *recent, unsigned number, size_t max)
{
	char text[RECENT_TEXT + 1];
	const struct recent_line line = {-1000 + (int64_t)number, number % 4, number % 10, text};

	snprintf(text, sizeof(text), "%0*u", (int)length_of(number, max), number);
	recent_add(recent, &line);
}

static void on_line(void *userdata, const struct recent_line *line)
{
	struct seen *seen = userdata;
	unsigned number = (unsigned)(line->wall_ms + 1000);

	if (seen->n++ == 0)
		seen->first = number;
	else
		assert_int_equal(number, seen->next);
	seen->next = number + 1;
	seen->bytes += strlen(line->text);
	assert_int_equal(line->level, number % 4);
	assert_int_equal(strtoul(line->text, NULL, 10), number);
}

static struct seen look(const struct recent *recent)
{
	struct seen seen = {0};

	recent_each(recent, on_line, &seen);
	return seen;
}

static void holds_the_last_lines(void **state)
{
	static const size_t longest[] = {10, 100, RECENT_TEXT};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(longest); i++) {
		struct recent *recent = calloc(1, sizeof(*recent));

		assert_non_null(recent);
		assert_int_equal(look(recent).n, 0);
		for (unsigned number = 0; number < 5000; number++) {
			struct seen seen;

			add(recent, number, longest[i]);
			if (number % 7 != 0)
				continue;
			seen = look(recent);
			assert_int_equal(seen.next, number + 1);
			assert_true(seen.bytes <= RECENT_BYTES);
			/* None went without need. */
			if (seen.first > 0)
				assert_true(seen.bytes + seen.n * HEAD_MAX + RECENT_TEXT +
						    HEAD_MAX >
					    RECENT_BYTES);
		}
		free(recent);
	}
}

static void on_long_line(void *userdata, const struct recent_line *line)
{
	strcpy(userdata, line->text);
}

static void long_lines_are_cut_off(void **state)
{
	struct recent *recent = calloc(1, sizeof(*recent));
	char text[3000], ret[sizeof(text)];
	const struct recent_line line = {0, LOG_LEVEL_INFO, LOG_EVENT_NONE, text};

	(void)state;
	assert_non_null(recent);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	memcpy(text + RECENT_TEXT - 1, "\xc3\xa9", 2);
	recent_add(recent, &line);
	recent_each(recent, on_long_line, ret);
	assert_int_equal(strlen(ret), RECENT_TEXT - 1);
	strcpy(text, "");
	recent_add(recent, &line);
	recent_each(recent, on_long_line, ret);
	assert_string_equal(ret, "");
	free(recent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_the_last_lines),
		cmocka_unit_test(long_lines_are_cut_off),
	};

	return cmocka_run_group_tests_name("recent", tests, NULL, NULL);
}
