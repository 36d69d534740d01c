/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/journal_file.h"
#include "agent/loop.h"
#include "agent/util.h"
#include "tests/unit/common.h"

static struct loop *loop;
static struct events *events;
static char path[sizeof(directory) + 16], copy[sizeof(path)];

static int set_up(void **state)
{
	(void)state;
	snprintf(path, sizeof(path), "%s/status.sock", directory);
	snprintf(copy, sizeof(copy), "%s/" JOURNAL_FILE, directory);
	log_set_level(LOG_LEVEL_WARNING);
	return loop_new(&loop);
}

static int tear_down(void **state)
{
	(void)state;
	events_free(TAKE_PTR(events));
	loop_free(TAKE_PTR(loop));
	unlink(copy);
	return 0;
}

/* The agent starts, with no state directory. */
static void start(void)
{
	assert_int_equal(events_new(loop, NULL, path, NULL, &events), 0);
}

struct lines {
	unsigned n;
	char first[RECENT_TEXT + 1], last[RECENT_TEXT + 1];
};

static void on_line(void *userdata, const struct recent_line *line)
{
	struct lines *lines = userdata;

	if (lines->n++ == 0)
		strcpy(lines->first, line->text);
	strcpy(lines->last, line->text);
}

static struct lines recent_lines(void)
{
	struct lines lines = {0};

	recent_each(events_recent(events), on_line, &lines);
	return lines;
}

static const char *newest(void)
{
	const struct journal *journal = events_journal(events);

	assert_true(journal->n > 0);
	return journal->entries[journal->n - 1].text;
}

static void each_line_goes_where_it_belongs(void **state)
{
	(void)state;
	start();
	/* The start is in the journal, whatever the log's level. */
	assert_int_equal(events_journal(events)->n, 1);
	assert_string_equal(newest(),
			    "started, version " VERSION "; nothing is known of a run before");
	assert_int_equal(recent_lines().n, 1);
	log_warning("a line");
	assert_string_equal(recent_lines().last, "a line");
	log_event(LOG_LEVEL_WARNING, LOG_EVENT_UPLINK, "a warning");
	assert_string_equal(newest(), "a warning");
	assert_string_equal(recent_lines().last, "a warning");
	log_event(LOG_LEVEL_INFO, LOG_EVENT_SUPERVISOR, "a step");
	assert_string_equal(newest(), "a step");
	log_event(LOG_LEVEL_INFO, LOG_EVENT_DEVICE, "a device");
	log_info("not written");
	assert_string_equal(newest(), "a step");
	assert_int_equal(events_journal(events)->n, 3);
	/* Events are remembered at any level, other lines as they are written. */
	assert_int_equal(recent_lines().n, 5);
	assert_string_equal(recent_lines().last, "a device");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("caf\xe9");
	assert_string_equal(recent_lines().last, "caf?");
	log_set_level(LOG_LEVEL_WARNING);
	assert_int_equal(recent_lines().n, 6);
	assert_int_equal(events_journal(events)->entries[0].count, 1);
}

static void tells_of_the_run_before(void **state)
{
	(void)state;
	start();
	assert_null(events_last_end(events));
	events_stop(events);
	events_free(TAKE_PTR(events));
	start();
	assert_string_equal(events_last_end(events), "stopped in good order");
	assert_int_equal(events_journal(events)->starts, 2);
	assert_string_equal(newest(),
			    "started, version " VERSION "; before: stopped in good order");
	assert_int_equal(events_journal(events)->n, 2);
}

/* What is logged after it is nobody's. */
static void observes_no_longer_than_it_lives(void **state)
{
	(void)state;
	start();
	events_free(TAKE_PTR(events));
	log_event(LOG_LEVEL_WARNING, LOG_EVENT_UPLINK, "a warning");
	events_free(NULL);
	start();
	assert_int_equal(events_journal(events)->n, 1);
}

static void the_damaged_is_told_of(void **state)
{
	(void)state;
	assert_int_equal(util_replace_file(copy, 0600, "?", 1), 0);
	start();
	assert_non_null(strstr(recent_lines().first, "it is damaged"));
	assert_int_equal(events_journal(events)->n, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(each_line_goes_where_it_belongs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(tells_of_the_run_before, set_up, tear_down),
		cmocka_unit_test_setup_teardown(observes_no_longer_than_it_lives, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(the_damaged_is_told_of, set_up, tear_down),
	};

	return cmocka_run_group_tests_name("events", tests, make_directory, remove_directory);
}
