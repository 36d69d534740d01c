/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/log.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static int old_stderr = -1, file = -1;

/* Standard error is a file from here on. */
static int capture(void **state)
{
	char path[] = "/tmp/unit-test.XXXXXX";

	(void)state;
	old_stderr = dup(STDERR_FILENO);
	file = mkostemp(path, O_APPEND | O_CLOEXEC);
	unlink(path);
	return old_stderr < 0 || file < 0 || dup2(file, STDERR_FILENO) < 0 ? -1 : 0;
}

static int release(void **state)
{
	(void)state;
	log_flush_all();
	log_observe(NULL, NULL);
	log_on_due(NULL, NULL);
	log_set_level(LOG_LEVEL_INFO);
	unsetenv("JOURNAL_STREAM");
	dup2(old_stderr, STDERR_FILENO);
	log_as_found("test");
	close(old_stderr);
	close(file);
	return 0;
}

/* What was written since the last look. */
static const char *logged(void)
{
	static char text[8192];
	ssize_t n = pread(file, text, sizeof(text) - 1, 0);

	assert_true(n >= 0);
	text[n] = '\0';
	assert_int_equal(ftruncate(file, 0), 0);
	return text;
}

static void set_journal(unsigned long long device, unsigned long long inode, const char *more)
{
	char text[64];

	snprintf(text, sizeof(text), "%llu:%llu%s", device, inode, more);
	setenv("JOURNAL_STREAM", text, 1);
}

static void people_read_time_and_level(void **state)
{
	unsigned year, n = 0;

	(void)state;
	log_as_found("test");
	assert_true(log_is_plain());
	log_warning("plain %d", 1);
	sscanf(logged(), "%4u-%*2u-%*2uT%*2u:%*2u:%*2u.%*3uZ warning plain 1%n", &year, &n);
	assert_int_equal(n, 24 + 1 + 7 + 1 + 7);
}

static void the_journal_gets_the_priority(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	set_journal(st.st_dev, st.st_ino, "");
	log_as_found("test");
	assert_false(log_is_plain());
	log_set_level(LOG_LEVEL_DEBUG);
	log_error("it");
	log_warning("it");
	log_info("it");
	log_debug("it");
	assert_string_equal(logged(), "<3>it\n<4>it\n<6>it\n<7>it\n");
}

/* The variable is that of a service whose child writes elsewhere. */
static void another_journal_is_none(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	set_journal(st.st_dev, st.st_ino + 1, "");
	log_as_found("test");
	assert_true(log_is_plain());
	set_journal(st.st_dev + 1, st.st_ino, "");
	log_as_found("test");
	assert_true(log_is_plain());
	set_journal(st.st_dev, st.st_ino, "0x");
	log_as_found("test");
	assert_true(log_is_plain());
	setenv("JOURNAL_STREAM", "", 1);
	log_as_found("test");
	assert_true(log_is_plain());
}

static void nobody_reads_dev_null(void **state)
{
	int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)state;
	dup2(null, STDERR_FILENO);
	close(null);
	log_as_found("test");
	assert_false(log_is_plain());
	/* Whatever becomes of it, it is not in what is standard error later. */
	dup2(file, STDERR_FILENO);
	log_error("to syslog");
	assert_string_equal(logged(), "");
	log_as_found("test");
	log_error("to the file");
	assert_non_null(strstr(logged(), "to the file"));
}

static void control_characters_are_not_written(void **state)
{
	(void)state;
	log_as_found("test");
	log_error("a\nb\x7f\x1b[2Jc");
	assert_non_null(strstr(logged(), " a?b??[2Jc\n"));
}

struct seen {
	unsigned lines, due;
	enum log_event event;
	uint64_t due_ms;
};

static void on_line(void *userdata, const struct log_line *line)
{
	struct seen *seen = userdata;

	seen->lines++;
	seen->event = line->event;
}

static void on_due(void *userdata, uint64_t due_ms)
{
	struct seen *seen = userdata;

	seen->due++;
	seen->due_ms = due_ms;
}

static void the_observer_gets_each_line(void **state)
{
	struct seen seen = {0};

	(void)state;
	log_as_found("test");
	log_observe(on_line, &seen);
	for (unsigned i = 0; i < 5; i++)
		log_info("observed");
	assert_int_equal(seen.lines, 5);
	/* An event also where its level is off. */
	log_event(LOG_LEVEL_DEBUG, LOG_EVENT_UPLINK, "observed");
	assert_int_equal(seen.lines, 6);
	assert_int_equal(seen.event, LOG_EVENT_UPLINK);
	log_debug("not observed");
	assert_int_equal(seen.lines, 6);
	assert_null(strstr(strchr(logged(), '\n'), "observed"));
}

static void repeats_are_due_later(void **state)
{
	struct seen seen = {0};
	uint64_t began_ms = util_now_ms();

	(void)state;
	log_as_found("test");
	log_on_due(on_due, &seen);
	log_warning("again and again");
	assert_int_equal(seen.due, 0);
	log_warning("again and again");
	assert_int_equal(seen.due, 1);
	assert_true(seen.due_ms >= began_ms + 10000 && seen.due_ms <= util_now_ms() + 10000);
	log_warning("again and again");
	/* Nothing that would be due earlier. */
	log_warning("another");
	log_warning("another");
	assert_int_equal(seen.due, 1);
	logged();
	/* Too early, so the rest is asked for again. */
	log_flush();
	assert_string_equal(logged(), "");
	assert_int_equal(seen.due, 2);
	log_flush_all();
	assert_non_null(strstr(logged(), " warning again and again (2 times in the last 0 s)\n"));
	log_flush();
	assert_int_equal(seen.due, 2);
}

static void debug_lines_are_all_written(void **state)
{
	(void)state;
	log_as_found("test");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("each");
	logged();
	for (unsigned i = 0; i < 3; i++) {
		log_debug("each");
		assert_non_null(strstr(logged(), " debug   each\n"));
	}
}

/* Else a count of what is not wanted any more would come later. */
static void a_new_level_ends_the_counting(void **state)
{
	(void)state;
	log_as_found("test");
	for (unsigned i = 0; i < 4; i++)
		log_info("counted");
	logged();
	log_set_level(LOG_LEVEL_INFO);
	assert_string_equal(logged(), "");
	log_set_level(LOG_LEVEL_ERROR);
	assert_non_null(strstr(logged(), " info    counted (3 times in the last 0 s)\n"));
	log_info("counted");
	log_flush_all();
	assert_string_equal(logged(), "");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, capture, release)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(people_read_time_and_level),
		TEST(the_journal_gets_the_priority),
		TEST(another_journal_is_none),
		TEST(nobody_reads_dev_null),
		TEST(control_characters_are_not_written),
		TEST(the_observer_gets_each_line),
		TEST(repeats_are_due_later),
		TEST(debug_lines_are_all_written),
		TEST(a_new_level_ends_the_counting),
	};

	return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
