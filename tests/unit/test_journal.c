/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/journal.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

static struct journal journal, again;
static uint8_t buf[JOURNAL_BYTES];

static const struct kept_clock monday = {{1}, 1000, 5}, tuesday = {{1}, 2000, 6},
			       after_boot = {{2}, 100, 7};

static int clear(void **state)
{
	(void)state;
	memset(&journal, 0, sizeof(journal));
	memset(&again, 0, sizeof(again));
	return 0;
}

static void add(enum log_event event, const char *text, const struct kept_clock *now)
{
	const struct log_line line = {LOG_LEVEL_WARNING, event, text};

	journal_add(&journal, &line, now);
}

static const struct journal_entry *newest(void)
{
	assert_true(journal.n > 0);
	return &journal.entries[journal.n - 1];
}

static void takes_what_is_worth_it(void **state)
{
	(void)state;
	for (enum log_event event = LOG_EVENT_NONE; event <= LOG_EVENT_SESSION; event++) {
		bool always = event == LOG_EVENT_START || event == LOG_EVENT_STOP ||
			      event == LOG_EVENT_SUPERVISOR;

		for (enum log_level level = LOG_LEVEL_ERROR; level <= LOG_LEVEL_DEBUG; level++) {
			const struct log_line line = {level, event, "x"};

			assert_int_equal(journal_wants(&line),
					 event != LOG_EVENT_NONE &&
						 (always || level <= LOG_LEVEL_WARNING));
		}
	}
}

static void what_is_told_again_counts_up(void **state)
{
	(void)state;
	add(LOG_EVENT_UPLINK, "no way", &monday);
	add(LOG_EVENT_UPLINK, "no way", &monday);
	add(LOG_EVENT_UPLINK, "no way", &tuesday);
	assert_int_equal(journal.n, 1);
	assert_int_equal(newest()->count, 3);
	assert_memory_equal(&newest()->first, &monday, sizeof(monday));
	assert_memory_equal(&newest()->last, &tuesday, sizeof(tuesday));
	/* Another text, another event, and the first one again. */
	add(LOG_EVENT_UPLINK, "no way out", &tuesday);
	add(LOG_EVENT_ADAPTER, "no way out", &tuesday);
	assert_int_equal(journal.n, 3);
	assert_int_equal(newest()->count, 1);
	add(LOG_EVENT_UPLINK, "no way", &tuesday);
	assert_int_equal(journal.n, 3);
	assert_string_equal(newest()->text, "no way");
	assert_int_equal(newest()->count, 4);
	assert_memory_equal(&newest()->first, &monday, sizeof(monday));
	assert_string_equal(journal.entries[0].text, "no way out");
	assert_int_equal(journal.sequence, 6);
	/* It is not known better than that. */
	journal.entries[journal.n - 1].count = UINT32_MAX;
	add(LOG_EVENT_UPLINK, "no way", &tuesday);
	assert_int_equal(newest()->count, UINT32_MAX);
}

/* The newer numbers stay. */
static void numbers_make_no_difference(void **state)
{
	(void)state;
	add(LOG_EVENT_SUPERVISOR, "no advert for 90 s: restarted", &monday);
	add(LOG_EVENT_SUPERVISOR, "no advert for 180 s: cycled", &monday);
	add(LOG_EVENT_SUPERVISOR, "no advert for 1090 s: restarted", &tuesday);
	assert_int_equal(journal.n, 2);
	assert_string_equal(newest()->text, "no advert for 1090 s: restarted");
	assert_int_equal(newest()->count, 2);
	add(LOG_EVENT_SUPERVISOR, "no advert for s: restarted", &tuesday);
	add(LOG_EVENT_SUPERVISOR, "no advert for 90 s: restarted4", &tuesday);
	add(LOG_EVENT_SUPERVISOR, "no advert for 90 s: restarted, x", &tuesday);
	assert_int_equal(journal.n, 5);
}

/* A start belongs to the stop before it. */
static void starts_and_stops_are_in_order(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		add(LOG_EVENT_START, "started", &monday);
		add(LOG_EVENT_STOP, "stopping", &monday);
	}
	assert_int_equal(journal.n, 6);
	add(LOG_EVENT_START, "crashed before", &monday);
	add(LOG_EVENT_START, "crashed before", &tuesday);
	assert_int_equal(journal.n, 7);
	assert_int_equal(newest()->count, 2);
}

/* In letters, as numbers make no difference. */
static const char *name(unsigned i, char ret[3])
{
	ret[0] = (char)('a' + i / 26);
	ret[1] = (char)('a' + i % 26);
	ret[2] = '\0';
	return ret;
}

static void the_oldest_go(void **state)
{
	char text[3];

	(void)state;
	for (unsigned i = 0; i < JOURNAL_ENTRIES + 7; i++)
		add(LOG_EVENT_SESSION, name(i, text), &monday);
	assert_int_equal(journal.n, JOURNAL_ENTRIES);
	assert_string_equal(journal.entries[0].text, name(7, text));
	assert_string_equal(newest()->text, name(JOURNAL_ENTRIES + 6, text));
}

/* Longer ago it is told anew. */
static void only_the_last_are_looked_through(void **state)
{
	char text[3];

	(void)state;
	for (unsigned i = 0; i <= JOURNAL_FOLD; i++)
		add(LOG_EVENT_SESSION, name(i, text), &monday);
	add(LOG_EVENT_SESSION, name(1, text), &tuesday);
	assert_int_equal(newest()->count, 2);
	add(LOG_EVENT_SESSION, name(0, text), &tuesday);
	assert_int_equal(newest()->count, 1);
	assert_int_equal(journal.n, JOURNAL_FOLD + 2);
}

/* In whole characters, and those that were cut off are still equal. */
static void long_texts_are_cut_off(void **state)
{
	char text[400];

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	memcpy(text + JOURNAL_TEXT - 2, "\xe2\x82\xac", 3);
	add(LOG_EVENT_SESSION, text, &monday);
	assert_int_equal(strlen(newest()->text), JOURNAL_TEXT - 2);
	add(LOG_EVENT_SESSION, text, &monday);
	assert_int_equal(newest()->count, 2);
	memcpy(text + JOURNAL_TEXT - 3, "\xe2\x82\xac", 3);
	add(LOG_EVENT_SESSION, text, &monday);
	assert_int_equal(strlen(newest()->text), JOURNAL_TEXT);
	add(LOG_EVENT_SESSION, "caf\xe9", &monday);
	assert_string_equal(newest()->text, "caf?");
}

static void tells_how_a_run_ended(void **state)
{
	(void)state;
	assert_null(journal_begin(&journal, &monday));
	assert_int_equal(journal.starts, 1);
	journal.written = monday;
	assert_string_equal(journal_begin(&journal, &tuesday), "crashed, was killed or hung");
	journal.written = tuesday;
	assert_string_equal(journal_begin(&journal, &after_boot),
			    "the hub was restarted or lost power");
	journal_end(&journal);
	/* Whether the hub was restarted after it or not. */
	journal.written = after_boot;
	assert_string_equal(journal_begin(&journal, &monday), "stopped in good order");
	journal_end(&journal);
	journal.written = monday;
	assert_string_equal(journal_begin(&journal, &monday), "stopped in good order");
	assert_int_equal(journal.starts, 5);
	assert_int_equal(journal.sequence, 7);
	assert_false(journal.ended);
	journal.starts = UINT32_MAX;
	journal_begin(&journal, &monday);
	assert_int_equal(journal.starts, UINT32_MAX);
}

static void fill(void)
{
	const struct kept_clock late = {
		.boot_id = {9}, .boottime_ms = UINT64_MAX, .wall_ms = UINT64_MAX};
	char text[JOURNAL_TEXT + 1];

	journal.sequence = UINT64_MAX - JOURNAL_ENTRIES;
	journal.starts = UINT32_MAX;
	journal.ended = true;
	journal.written = late;
	memset(text, 'x', JOURNAL_TEXT);
	text[JOURNAL_TEXT] = '\0';
	for (unsigned i = 0; i < JOURNAL_ENTRIES; i++) {
		text[0] = (char)('A' + i);
		add(LOG_EVENT_SESSION, text, &late);
		journal.entries[i].count = UINT32_MAX;
	}
}

/* The largest there can be. */
static void goes_round(void **state)
{
	size_t len;

	(void)state;
	fill();
	len = journal_encode(&journal, buf, sizeof(buf));
	assert_true(len > 0);
	assert_int_equal(journal_encode(&journal, buf, len - 1), 0);
	assert_int_equal(journal_decode(buf, len, &again), 0);
	assert_memory_equal(&again, &journal, sizeof(journal));
	/* And the smallest. */
	clear(NULL);
	len = journal_encode(&journal, buf, sizeof(buf));
	again.starts = 7;
	assert_int_equal(journal_decode(buf, len, &again), 0);
	assert_memory_equal(&again, &journal, sizeof(journal));
}

/* Cut off anywhere, or with something behind it. */
static void refuses_what_is_damaged(void **state)
{
	size_t len;

	(void)state;
	add(LOG_EVENT_UPLINK, "first", &monday);
	add(LOG_EVENT_ADAPTER, "second", &after_boot);
	len = journal_encode(&journal, buf, sizeof(buf));
	again.starts = 7;
	for (size_t n = 0; n < len; n++) {
		/* Where it ends ASan sees it. */
		uint8_t *cut = malloc(n ? n : 1);

		assert_non_null(cut);
		memcpy(cut, buf, n);
		assert_int_equal(journal_decode(cut, n, &again), -EBADMSG);
		free(cut);
	}
	buf[len] = 0;
	assert_int_equal(journal_decode(buf, len + 1, &again), -EBADMSG);
	assert_int_equal(again.starts, 7);
	assert_int_equal(journal_decode(buf, len, &again), 0);
	assert_int_equal(again.n, 2);
}

/* Each changed so that it is a thing that is never written. */
static void refuses_what_cannot_be(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 7; i++) {
		struct journal_entry *entry = &journal.entries[0];
		size_t len;

		clear(NULL);
		add(LOG_EVENT_UPLINK, "text", &monday);
		if (i == 0)
			entry->count = 0;
		else if (i == 1)
			entry->event = LOG_EVENT_NONE;
		else if (i == 2)
			entry->event = LOG_EVENT_SESSION + 1;
		else if (i == 3)
			entry->level = LOG_LEVEL_DEBUG + 1;
		else if (i == 4)
			entry->text[1] = '\n';
		else if (i == 5)
			entry->text[3] = '\xc3';
		len = journal_encode(&journal, buf, sizeof(buf));
		assert_true(len > 0);
		assert_int_equal(journal_decode(buf, len, &again), i < 6 ? -EBADMSG : 0);
	}
}

static void refuses_too_much(void **state)
{
	/* 51 entries; a text of 301 bytes. */
	static uint8_t one[512];
	size_t len, text;

	(void)state;
	fill();
	len = journal_encode(&journal, buf, sizeof(buf));
	for (size_t i = 0; i + 1 < len; i++) {
		if (buf[i] == 0x98 && buf[i + 1] == JOURNAL_ENTRIES) {
			buf[i + 1]++;
			break;
		}
	}
	assert_int_equal(journal_decode(buf, len, &again), -EBADMSG);
	clear(NULL);
	add(LOG_EVENT_UPLINK, "", &monday);
	len = journal_encode(&journal, one, sizeof(one));
	text = len - 1;
	for (unsigned n = JOURNAL_TEXT; n <= JOURNAL_TEXT + 1; n++) {
		memcpy(one + text, (uint8_t[]){0x79, (uint8_t)(n >> 8), (uint8_t)n}, 3);
		memset(one + text + 3, 'x', n);
		assert_int_equal(journal_decode(one, text + 3 + n, &again),
				 n == JOURNAL_TEXT ? 0 : -EBADMSG);
	}
}

static void refuses_another_version(void **state)
{
	static const struct {
		const char *hex;
		int r;
	} vectors[] = {
		{"8102", -EPROTONOSUPPORT},
		{"8300f6f6", -EPROTONOSUPPORT},
		{"821bffffffffffffffff", -EPROTONOSUPPORT},
		{"8101", -EBADMSG},
		{"80", -EBADMSG},
		{"01", -EBADMSG},
		{"", -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t len;
		_cleanup_free_ uint8_t *data = unhex(vectors[i].hex, &len);

		assert_int_equal(journal_decode(data, len, &again), vectors[i].r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(takes_what_is_worth_it, clear),
		cmocka_unit_test_setup(what_is_told_again_counts_up, clear),
		cmocka_unit_test_setup(numbers_make_no_difference, clear),
		cmocka_unit_test_setup(starts_and_stops_are_in_order, clear),
		cmocka_unit_test_setup(only_the_last_are_looked_through, clear),
		cmocka_unit_test_setup(the_oldest_go, clear),
		cmocka_unit_test_setup(long_texts_are_cut_off, clear),
		cmocka_unit_test_setup(tells_how_a_run_ended, clear),
		cmocka_unit_test_setup(goes_round, clear),
		cmocka_unit_test_setup(refuses_what_is_damaged, clear),
		cmocka_unit_test_setup(refuses_what_cannot_be, clear),
		cmocka_unit_test_setup(refuses_too_much, clear),
		cmocka_unit_test_setup(refuses_another_version, clear),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
