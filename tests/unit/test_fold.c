/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

#define START_MS UINT64_C(1000000)
#define DAY_S	 86400

/* What was written, and when. */
static struct {
	uint64_t now_ms;
	unsigned n;
	unsigned told; /* times that something was said, going by what was written */
	struct {
		double at_s; /* from the start */
		enum log_level level;
		char text[FOLD_TEXT_MAX];
	} last;
	double at_s[64];
} written;

/* How often a written line says that it was said. */
static unsigned times_of(const char *text)
{
	const char *count = strrchr(text, '(');

	if (!count || !strstr(count, " in the last "))
		return 1;
	return strncmp(count, "(once ", 6) == 0 ? 1 : (unsigned)strtoul(count + 1, NULL, 10);
}

static void on_write(void *userdata, enum log_level level, const char *text)
{
	assert_null(userdata);
	written.last.at_s = (double)(written.now_ms - START_MS) / 1000;
	written.last.level = level;
	snprintf(written.last.text, sizeof(written.last.text), "%s", text);
	written.told += times_of(text);
	if (written.n < ARRAY_SIZE(written.at_s))
		written.at_s[written.n] = written.last.at_s;
	written.n++;
}

static int forget(void **state)
{
	(void)state;
	memset(&written, 0, sizeof(written));
	return 0;
}

/* The clock goes on, and what is due is written on the way. */
static void go_to(struct fold *fold, double s)
{
	uint64_t end_ms = START_MS + (uint64_t)(s * 1000 + 0.5), due_ms;

	while ((due_ms = fold_due_ms(fold)) <= end_ms) {
		unsigned before = written.n;

		written.now_ms = due_ms;
		fold_flush(fold, due_ms);
		assert_true(written.n > before);
	}
	written.now_ms = end_ms;
}

static void say(struct fold *fold, double s, const char *text)
{
	go_to(fold, s);
	fold_say(fold, written.now_ms, LOG_LEVEL_WARNING, text);
}

static void expect(unsigned n, double at_s, const char *text)
{
	assert_int_equal(written.n, n);
	assert_true(written.last.at_s == at_s);
	assert_string_equal(written.last.text, text);
}

static void what_is_new_is_written_at_once(void **state)
{
	struct fold fold = {.write = on_write};

	(void)state;
	say(&fold, 0, "one");
	expect(1, 0, "one");
	say(&fold, 0, "two");
	expect(2, 0, "two");
	fold_say(&fold, written.now_ms, LOG_LEVEL_ERROR, "two");
	expect(3, 0, "two");
	assert_int_equal(written.last.level, LOG_LEVEL_ERROR);
	/* There is nothing to wait for. */
	assert_true(fold_due_ms(&fold) == UINT64_MAX);
	fold_flush_all(&fold, written.now_ms);
	assert_int_equal(written.n, 3);
}

static void repeats_are_told_at_growing_intervals(void **state)
{
	static const double expected_s[] = {0, 10, 50, 210, 850, 3410, 7010, 10610, 14210};
	struct fold fold = {.write = on_write};

	(void)state;
	for (unsigned s = 0; s <= 14300; s++)
		say(&fold, s + 0.5 * (s > 0), "it fails");
	assert_int_equal(written.n, ARRAY_SIZE(expected_s));
	for (size_t i = 0; i < ARRAY_SIZE(expected_s); i++)
		assert_true(written.at_s[i] == expected_s[i]);
	assert_string_equal(written.last.text, "it fails (3600 times in the last 60 min)");
}

static void a_count_waits_for_its_time_and_no_longer(void **state)
{
	struct fold fold = {.write = on_write};

	(void)state;
	say(&fold, 0, "it fails");
	say(&fold, 2, "it fails");
	assert_true(fold_due_ms(&fold) == START_MS + 10000);
	say(&fold, 3, "it fails");
	assert_int_equal(written.n, 1);
	go_to(&fold, 9.999);
	assert_int_equal(written.n, 1);
	go_to(&fold, 10);
	expect(2, 10, "it fails (2 times in the last 10 s)");
	assert_true(fold_due_ms(&fold) == UINT64_MAX);
	say(&fold, 12, "it fails");
	go_to(&fold, 50);
	expect(3, 50, "it fails (once in the last 40 s)");
}

/* As nothing was counted in between, there is nothing to add to it. */
static void a_repeat_after_its_interval_is_written_as_it_is(void **state)
{
	struct fold fold = {.write = on_write};

	(void)state;
	say(&fold, 0, "it fails");
	say(&fold, 11, "it fails");
	expect(2, 11, "it fails");
	say(&fold, 50, "it fails");
	assert_int_equal(written.n, 2);
	go_to(&fold, 51);
	expect(3, 51, "it fails (once in the last 40 s)");
}

static void lines_that_alternate_fold(void **state)
{
	static const char *const texts[] = {"the first URL fails", "the second URL fails"};
	struct fold fold = {.write = on_write};

	(void)state;
	for (unsigned s = 0; s < 40; s++)
		say(&fold, s, texts[s % 2]);
	assert_int_equal(written.n, 4);
	fold_flush_all(&fold, written.now_ms);
	assert_int_equal(written.n, 6);
	assert_string_equal(written.last.text, "the second URL fails (15 times in the last 28 s)");
	assert_int_equal(written.told, 40);
}

static void a_line_not_said_for_long_is_new(void **state)
{
	struct fold fold = {.write = on_write};

	(void)state;
	for (unsigned s = 0; s < 200; s += 5)
		say(&fold, s, "it fails");
	go_to(&fold, 210);
	assert_int_equal(written.n, 4);
	/* The interval is 640 s now. */
	say(&fold, 195 + 1279, "it fails");
	expect(5, 1474, "it fails");
	say(&fold, 1474 + 2 * 2560, "it fails");
	expect(6, 6594, "it fails");
	say(&fold, 6595, "it fails");
	go_to(&fold, 6604);
	expect(7, 6604, "it fails (once in the last 10 s)");
}

static void the_oldest_makes_room_and_leaves_its_count(void **state)
{
	struct fold fold = {.write = on_write};
	char text[16];

	(void)state;
	say(&fold, 0, "counted");
	say(&fold, 1, "counted");
	for (unsigned i = 0; i < FOLD_LINES - 1; i++) {
		snprintf(text, sizeof(text), "line %u", i);
		say(&fold, 2, text);
	}
	assert_int_equal(written.n, FOLD_LINES);
	/* The table is full. What was said last stays. */
	say(&fold, 3, "line 0");
	assert_int_equal(written.n, FOLD_LINES);
	say(&fold, 4, "one too many");
	assert_int_equal(written.n, FOLD_LINES + 2);
	assert_int_equal(written.told, FOLD_LINES + 2);
	say(&fold, 4, "counted");
	expect(FOLD_LINES + 3, 4, "counted");
	say(&fold, 5, "line 0");
	go_to(&fold, 12);
	expect(FOLD_LINES + 4, 12, "line 0 (2 times in the last 10 s)");
}

static void the_longest_line_is_whole(void **state)
{
	struct fold fold = {.write = on_write};
	char text[LOG_LINE_MAX];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (unsigned i = 0; i < 1000; i++)
		say(&fold, 0, text);
	assert_string_equal(written.last.text, text);
	go_to(&fold, 10);
	assert_int_equal(written.n, 2);
	assert_memory_equal(written.last.text, text, LOG_LINE_MAX - 1);
	assert_string_equal(written.last.text + LOG_LINE_MAX - 1, " (999 times in the last 10 s)");
}

/* Whatever is said, and in whatever order: as often as it is said it is told. */
static void no_repeat_is_lost(void **state)
{
	(void)state;
	srandom(7);
	for (unsigned round = 0; round < 50; round++) {
		struct fold fold = {.write = on_write};
		unsigned texts = 1 + (unsigned)random() % (2 * FOLD_LINES);
		double s = 0;

		forget(NULL);
		for (unsigned i = 1; i <= 2000; i++) {
			char text[16];

			s += (double)(random() % (random() % 50 == 0 ? 5000000 : 3000)) / 1000;
			snprintf(text, sizeof(text), "line %u", (unsigned)random() % texts);
			say(&fold, s, text);
			assert_true(written.told <= i);
		}
		fold_flush_all(&fold, written.now_ms);
		assert_int_equal(written.told, 2000);
	}
}

static unsigned lines_a_day(unsigned each_s, const char *const *texts, size_t n)
{
	struct fold fold = {.write = on_write};
	unsigned said = 0;

	forget(NULL);
	for (unsigned s = 0; s < DAY_S; s += each_s) {
		for (size_t i = 0; i < n; i++, said++)
			say(&fold, s + (double)i, texts[i]);
	}
	fold_flush_all(&fold, written.now_ms);
	assert_int_equal(written.told, said);
	print_message("said each %u s: %u lines a day, %u written\n", each_s, said, written.n);
	return written.n;
}

/* Flash wears: an hour has a line, and not the first few minutes of it. */
static void a_day_has_few_lines(void **state)
{
	static const char *const fails[] = {"uplink: cannot connect"};
	static const char *const flaps[] = {"uplink: up", "uplink: closed by the server"};

	(void)state;
	assert_true(lines_a_day(300, fails, 1) <= 24 + 8);
	assert_true(lines_a_day(30, flaps, 2) <= 2 * (24 + 8));
	assert_true(lines_a_day(1, fails, 1) <= 24 + 8);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(what_is_new_is_written_at_once, forget),
		cmocka_unit_test_setup(repeats_are_told_at_growing_intervals, forget),
		cmocka_unit_test_setup(a_count_waits_for_its_time_and_no_longer, forget),
		cmocka_unit_test_setup(a_repeat_after_its_interval_is_written_as_it_is, forget),
		cmocka_unit_test_setup(lines_that_alternate_fold, forget),
		cmocka_unit_test_setup(a_line_not_said_for_long_is_new, forget),
		cmocka_unit_test_setup(the_oldest_makes_room_and_leaves_its_count, forget),
		cmocka_unit_test_setup(the_longest_line_is_whole, forget),
		cmocka_unit_test(no_repeat_is_lost),
		cmocka_unit_test(a_day_has_few_lines),
	};

	return cmocka_run_group_tests_name("fold", tests, NULL, NULL);
}
