/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/journal_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <libwebsockets.h>
#include <cmocka.h>

#include "agent/clock.h"
#include "agent/loop.h"
#include "agent/util.h"
#include "tests/unit/common.h"

/* The clocks that everything here runs on can be put forward, and the loop's timer with them. */
static int64_t ahead_ms;
static int alarm_fd = -1;
static struct itimerspec alarm_at;

static void shift(struct timespec *ts, int64_t ms)
{
	int64_t ns = ts->tv_nsec + ms % 1000 * 1000000;

	ts->tv_sec += ms / 1000 + (ns < 0 ? -1 : ns / 1000000000);
	ts->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ts);

	shift(ts, ahead_ms);
	return r;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *at, struct itimerspec *old)
{
	struct itimerspec real = *at;

	alarm_fd = fd;
	alarm_at = *at;
	shift(&real.it_value, -ahead_ms);
	if (real.it_value.tv_sec < 1)
		real.it_value.tv_sec = 1;
	return (int)syscall(SYS_timerfd_settime, fd, flags, &real, old);
}

static struct loop *loop;
static struct journal journal;
static struct journal_file *file;
static char memory[sizeof(directory) + 16], flash[sizeof(memory)];
static struct loop_timer mark;
static unsigned warnings, other_lines;

static void on_line(void *userdata, const struct log_line *line)
{
	(void)userdata;
	assert_int_equal(line->event, LOG_EVENT_NONE);
	if (line->level == LOG_LEVEL_WARNING)
		warnings++;
	else
		other_lines++;
}

static void on_mark(void *userdata)
{
	*(bool *)userdata = true;
}

/* Time goes on, and what is due then happens. */
static void pass(int64_t ms)
{
	bool passed = false;

	ahead_ms += ms;
	loop_timer_init(loop, &mark, on_mark, &passed);
	loop_timer_start(&mark, 0);
	assert_int_equal(timerfd_settime(alarm_fd, TFD_TIMER_ABSTIME, &alarm_at, NULL), 0);
	while (!passed)
		assert_true(lws_service(loop_lws(loop), 0) >= 0);
}

static void make_path(char ret[sizeof(memory)], const char *name)
{
	snprintf(ret, sizeof(memory), "%s/%s", directory, name);
	assert_int_equal(mkdir(ret, 0700), 0);
}

static const char *in(const char *where)
{
	static char text[sizeof(memory) + sizeof(JOURNAL_FILE) + 1];

	snprintf(text, sizeof(text), "%s/%s", where, JOURNAL_FILE);
	return text;
}

static int set_up(void **state)
{
	(void)state;
	warnings = other_lines = 0;
	make_path(memory, "memory");
	make_path(flash, "flash");
	assert_int_equal(loop_new(&loop), 0);
	log_observe(on_line, NULL);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	log_observe(NULL, NULL);
	journal_file_free(TAKE_PTR(file));
	loop_free(TAKE_PTR(loop));
	unlink(in(memory));
	unlink(in(flash));
	return rmdir(memory) == 0 && rmdir(flash) == 0 ? 0 : -1;
}

/* An agent starts. */
static const char *start(void)
{
	struct kept_clock now;

	assert_int_equal(journal_file_new(loop, &journal, memory, flash, &file), 0);
	clock_read(&now);
	return journal_begin(&journal, &now);
}

static void crash(void)
{
	journal_file_free(TAKE_PTR(file));
}

static void stop(void)
{
	journal_end(&journal);
	journal_file_flush(file);
	crash();
}

static void happens(const char *text)
{
	const struct log_line line = {LOG_LEVEL_WARNING, LOG_EVENT_UPLINK, text};
	struct kept_clock now;

	clock_read(&now);
	journal_add(&journal, &line, &now);
	journal_file_changed(file);
}

static bool is_there(const char *where)
{
	struct stat st;

	if (lstat(in(where), &st) < 0)
		return false;
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(st.st_mode & 07777, 0600);
	return true;
}

/* The sequence number in a copy, which grows from write to write; 0 for no copy. */
static uint64_t written(const char *where)
{
	static struct journal copy;
	static uint8_t data[JOURNAL_BYTES];
	FILE *f = fopen(in(where), "r");
	size_t len;

	if (!f)
		return 0;
	len = fread(data, 1, sizeof(data), f);
	fclose(f);
	assert_int_equal(journal_decode(data, len, &copy), 0);
	return copy.sequence;
}

static void put(const char *where, const void *data, size_t len)
{
	assert_int_equal(util_replace_file(in(where), 0600, data, len), 0);
}

/* As it is, whatever it says of when it was written. */
static void put_journal(const char *where)
{
	static uint8_t data[JOURNAL_BYTES];

	put(where, data, journal_encode(&journal, data, sizeof(data)));
}

static void is_written_to_memory_at_once_and_to_flash_later(void **state)
{
	(void)state;
	assert_null(start());
	pass(60000);
	/* Where nothing happens nothing is written. */
	assert_false(is_there(memory) || is_there(flash));
	crash();
	start();
	happens("a");
	pass(0);
	assert_true(is_there(memory));
	assert_int_equal(written(memory), journal.sequence);
	pass(JOURNAL_FILE_START_MS - 1000);
	assert_false(is_there(flash));
	pass(1000);
	assert_true(is_there(flash));
	assert_int_equal(written(flash), journal.sequence);
	assert_int_equal(warnings, 0);
}

/* Something happens n times, one each interval. Returns how often a copy was written meanwhile. */
static unsigned writes(const char *where, unsigned n, int64_t interval_ms)
{
	uint64_t before = written(where);
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++) {
		happens("a");
		pass(interval_ms);
		count += written(where) != before;
		before = written(where);
	}
	return count;
}

static void many_changes_are_few_writes(void **state)
{
	(void)state;
	start();
	assert_in_range(writes(memory, 90, 100), 8, 11);
	assert_int_equal(writes(flash, 300, 200), 1); /* a minute, the first of this run */
	assert_int_equal(writes(flash, 240, 60000), 4); /* four hours */
	/* The last of it is not forgotten. */
	pass(JOURNAL_FILE_FLASH_MS);
	assert_int_equal(written(memory), journal.sequence);
	assert_int_equal(written(flash), journal.sequence);
	assert_int_equal(journal.entries[0].count, 630);
	assert_int_equal(warnings, 0);
}

static void goes_on_after_a_stop(void **state)
{
	(void)state;
	start();
	happens("a");
	stop();
	assert_true(is_there(memory) && is_there(flash));
	assert_string_equal(start(), "stopped in good order");
	assert_int_equal(journal.starts, 2);
	assert_int_equal(journal.n, 1);
	crash();
	/* The hub was switched off and on. */
	assert_int_equal(unlink(in(memory)), 0);
	assert_string_equal(start(), "stopped in good order");
	assert_int_equal(journal.n, 1);
}

static void the_newer_copy_counts(void **state)
{
	(void)state;
	start();
	happens("a");
	pass(JOURNAL_FILE_START_MS);
	happens("b");
	pass(JOURNAL_FILE_COPY_MS);
	crash();
	assert_string_equal(start(), "crashed, was killed or hung");
	assert_int_equal(journal.n, 2);
	crash();
	/* Of a hub that was without power: what is in flash. */
	assert_int_equal(unlink(in(memory)), 0);
	assert_string_equal(start(), "crashed, was killed or hung");
	assert_int_equal(journal.n, 1);
	happens("c");
	happens("d");
	happens("e");
	stop();
	/* However it comes that the copy in memory is the older one. */
	put(memory,
	    "\x86\x01\x01\x01\x00\x83\x50"
	    "0123456789abcdef\x00\x00\x80",
	    26);
	assert_int_equal(written(memory), 1);
	assert_string_equal(start(), "stopped in good order");
	assert_int_equal(journal.n, 4);
	assert_int_equal(warnings, 0);
}

/* A hub whose agent crashes each 15 s must not wear its flash, and each boot must be known of. */
static void crashes_do_not_wear_flash(void **state)
{
	unsigned to_flash = 0;
	uint64_t before = 0;

	(void)state;
	for (unsigned i = 0; i < 260; i++) { /* an hour and five minutes */
		start();
		happens("a");
		pass(JOURNAL_FILE_START_MS);
		pass(5000);
		crash();
		to_flash += written(flash) != before;
		before = written(flash);
	}
	assert_int_equal(to_flash, 2);
	assert_int_equal(journal.starts, 260);
	/* What says that it stopped in good order does not do while it runs. */
	start();
	stop();
	start();
	happens("b");
	pass(JOURNAL_FILE_START_MS);
	assert_int_equal(written(flash), journal.sequence);
	crash();
	/* Nor what is of another boot. */
	assert_int_equal(unlink(in(memory)), 0);
	start();
	crash();
	journal.written.boot_id[0] ^= 1;
	put_journal(flash);
	assert_string_equal(start(), "the hub was restarted or lost power");
	happens("c");
	pass(JOURNAL_FILE_START_MS);
	assert_int_equal(written(flash), journal.sequence);
	assert_int_equal(journal.starts, 264);
}

/* None is taken; they are told of and replaced. */
static void copies_that_are_no_good(void **state)
{
	static const char *const contents[] = {"", "\x81\x02", "\x86\x01\x48", "no CBOR at all"};
	char target[sizeof(memory)];

	(void)state;
	snprintf(target, sizeof(target), "%s/target", directory);
	assert_int_equal(util_replace_file(target, 0600, "\x80", 1), 0);
	for (size_t i = 0; i <= ARRAY_SIZE(contents); i++) {
		warnings = 0;
		if (i < ARRAY_SIZE(contents)) {
			put(memory, contents[i], strlen(contents[i]));
			put(flash, contents[i], strlen(contents[i]));
		} else {
			assert_int_equal(unlink(in(memory)) + unlink(in(flash)), 0);
			assert_int_equal(symlink(target, in(memory)), 0);
			assert_int_equal(symlink(target, in(flash)), 0);
		}
		assert_null(start());
		assert_int_equal(warnings, 2);
		assert_int_equal(journal.n, 0);
		happens("a");
		stop();
		assert_int_equal(warnings, 2);
		assert_true(is_there(memory) && is_there(flash));
		assert_int_equal(written(flash), journal.sequence);
	}
	/* One that is good is enough. */
	put(memory, "?", 1);
	assert_string_equal(start(), "stopped in good order");
	assert_int_equal(journal.n, 1);
	crash();
	assert_int_equal(unlink(target), 0);
}

static void somebody_elses_copy(void **state)
{
	(void)state;
	start();
	happens("a");
	stop();
	if (geteuid() != 0)
		return;
	assert_int_equal(chown(in(memory), 65534, 65534) + chown(in(flash), 65534, 65534), 0);
	assert_null(start());
	assert_int_equal(warnings, 2);
	assert_int_equal(journal.n, 0);
}

/* Said once, and tried again. */
static void a_directory_that_is_not_there(void **state)
{
	(void)state;
	start();
	assert_int_equal(rmdir(flash), 0);
	for (unsigned i = 0; i < 5; i++) {
		happens("a");
		pass(JOURNAL_FILE_FLASH_MS);
	}
	assert_int_equal(warnings, 1);
	assert_int_equal(written(memory), journal.sequence);
	assert_int_equal(mkdir(flash, 0700), 0);
	pass(JOURNAL_FILE_FLASH_MS);
	assert_int_equal(written(flash), journal.sequence);
	assert_int_equal(warnings, 1);
}

/* The status socket may lie in the state directory: that is flash. */
static void one_directory_for_both(void **state)
{
	char other[2 * sizeof(memory)];

	(void)state;
	snprintf(other, sizeof(other), "%s/../flash", memory);
	assert_int_equal(journal_file_new(loop, &journal, other, flash, &file), 0);
	happens("a");
	pass(JOURNAL_FILE_START_MS - 1000);
	assert_false(is_there(flash));
	pass(1000);
	assert_true(is_there(flash));
}

static void no_directory_at_all(void **state)
{
	(void)state;
	assert_int_equal(journal_file_new(loop, &journal, NULL, NULL, &file), 0);
	happens("a");
	pass(JOURNAL_FILE_FLASH_MS);
	stop();
	assert_int_equal(warnings + other_lines, 0);
	assert_false(is_there(memory) || is_there(flash));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(is_written_to_memory_at_once_and_to_flash_later,
						set_up, tear_down),
		cmocka_unit_test_setup_teardown(many_changes_are_few_writes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(goes_on_after_a_stop, set_up, tear_down),
		cmocka_unit_test_setup_teardown(the_newer_copy_counts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(crashes_do_not_wear_flash, set_up, tear_down),
		cmocka_unit_test_setup_teardown(copies_that_are_no_good, set_up, tear_down),
		cmocka_unit_test_setup_teardown(somebody_elses_copy, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_directory_that_is_not_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_directory_for_both, set_up, tear_down),
		cmocka_unit_test_setup_teardown(no_directory_at_all, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("journal file", tests, make_directory, remove_directory);
}
