/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reporter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "tests/unit/reports.h"
#include "uplink/message.h"

static void says_nothing_while_down(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);

	(void)state;
	assert_true(reporter_idle(f->reporter));
	reports_hear(f, 1, 0, -70);
	assert_false(reporter_idle(f->reporter));
	reporter_flush(f->reporter);
	assert_int_equal(f->wanted, 0);
	reports_free(f);
}

static void reports_all_when_up(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);
	const struct report *sent;

	(void)state;
	reports_hear(f, 1, 0, -70);
	reports_hear(f, 1, 0, -60);
	reports_hear(f, 2, ADVERT_FLAG_ASKS, BLE_RSSI_NONE);
	reporter_up(f->reporter, 0);
	assert_true(f->wanted > 0);
	sent = reports_next(f);
	assert_int_equal(sent->batch, 1);
	assert_int_equal(sent->n, 2);
	assert_int_equal(sent->sightings[0].number, 1);
	assert_int_equal(sent->sightings[0].count, 2);
	assert_int_equal(sent->sightings[0].state, MESSAGE_APPEARED);
	assert_int_equal(sent->sightings[0].rssi[0], -60);
	assert_int_equal(sent->sightings[0].rssi[1], -70);
	assert_int_equal(sent->sightings[0].rssi[2], -60);
	assert_int_equal(sent->sightings[0].adapter, 3);
	assert_int_equal(sent->sightings[1].number, 2);
	assert_int_equal(sent->sightings[1].data[0], ADVERT_FLAG_ASKS);
	assert_int_equal(sent->sightings[1].rssi[0], 127);
	assert_int_equal(sent->sightings[1].rssi[1], 127);
	assert_int_equal(sent->sightings[1].rssi[2], 127);
	assert_true(reports_counters(f).unacknowledged_ms > 0);
	assert_int_equal(reports_counters(f).batches, 0);
	assert_false(reporter_idle(f->reporter));
	reporter_acknowledged(f->reporter, 1);
	assert_int_equal(reports_counters(f).batches, 1);
	assert_int_equal(reports_counters(f).sightings, 2);
	assert_int_equal(reports_counters(f).adverts, 3);
	assert_int_equal(reports_counters(f).resent, 0);
	assert_int_equal(reports_counters(f).unacknowledged_ms, 0);
	assert_true(reporter_idle(f->reporter));
	reports_none(f);
	reports_free(f);
}

/* A cloud is late by what it owes on this connection. */
static void knows_when_the_cloud_is_late(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);
	uint64_t now_ms = util_now_ms();

	(void)state;
	reports_hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(reporter_late_ms(f->reporter, now_ms + 10 * REPORTER_LATE_MS), 0);
	reports_next(f);
	now_ms = util_now_ms();
	assert_int_equal(reporter_late_ms(f->reporter, now_ms), 0);
	assert_in_range(reporter_late_ms(f->reporter, now_ms + REPORTER_LATE_MS), REPORTER_LATE_MS,
			2 * REPORTER_LATE_MS);
	reporter_down(f->reporter);
	assert_int_equal(reporter_late_ms(f->reporter, now_ms + 10 * REPORTER_LATE_MS), 0);
	reporter_up(f->reporter, 0);
	reports_next(f);
	assert_true(reporter_late_ms(f->reporter, now_ms + 2 * REPORTER_LATE_MS) > 0);
	assert_int_equal(reports_counters(f).acknowledged_ms, 0);
	reporter_acknowledged(f->reporter, 1);
	assert_int_equal(reporter_late_ms(f->reporter, now_ms + 10 * REPORTER_LATE_MS), 0);
	assert_in_range(reports_counters(f).acknowledged_ms, now_ms, util_now_ms());
	reports_free(f);
}

static void nothing_to_report(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);

	(void)state;
	reporter_up(f->reporter, 0);
	reports_none(f);
	reporter_flush(f->reporter);
	reports_none(f);
	assert_true(reporter_idle(f->reporter));
	/* No number was used up. */
	reports_hear(f, 1, 0, -70);
	reporter_flush(f->reporter);
	assert_int_equal(reports_next(f)->batch, 1);
	reports_free(f);
}

/* One batch is out at a time; what comes meanwhile is in the next. */
static void one_batch_at_a_time(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);
	const struct report *sent;
	unsigned wanted;

	(void)state;
	reports_hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(reports_next(f)->batch, 1);
	reports_hear(f, 2, 0, -50);
	reports_hear(f, 1, 0, -50);
	wanted = f->wanted;
	reporter_flush(f->reporter);
	assert_int_equal(f->wanted, wanted);
	reports_none(f);
	reporter_acknowledged(f->reporter, 1);
	assert_int_equal(f->wanted, wanted + 1);
	sent = reports_next(f);
	assert_int_equal(sent->batch, 2);
	assert_int_equal(sent->n, 2);
	assert_int_equal(sent->sightings[0].number, 2);
	assert_int_equal(sent->sightings[0].state, MESSAGE_APPEARED);
	assert_int_equal(sent->sightings[1].number, 1);
	assert_int_equal(sent->sightings[1].state, MESSAGE_PRESENT);
	assert_int_equal(sent->sightings[1].count, 1);
	reports_free(f);
}

static void ignores_other_acknowledgements(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);

	(void)state;
	reporter_up(f->reporter, 0);
	reporter_acknowledged(f->reporter, 1); /* none is out */
	reporter_acknowledged(f->reporter, 0);
	reports_hear(f, 1, 0, -70);
	reporter_flush(f->reporter);
	assert_int_equal(reports_next(f)->batch, 1);
	reporter_acknowledged(f->reporter, 0);
	reporter_acknowledged(f->reporter, 2);
	reporter_acknowledged(f->reporter, UINT64_MAX);
	assert_int_equal(reports_counters(f).batches, 0);
	assert_false(reporter_idle(f->reporter));
	reporter_acknowledged(f->reporter, 1);
	assert_int_equal(reports_counters(f).batches, 1);
	reporter_acknowledged(f->reporter, 1); /* twice */
	assert_int_equal(reports_counters(f).batches, 1);
	assert_int_equal(reports_counters(f).adverts, 1);
	reports_free(f);
}

/* What a dropped connection left unacknowledged goes again: same number, same content. */
static void resends_after_a_reconnect(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);
	struct report first;
	const struct report *again;
	uint64_t since;

	(void)state;
	reports_hear(f, 1, 0, -70);
	reports_hear(f, 2, 0, -71);
	reporter_up(f->reporter, 0);
	first = *reports_next(f);
	since = reports_counters(f).unacknowledged_ms;
	for (unsigned i = 1; i <= 3; i++) {
		reporter_down(f->reporter);
		reports_hear(f, 1, ADVERT_FLAG_ASKS, -20);
		reports_hear(f, 3, 0, -20);
		/* What the old connection still brings does not count. */
		if (i == 2)
			reporter_up(f->reporter, 0);
		reporter_acknowledged(f->reporter, i == 2 ? 1 : 7);
		assert_int_equal(reports_counters(f).batches, 0);
		reporter_up(f->reporter, 0);
		assert_true(f->wanted > 0);
		again = reports_next(f);
		assert_int_equal(again->batch, first.batch);
		assert_int_equal(again->n, first.n);
		for (size_t s = 0; s < first.n; s++) {
			assert_true(again->sightings[s].first_age_ms >=
				    first.sightings[s].first_age_ms);
			assert_int_equal(again->sightings[s].number, first.sightings[s].number);
			assert_int_equal(again->sightings[s].count, first.sightings[s].count);
			assert_int_equal(again->sightings[s].state, first.sightings[s].state);
			assert_memory_equal(again->sightings[s].rssi, first.sightings[s].rssi,
					    sizeof(first.sightings[s].rssi));
			assert_memory_equal(again->sightings[s].data, first.sightings[s].data,
					    ADVERT_LEN);
		}
		assert_int_equal(reports_counters(f).resent, i);
		assert_int_equal(reports_counters(f).unacknowledged_ms, since);
	}
	reporter_acknowledged(f->reporter, 1);
	assert_int_equal(reports_counters(f).batches, 1);
	assert_int_equal(reports_counters(f).sightings, 2);
	assert_int_equal(reports_counters(f).adverts, 2);
	again = reports_next(f);
	assert_int_equal(again->batch, 2);
	assert_int_equal(again->n, 2);
	assert_int_equal(again->sightings[0].count, 3);
	assert_int_equal(again->sightings[1].count, 3);
	reporter_acknowledged(f->reporter, 2);
	assert_int_equal(reports_counters(f).adverts, 8);
	assert_int_equal(reports_counters(f).resent, 3);
	assert_true(reporter_idle(f->reporter));
	reports_free(f);
}

/* Batch after batch, until all have gone. */
static void more_devices_than_a_batch_holds(void **state)
{
	static const size_t sizes[] = {MESSAGE_SIGHTINGS_MAX, MESSAGE_SIGHTINGS_MAX, 50};
	struct reports *f = reports_setup(INTERVAL_MS);
	unsigned number = 0;

	(void)state;
	for (unsigned i = 0; i < 2 * MESSAGE_SIGHTINGS_MAX + 50; i++)
		reports_hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	for (size_t b = 0; b < ARRAY_SIZE(sizes); b++) {
		const struct report *sent = reports_next(f);
		unsigned wanted = f->wanted;

		assert_int_equal(sent->batch, b + 1);
		assert_int_equal(sent->n, sizes[b]);
		for (size_t i = 0; i < sent->n; i++)
			assert_int_equal(sent->sightings[i].number, number++);
		reporter_acknowledged(f->reporter, b + 1);
		assert_int_equal(f->wanted, wanted + (b < 2));
	}
	reports_none(f);
	assert_true(reporter_idle(f->reporter));
	assert_int_equal(reports_counters(f).sightings, number);
	reports_free(f);
}

/* Exactly as many devices as one batch holds, and nothing after them. */
static void as_many_devices_as_a_batch_holds(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);

	(void)state;
	for (unsigned i = 0; i < MESSAGE_SIGHTINGS_MAX; i++)
		reports_hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(reports_next(f)->n, MESSAGE_SIGHTINGS_MAX);
	reporter_acknowledged(f->reporter, 1);
	reports_none(f);
	reports_hear(f, 0, 0, -70); /* it stays: that waits for the next report */
	reports_none(f);
	reporter_flush(f->reporter);
	assert_int_equal(reports_next(f)->batch, 2);
	reports_free(f);
}

/* A report tells of each device once, however fast they advertise. */
static void a_report_ends(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);
	unsigned batches = 0;

	(void)state;
	for (unsigned i = 0; i < 250; i++)
		reports_hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	while (reporter_next_message(f->reporter, f->message, sizeof(f->message)) > 0) {
		batches++;
		assert_true(batches <= 3);
		for (unsigned i = 0; i < 250; i++)
			reports_hear(f, i, 0, -70); /* all of them, within the time of one answer */
		reporter_acknowledged(f->reporter, batches);
	}
	assert_int_equal(batches, 3);
	reports_free(f);
}

/* News does not wait for the report interval, and goes without what does. */
static void news_go_at_once(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);
	const struct report *sent;

	(void)state;
	reports_hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	reports_next(f);
	reporter_acknowledged(f->reporter, 1);
	f->wanted = 0;
	reports_hear(f, 1, 0, -70);
	reports_hear(f, 2, 0, -70);
	reports_hear(f, 3, 0, -70);
	assert_int_equal(f->wanted, 0); /* what comes together goes together */
	reports_none(f);
	reports_run(f);
	sent = reports_next(f);
	assert_int_equal(sent->batch, 2);
	assert_int_equal(sent->n, 2);
	assert_int_equal(sent->sightings[0].number, 2);
	assert_int_equal(sent->sightings[1].number, 3);
	reporter_acknowledged(f->reporter, 2);
	reports_none(f);
	assert_false(reporter_idle(f->reporter)); /* device 1 waits */
	reports_free(f);
}

/* News that came while a batch was out follow its acknowledgement. */
static void news_follow_the_batch(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);

	(void)state;
	reports_hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	reports_next(f);
	reports_hear(f, 1, ADVERT_FLAG_ASKS, -70);
	f->wanted = 0;
	reporter_acknowledged(f->reporter, 1);
	reports_run(f);
	assert_int_equal(reports_next(f)->sightings[0].data[0], ADVERT_FLAG_ASKS);
	reports_free(f);
}

static void reports_at_the_interval(void **state)
{
	struct reports *f = reports_setup(20);
	const struct report *sent;

	(void)state;
	reports_hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	reports_next(f);
	reporter_acknowledged(f->reporter, 1);
	reports_hear(f, 1, 0, -70);
	reports_none(f);
	reports_run(f);
	sent = reports_next(f);
	assert_int_equal(sent->batch, 2);
	assert_int_equal(sent->sightings[0].state, MESSAGE_PRESENT);
	reports_free(f);
}

/* The cloud can only make reports less frequent, and not before the configured interval. */
static void the_cloud_slows_reports_down(void **state)
{
	struct reports *f = reports_setup(5);
	struct loop_timer timer;

	(void)state;
	reporter_up(f->reporter, UINT64_MAX);
	f->wanted = 0;
	loop_timer_init(f->loop, &timer, reports_quit, f);
	loop_timer_start(&timer, 100);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->wanted, 0);
	reports_free(f);

	f = reports_setup(INTERVAL_MS);
	reporter_up(f->reporter, 1);
	f->wanted = 0;
	loop_timer_init(f->loop, &timer, reports_quit, f);
	loop_timer_start(&timer, 50);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->wanted, 0);
	reports_free(f);
}

/* Nothing is asked for after the connection went. */
static void down_stops_reports(void **state)
{
	struct reports *f = reports_setup(5);
	struct loop_timer timer;

	(void)state;
	reports_hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	reporter_down(f->reporter);
	f->wanted = 0;
	reports_hear(f, 2, 0, -70);
	loop_timer_init(f->loop, &timer, reports_quit, f);
	loop_timer_start(&timer, 60);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->wanted, 0);
	reports_free(f);
}

/* Devices that stay are not reported at any interval, but what is heard of them goes with their
 * news, and all of it at a reconnect. */
static void tells_of_lost_devices(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);
	const struct report *sent;

	(void)state;
	reports_hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	reports_next(f);
	reporter_acknowledged(f->reporter, 1);
	devices_expire(f->devices, util_now_ms() + 60000);
	reporter_changed(f->reporter);
	reporter_flush(f->reporter);
	sent = reports_next(f);
	assert_int_equal(sent->n, 1);
	assert_int_equal(sent->sightings[0].state, MESSAGE_LOST);
	assert_int_equal(sent->sightings[0].count, 0);
	assert_int_equal(sent->sightings[0].rssi[0], -70);
	reports_free(f);
}

static void free_takes_null(void **state)
{
	(void)state;
	reporter_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_nothing_while_down),
		cmocka_unit_test(reports_all_when_up),
		cmocka_unit_test(knows_when_the_cloud_is_late),
		cmocka_unit_test(nothing_to_report),
		cmocka_unit_test(one_batch_at_a_time),
		cmocka_unit_test(ignores_other_acknowledgements),
		cmocka_unit_test(resends_after_a_reconnect),
		cmocka_unit_test(more_devices_than_a_batch_holds),
		cmocka_unit_test(as_many_devices_as_a_batch_holds),
		cmocka_unit_test(a_report_ends),
		cmocka_unit_test(news_go_at_once),
		cmocka_unit_test(news_follow_the_batch),
		cmocka_unit_test(reports_at_the_interval),
		cmocka_unit_test(the_cloud_slows_reports_down),
		cmocka_unit_test(down_stops_reports),
		cmocka_unit_test(tells_of_lost_devices),
		cmocka_unit_test(free_takes_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
