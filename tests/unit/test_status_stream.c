/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_stream.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

/* All that waits, n bytes at a time, and no more than max; what came is added to ret. */
static void drain(struct status_stream *stream, size_t n, size_t max, char *ret)
{
	ret += strlen(ret);
	while (max > 0) {
		size_t len;
		const char *text = status_stream_get(stream, &len);

		len = MIN(MIN(len, n), max);
		if (len == 0)
			break;
		memcpy(ret, text, len);
		ret += len;
		max -= len;
		status_stream_take(stream, len);
	}
	*ret = '\0';
}

static void passes_lines_in_order(void **state)
{
	struct status_stream stream = {0};
	char got[64] = "";

	(void)state;
	status_stream_push(&stream, "one");
	status_stream_push(&stream, "two");
	drain(&stream, 2, 6, got);
	status_stream_push(&stream, "three");
	status_stream_push(&stream, "");
	drain(&stream, 3, sizeof(got), got);
	assert_string_equal(got, "one\ntwo\nthree\n\n");
	assert_null(stream.data); /* it has no memory while nothing waits */
	status_stream_done(&stream);
}

/* A line of `len` bytes with its newline. */
static void push_of(struct status_stream *stream, size_t len, char c)
{
	_cleanup_free_ char *line = calloc(1, len);

	assert_non_null(line);
	memset(line, c, len - 1);
	status_stream_push(stream, line);
}

static void is_bounded(void **state)
{
	struct status_stream stream = {0};
	size_t len;

	(void)state;
	push_of(&stream, STATUS_STREAM_MAX, 'x');
	status_stream_get(&stream, &len);
	assert_int_equal(len, STATUS_STREAM_MAX);
	status_stream_push(&stream, "");
	status_stream_get(&stream, &len);
	assert_int_equal(len, STATUS_STREAM_MAX);
	assert_int_equal(stream.lost, 1);
	status_stream_done(&stream);
	/* What never fits is lost too. */
	push_of(&stream, STATUS_STREAM_MAX + 1, 'x');
	assert_int_equal(stream.lost, 1);
	assert_int_equal(stream.len, 0);
	status_stream_done(&stream);
	assert_int_equal(stream.lost, 0);
}

/* In the place of what is missing, as soon as there is room, also where nothing else comes. */
static void tells_what_is_lost(void **state)
{
	static char got[4 * STATUS_STREAM_MAX];
	struct status_stream stream = {0};
	size_t quarter = STATUS_STREAM_MAX / 4;

	(void)state;
	*got = '\0';
	for (unsigned i = 0; i < 7; i++)
		push_of(&stream, quarter, (char)('a' + i));
	assert_int_equal(stream.lost, 3);
	/* Not yet: what is short would fit, but the order would be wrong. */
	drain(&stream, 1000, quarter, got);
	status_stream_push(&stream, "early");
	assert_int_equal(stream.lost, 4);
	drain(&stream, 1000, quarter, got);
	assert_int_equal(stream.lost, 0);
	status_stream_push(&stream, "late");
	drain(&stream, 1000, sizeof(got), got);
	assert_int_equal(strlen(got),
			 4 * quarter + strlen("{\"event\":\"lost\",\"count\":4}\nlate\n"));
	assert_string_equal(got + 4 * quarter, "{\"event\":\"lost\",\"count\":4}\nlate\n");
	assert_int_equal(got[4 * quarter - 2], 'd');
	assert_null(stream.data);
	status_stream_done(&stream);
}

/* Every line comes or is counted, whatever the pace. */
static void counts_exactly(void **state)
{
	static char got[64 * STATUS_STREAM_MAX];
	struct status_stream stream = {0};
	unsigned long next = 0, n;
	char line[128];

	(void)state;
	*got = '\0';
	srand(1);
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(line, sizeof(line), "%u %0*u", i, 1 + rand() % 60, 0);
		status_stream_push(&stream, line);
		if (rand() % 200 == 0)
			drain(&stream, 777, (size_t)(rand() % 12000), got);
		assert_true(stream.len <= STATUS_STREAM_MAX);
	}
	drain(&stream, 777, sizeof(got), got);
	for (char *l = strtok(got, "\n"); l; l = strtok(NULL, "\n")) {
		if (sscanf(l, "{\"event\":\"lost\",\"count\":%lu}", &n) == 1)
			next += n;
		else
			assert_int_equal(strtoul(l, NULL, 10), next++);
	}
	assert_int_equal(next, 20000);
	assert_int_equal(stream.lost, 0);
	status_stream_done(&stream);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passes_lines_in_order),
		cmocka_unit_test(is_bounded),
		cmocka_unit_test(tells_what_is_lost),
		cmocka_unit_test(counts_exactly),
	};

	return cmocka_run_group_tests_name("status_stream", tests, NULL, NULL);
}
