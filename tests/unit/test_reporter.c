/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reporter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "uplink/message.h"
#include "uplink/wire.h"

#define INTERVAL_MS 3600000 /* no report but those that the test brings about */
#define DEADLINE_MS 20000

struct fixture {
	struct loop *loop;
	struct devices *devices;
	struct reporter *reporter;
	struct loop_timer deadline;
	unsigned wanted; /* calls of want_write */
	bool quit_when_wanted;
	uint8_t message[MESSAGE_MAX];
};

/* A SIGHTINGS message taken apart. */
struct sent {
	uint64_t batch;
	size_t n;
	struct {
		unsigned number;
		uint64_t first_age_ms, last_age_ms, count, state, adapter;
		int rssi[3];
		uint8_t data[ADVERT_LEN];
	} sightings[MESSAGE_SIGHTINGS_MAX];
};

static void on_want_write(void *userdata)
{
	struct fixture *f = userdata;

	f->wanted++;
	if (f->quit_when_wanted)
		loop_quit(f->loop);
}

static void on_deadline(void *userdata)
{
	(void)userdata;
	fail_msg("nothing happened for %d ms", DEADLINE_MS);
}

static struct fixture *setup_config(const struct reporter_config *config)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(devices_new(1000, 60000, &f->devices), 0);
	assert_int_equal(reporter_new(f->loop, f->devices, config, on_want_write, f, &f->reporter),
			 0);
	loop_timer_init(f->loop, &f->deadline, on_deadline, f);
	return f;
}

static struct fixture *setup(uint64_t interval_ms)
{
	return setup_config(&(struct reporter_config){.interval_ms = interval_ms});
}

static void teardown(struct fixture *f)
{
	loop_timer_stop(&f->deadline);
	reporter_free(f->reporter);
	devices_free(f->devices);
	loop_free(f->loop);
	free(f);
}

/* Runs the loop until want_write is called. A loop runs once only. */
static void run_until_wanted(struct fixture *f)
{
	f->quit_when_wanted = true;
	loop_timer_start(&f->deadline, DEADLINE_MS);
	assert_int_equal(loop_run(f->loop), 0);
	loop_timer_stop(&f->deadline);
}

static void hear(struct fixture *f, unsigned number, uint8_t flags, int8_t rssi)
{
	struct advert advert = {.flags = flags, .data = {flags}};
	struct ble_advert heard = {.advert = &advert, .rssi_dbm = rssi, .adapter = 3};

	advert.device_id[0] = 0x77;
	advert.device_id[14] = (uint8_t)(number >> 8);
	advert.device_id[15] = (uint8_t)number;
	memcpy(advert.data + 2, advert.device_id, 16);
	assert_non_null(devices_heard(f->devices, util_now_ms(), &heard));
	reporter_changed(f->reporter);
}

static int read_int(struct wire_in *in)
{
	/* The tests' values fit into one byte, or one more. */
	uint8_t first = in->data[in->pos];

	if (first >> 5 == 0)
		return (int)wire_in_uint(in, 127);
	assert_int_equal(first >> 5, 1);
	wire_in_skip(in);
	return -1 - (first == 0x38 ? in->data[in->pos - 1] : first & 31);
}

static void take_apart(const uint8_t *data, size_t len, struct sent *ret)
{
	struct wire_in in;

	wire_in_init(&in, data, len);
	assert_int_equal(wire_in_array(&in), 3);
	assert_int_equal(wire_in_uint(&in, 255), MESSAGE_SIGHTINGS);
	ret->batch = wire_in_uint(&in, UINT64_MAX);
	ret->n = wire_in_array(&in);
	assert_in_range(ret->n, 1, MESSAGE_SIGHTINGS_MAX);
	for (size_t i = 0; i < ret->n; i++) {
		const uint8_t *bytes;

		assert_int_equal(wire_in_array(&in), 10);
		bytes = wire_in_bytes_exact(&in, MESSAGE_ID_LEN);
		assert_non_null(bytes);
		ret->sightings[i].number = (unsigned)bytes[14] << 8 | bytes[15];
		bytes = wire_in_bytes_exact(&in, ADVERT_LEN);
		assert_non_null(bytes);
		memcpy(ret->sightings[i].data, bytes, ADVERT_LEN);
		ret->sightings[i].first_age_ms = wire_in_uint(&in, DEADLINE_MS);
		ret->sightings[i].last_age_ms = wire_in_uint(&in, DEADLINE_MS);
		ret->sightings[i].count = wire_in_uint(&in, UINT64_MAX);
		for (unsigned r = 0; r < 3; r++)
			ret->sightings[i].rssi[r] = read_int(&in);
		ret->sightings[i].state = wire_in_uint(&in, 2);
		ret->sightings[i].adapter = wire_in_uint(&in, 255);
		assert_true(ret->sightings[i].first_age_ms >= ret->sightings[i].last_age_ms);
	}
	assert_true(wire_in_complete(&in));
}

/* Takes the next message, which there must be, and no second one behind it. */
static const struct sent *next(struct fixture *f)
{
	static struct sent sent;
	size_t len = reporter_next_message(f->reporter, f->message, sizeof(f->message));

	assert_true(len > 0);
	take_apart(f->message, len, &sent);
	assert_int_equal(reporter_next_message(f->reporter, f->message, sizeof(f->message)), 0);
	return &sent;
}

static void expect_none(struct fixture *f)
{
	assert_int_equal(reporter_next_message(f->reporter, f->message, sizeof(f->message)), 0);
}

static struct reporter_counters counters(struct fixture *f)
{
	struct reporter_counters ret;

	reporter_get_counters(f->reporter, &ret);
	return ret;
}

static void says_nothing_while_down(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);

	(void)state;
	assert_true(reporter_idle(f->reporter));
	hear(f, 1, 0, -70);
	assert_false(reporter_idle(f->reporter));
	reporter_flush(f->reporter);
	assert_int_equal(f->wanted, 0);
	teardown(f);
}

static void reports_all_when_up(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);
	const struct sent *sent;

	(void)state;
	hear(f, 1, 0, -70);
	hear(f, 1, 0, -60);
	hear(f, 2, ADVERT_FLAG_ASKS, BLE_RSSI_NONE);
	reporter_up(f->reporter, 0);
	assert_true(f->wanted > 0);
	sent = next(f);
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
	assert_true(counters(f).unacknowledged_ms > 0);
	assert_int_equal(counters(f).batches, 0);
	assert_false(reporter_idle(f->reporter));
	reporter_acknowledged(f->reporter, 1);
	assert_int_equal(counters(f).batches, 1);
	assert_int_equal(counters(f).sightings, 2);
	assert_int_equal(counters(f).adverts, 3);
	assert_int_equal(counters(f).resent, 0);
	assert_int_equal(counters(f).unacknowledged_ms, 0);
	assert_true(reporter_idle(f->reporter));
	expect_none(f);
	teardown(f);
}

static void nothing_to_report(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);

	(void)state;
	reporter_up(f->reporter, 0);
	expect_none(f);
	reporter_flush(f->reporter);
	expect_none(f);
	assert_true(reporter_idle(f->reporter));
	/* No number was used up. */
	hear(f, 1, 0, -70);
	reporter_flush(f->reporter);
	assert_int_equal(next(f)->batch, 1);
	teardown(f);
}

/* One batch is out at a time; what comes meanwhile is in the next. */
static void one_batch_at_a_time(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);
	const struct sent *sent;
	unsigned wanted;

	(void)state;
	hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(next(f)->batch, 1);
	hear(f, 2, 0, -50);
	hear(f, 1, 0, -50);
	wanted = f->wanted;
	reporter_flush(f->reporter);
	assert_int_equal(f->wanted, wanted);
	expect_none(f);
	reporter_acknowledged(f->reporter, 1);
	assert_int_equal(f->wanted, wanted + 1);
	sent = next(f);
	assert_int_equal(sent->batch, 2);
	assert_int_equal(sent->n, 2);
	assert_int_equal(sent->sightings[0].number, 2);
	assert_int_equal(sent->sightings[0].state, MESSAGE_APPEARED);
	assert_int_equal(sent->sightings[1].number, 1);
	assert_int_equal(sent->sightings[1].state, MESSAGE_PRESENT);
	assert_int_equal(sent->sightings[1].count, 1);
	teardown(f);
}

static void ignores_other_acknowledgements(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);

	(void)state;
	reporter_up(f->reporter, 0);
	reporter_acknowledged(f->reporter, 1); /* none is out */
	reporter_acknowledged(f->reporter, 0);
	hear(f, 1, 0, -70);
	reporter_flush(f->reporter);
	assert_int_equal(next(f)->batch, 1);
	reporter_acknowledged(f->reporter, 0);
	reporter_acknowledged(f->reporter, 2);
	reporter_acknowledged(f->reporter, UINT64_MAX);
	assert_int_equal(counters(f).batches, 0);
	assert_false(reporter_idle(f->reporter));
	reporter_acknowledged(f->reporter, 1);
	assert_int_equal(counters(f).batches, 1);
	reporter_acknowledged(f->reporter, 1); /* twice */
	assert_int_equal(counters(f).batches, 1);
	assert_int_equal(counters(f).adverts, 1);
	teardown(f);
}

/* What a dropped connection left unacknowledged goes again: same number, same content. */
static void resends_after_a_reconnect(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);
	struct sent first;
	const struct sent *again;
	uint64_t since;

	(void)state;
	hear(f, 1, 0, -70);
	hear(f, 2, 0, -71);
	reporter_up(f->reporter, 0);
	first = *next(f);
	since = counters(f).unacknowledged_ms;
	for (unsigned i = 1; i <= 3; i++) {
		reporter_down(f->reporter);
		hear(f, 1, ADVERT_FLAG_ASKS, -20);
		hear(f, 3, 0, -20);
		/* What the old connection still brings does not count. */
		if (i == 2)
			reporter_up(f->reporter, 0);
		reporter_acknowledged(f->reporter, i == 2 ? 1 : 7);
		assert_int_equal(counters(f).batches, 0);
		reporter_up(f->reporter, 0);
		assert_true(f->wanted > 0);
		again = next(f);
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
		assert_int_equal(counters(f).resent, i);
		assert_int_equal(counters(f).unacknowledged_ms, since);
	}
	reporter_acknowledged(f->reporter, 1);
	assert_int_equal(counters(f).batches, 1);
	assert_int_equal(counters(f).sightings, 2);
	assert_int_equal(counters(f).adverts, 2);
	again = next(f);
	assert_int_equal(again->batch, 2);
	assert_int_equal(again->n, 2);
	assert_int_equal(again->sightings[0].count, 3);
	assert_int_equal(again->sightings[1].count, 3);
	reporter_acknowledged(f->reporter, 2);
	assert_int_equal(counters(f).adverts, 8);
	assert_int_equal(counters(f).resent, 3);
	assert_true(reporter_idle(f->reporter));
	teardown(f);
}

/* Batch after batch, until all have gone. */
static void more_devices_than_a_batch_holds(void **state)
{
	static const size_t sizes[] = {MESSAGE_SIGHTINGS_MAX, MESSAGE_SIGHTINGS_MAX, 50};
	struct fixture *f = setup(INTERVAL_MS);
	unsigned number = 0;

	(void)state;
	for (unsigned i = 0; i < 2 * MESSAGE_SIGHTINGS_MAX + 50; i++)
		hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	for (size_t b = 0; b < ARRAY_SIZE(sizes); b++) {
		const struct sent *sent = next(f);
		unsigned wanted = f->wanted;

		assert_int_equal(sent->batch, b + 1);
		assert_int_equal(sent->n, sizes[b]);
		for (size_t i = 0; i < sent->n; i++)
			assert_int_equal(sent->sightings[i].number, number++);
		reporter_acknowledged(f->reporter, b + 1);
		assert_int_equal(f->wanted, wanted + (b < 2));
	}
	expect_none(f);
	assert_true(reporter_idle(f->reporter));
	assert_int_equal(counters(f).sightings, number);
	teardown(f);
}

/* Exactly as many devices as one batch holds, and nothing after them. */
static void as_many_devices_as_a_batch_holds(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);

	(void)state;
	for (unsigned i = 0; i < MESSAGE_SIGHTINGS_MAX; i++)
		hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(next(f)->n, MESSAGE_SIGHTINGS_MAX);
	reporter_acknowledged(f->reporter, 1);
	expect_none(f);
	hear(f, 0, 0, -70); /* it stays: that waits for the next report */
	expect_none(f);
	reporter_flush(f->reporter);
	assert_int_equal(next(f)->batch, 2);
	teardown(f);
}

/* A report tells of each device once, however fast they advertise. */
static void a_report_ends(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);
	unsigned batches = 0;

	(void)state;
	for (unsigned i = 0; i < 250; i++)
		hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	while (reporter_next_message(f->reporter, f->message, sizeof(f->message)) > 0) {
		batches++;
		assert_true(batches <= 3);
		for (unsigned i = 0; i < 250; i++)
			hear(f, i, 0, -70); /* all of them, within the time of one answer */
		reporter_acknowledged(f->reporter, batches);
	}
	assert_int_equal(batches, 3);
	teardown(f);
}

/* News does not wait for the report interval, and goes without what does. */
static void news_go_at_once(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);
	const struct sent *sent;

	(void)state;
	hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	next(f);
	reporter_acknowledged(f->reporter, 1);
	f->wanted = 0;
	hear(f, 1, 0, -70);
	hear(f, 2, 0, -70);
	hear(f, 3, 0, -70);
	assert_int_equal(f->wanted, 0); /* what comes together goes together */
	expect_none(f);
	run_until_wanted(f);
	sent = next(f);
	assert_int_equal(sent->batch, 2);
	assert_int_equal(sent->n, 2);
	assert_int_equal(sent->sightings[0].number, 2);
	assert_int_equal(sent->sightings[1].number, 3);
	reporter_acknowledged(f->reporter, 2);
	expect_none(f);
	assert_false(reporter_idle(f->reporter)); /* device 1 waits */
	teardown(f);
}

/* News that came while a batch was out follow its acknowledgement. */
static void news_follow_the_batch(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);

	(void)state;
	hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	next(f);
	hear(f, 1, ADVERT_FLAG_ASKS, -70);
	f->wanted = 0;
	reporter_acknowledged(f->reporter, 1);
	run_until_wanted(f);
	assert_int_equal(next(f)->sightings[0].data[0], ADVERT_FLAG_ASKS);
	teardown(f);
}

static void reports_at_the_interval(void **state)
{
	struct fixture *f = setup(20);
	const struct sent *sent;

	(void)state;
	hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	next(f);
	reporter_acknowledged(f->reporter, 1);
	hear(f, 1, 0, -70);
	expect_none(f);
	run_until_wanted(f);
	sent = next(f);
	assert_int_equal(sent->batch, 2);
	assert_int_equal(sent->sightings[0].state, MESSAGE_PRESENT);
	teardown(f);
}

static void on_first_deadline(void *userdata)
{
	struct fixture *f = userdata;

	loop_quit(f->loop);
}

/* The cloud can only make reports less frequent, and not before the configured interval. */
static void the_cloud_slows_reports_down(void **state)
{
	struct fixture *f = setup(5);
	struct loop_timer timer;

	(void)state;
	reporter_up(f->reporter, UINT64_MAX);
	f->wanted = 0;
	loop_timer_init(f->loop, &timer, on_first_deadline, f);
	loop_timer_start(&timer, 100);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->wanted, 0);
	teardown(f);

	f = setup(INTERVAL_MS);
	reporter_up(f->reporter, 1);
	f->wanted = 0;
	loop_timer_init(f->loop, &timer, on_first_deadline, f);
	loop_timer_start(&timer, 50);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->wanted, 0);
	teardown(f);
}

/* Nothing is asked for after the connection went. */
static void down_stops_reports(void **state)
{
	struct fixture *f = setup(5);
	struct loop_timer timer;

	(void)state;
	hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	reporter_down(f->reporter);
	f->wanted = 0;
	hear(f, 2, 0, -70);
	loop_timer_init(f->loop, &timer, on_first_deadline, f);
	loop_timer_start(&timer, 60);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->wanted, 0);
	teardown(f);
}

/* Devices that stay are not reported at any interval, but what is heard of them goes with their
 * news, and all of it at a reconnect. */
static void no_regular_reports(void **state)
{
	struct fixture *f = setup(0);
	const struct sent *sent;
	struct loop_timer timer;

	(void)state;
	hear(f, 1, 0, -70);
	hear(f, 2, 0, -70);
	reporter_up(f->reporter, 1); /* the cloud cannot switch them on */
	assert_int_equal(next(f)->n, 2);
	reporter_acknowledged(f->reporter, 1);
	hear(f, 1, 0, -70);
	hear(f, 2, 0, -70);
	f->wanted = 0;
	loop_timer_init(f->loop, &timer, on_first_deadline, f);
	loop_timer_start(&timer, 50);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->wanted, 0);
	expect_none(f);
	reporter_down(f->reporter);
	hear(f, 1, ADVERT_FLAG_ASKS, -70);
	reporter_up(f->reporter, 0);
	sent = next(f);
	assert_int_equal(sent->n, 2);
	assert_int_equal(sent->sightings[0].count, 2);
	reporter_acknowledged(f->reporter, 2);
	hear(f, 1, ADVERT_FLAG_ASKS, -70);
	reporter_flush(f->reporter); /* at the stop */
	assert_int_equal(next(f)->n, 1);
	teardown(f);
}

static void no_regular_reports_but_news(void **state)
{
	struct fixture *f = setup(0);
	const struct sent *sent;

	(void)state;
	hear(f, 1, 0, -70);
	hear(f, 2, 0, -70);
	reporter_up(f->reporter, 0);
	next(f);
	reporter_acknowledged(f->reporter, 1);
	for (unsigned i = 0; i < 5; i++) {
		hear(f, 1, 0, -70);
		hear(f, 2, 0, -70);
	}
	hear(f, 1, ADVERT_FLAG_ASKS, -70);
	run_until_wanted(f);
	sent = next(f);
	assert_int_equal(sent->n, 1);
	assert_int_equal(sent->sightings[0].number, 1);
	assert_int_equal(sent->sightings[0].count, 6);
	teardown(f);
}

static struct fixture *setup_budget(uint64_t bytes_per_day)
{
	return setup_config(&(struct reporter_config){.interval_ms = INTERVAL_MS,
						      .bytes_per_day = bytes_per_day});
}

static struct reporter_budget budget_of(struct fixture *f)
{
	struct reporter_budget ret;

	reporter_get_budget(f->reporter, &ret);
	return ret;
}

static void a_budget_is_optional(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);

	(void)state;
	assert_int_equal(budget_of(f).per_day, 0);
	assert_int_equal(budget_of(f).left, 0);
	assert_int_equal(budget_of(f).until_ms, 0);
	teardown(f);
}

/* More than there ever is for at once: as many as there is for, and the rest waits. */
static void a_budget_makes_batches_smaller(void **state)
{
	struct fixture *f = setup_budget(10000);
	uint64_t left = budget_of(f).left, now_ms;

	(void)state;
	assert_int_equal(left, 10000 / 24);
	for (unsigned i = 0; i < 10; i++)
		hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(next(f)->n, 4);
	assert_true(budget_of(f).left < left - 4 * 50);
	assert_int_equal(budget_of(f).until_ms, 0);
	assert_false(reporter_idle(f->reporter)); /* an acknowledgement is to come */
	reporter_acknowledged(f->reporter, 1);
	expect_none(f);
	now_ms = util_now_ms();
	assert_in_range(budget_of(f).until_ms, now_ms + 60000, now_ms + 3600000);
	assert_true(reporter_idle(f->reporter)); /* the end does not wait for it */
	/* Nor does it wait while there is no connection. */
	reporter_down(f->reporter);
	assert_int_equal(budget_of(f).until_ms, 0);
	assert_false(reporter_idle(f->reporter));
	teardown(f);
}

/* What is sent again is paid for again. */
static void a_budget_holds_back_what_goes_again(void **state)
{
	struct fixture *f = setup_budget(10000);

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(next(f)->n, 4);
	reporter_down(f->reporter);
	reporter_up(f->reporter, 0);
	expect_none(f);
	assert_true(budget_of(f).until_ms > 0);
	assert_int_equal(counters(f).resent, 0);
	assert_true(reporter_idle(f->reporter));
	teardown(f);
}

/* News alone may be paid for where all that is due may not. */
static void a_budget_prefers_news(void **state)
{
	struct fixture *f = setup_budget(24000);
	const struct sent *sent;

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(next(f)->n, 8);
	reporter_acknowledged(f->reporter, 1);
	for (unsigned i = 0; i < 8; i++)
		hear(f, i, 0, -70);
	reporter_flush(f->reporter);
	expect_none(f);
	hear(f, 9, 0, -70);
	run_until_wanted(f);
	sent = next(f);
	assert_int_equal(sent->n, 1);
	assert_int_equal(sent->sightings[0].number, 9);
	assert_int_equal(budget_of(f).until_ms, 0);
	reporter_acknowledged(f->reporter, 2);
	expect_none(f);
	assert_true(budget_of(f).until_ms > 0);
	teardown(f);
}

/* A report that waited goes as soon as there is enough for it, and what was heard meanwhile too. */
static void a_budget_fills_again(void **state)
{
	struct fixture *f = setup_budget(10000000);
	uint64_t batch = 1, until_ms;

	(void)state;
	hear(f, 1, 0, -70);
	for (reporter_up(f->reporter, 0);; batch++) {
		reporter_flush(f->reporter);
		if (reporter_next_message(f->reporter, f->message, sizeof(f->message)) == 0)
			break;
		reporter_acknowledged(f->reporter, batch);
		hear(f, 1, 0, -70);
		assert_true(batch < 10000);
	}
	assert_true(batch > 1000);
	until_ms = budget_of(f).until_ms;
	assert_true(until_ms > 0);
	hear(f, 1, 0, -70);
	f->wanted = 0;
	run_until_wanted(f);
	assert_true(util_now_ms() >= until_ms);
	assert_int_equal(next(f)->sightings[0].count, 2);
	teardown(f);
}

/* Another interval and another budget count from then on. */
static void is_configured_anew(void **state)
{
	struct fixture *f = setup_budget(10000);

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(next(f)->n, 4);
	reporter_acknowledged(f->reporter, 1);
	expect_none(f);
	f->wanted = 0;
	reporter_configure(f->reporter, &(struct reporter_config){.interval_ms = 20});
	assert_int_equal(f->wanted, 1);
	assert_int_equal(budget_of(f).per_day, 0);
	assert_int_equal(next(f)->n, 6);
	reporter_acknowledged(f->reporter, 2);
	hear(f, 1, 0, -70);
	expect_none(f);
	run_until_wanted(f);
	assert_int_equal(next(f)->sightings[0].state, MESSAGE_PRESENT);
	teardown(f);
}

/* A batch that an earlier agent left goes first, with its number, and costs what it costs. */
static void goes_on_with_a_batch(void **state)
{
	struct fixture *f = setup_budget(10000);
	const struct sent *sent;

	(void)state;
	for (unsigned i = 1; i <= 20; i++) {
		struct device_span span = {
			.count = i,
			.first_ms = util_now_ms() - 2000,
			.last_ms = util_now_ms() - 1000,
			.state = DEVICE_STATE_PRESENT,
		};

		span.data[2] = 0x77;
		span.data[17] = (uint8_t)i;
		devices_restore(f->devices, &span, i <= 15);
	}
	reporter_restore(f->reporter, UINT64_C(1) << 40);
	assert_true(reporter_batch(f->reporter) == UINT64_C(1) << 40);
	assert_false(reporter_idle(f->reporter));
	reporter_acknowledged(f->reporter, UINT64_C(1) << 40); /* not before it is sent */
	assert_int_equal(counters(f).batches, 0);
	reporter_up(f->reporter, 0);
	sent = next(f);
	assert_true(sent->batch == UINT64_C(1) << 40);
	assert_int_equal(sent->n, 15);
	assert_int_equal(sent->sightings[14].count, 15);
	assert_in_range(sent->sightings[14].first_age_ms, 2000, 10000);
	assert_int_equal(counters(f).resent, 1);
	assert_int_equal(counters(f).resent_sightings, 15);
	reporter_acknowledged(f->reporter, UINT64_C(1) << 40);
	assert_int_equal(counters(f).adverts, 120);
	/* More than the budget has at once, so the next waits for longer. */
	expect_none(f);
	assert_true(budget_of(f).until_ms > util_now_ms() + 3600000);
	teardown(f);
}

static void tells_of_lost_devices(void **state)
{
	struct fixture *f = setup(INTERVAL_MS);
	const struct sent *sent;

	(void)state;
	hear(f, 1, 0, -70);
	reporter_up(f->reporter, 0);
	next(f);
	reporter_acknowledged(f->reporter, 1);
	devices_expire(f->devices, util_now_ms() + 60000);
	reporter_changed(f->reporter);
	reporter_flush(f->reporter);
	sent = next(f);
	assert_int_equal(sent->n, 1);
	assert_int_equal(sent->sightings[0].state, MESSAGE_LOST);
	assert_int_equal(sent->sightings[0].count, 0);
	assert_int_equal(sent->sightings[0].rssi[0], -70);
	teardown(f);
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
		cmocka_unit_test(no_regular_reports),
		cmocka_unit_test(no_regular_reports_but_news),
		cmocka_unit_test(a_budget_is_optional),
		cmocka_unit_test(a_budget_makes_batches_smaller),
		cmocka_unit_test(a_budget_holds_back_what_goes_again),
		cmocka_unit_test(a_budget_prefers_news),
		cmocka_unit_test(a_budget_fills_again),
		cmocka_unit_test(is_configured_anew),
		cmocka_unit_test(goes_on_with_a_batch),
		cmocka_unit_test(tells_of_lost_devices),
		cmocka_unit_test(free_takes_null),
	};

	return cmocka_run_group_tests_name("reporter", tests, NULL, NULL);
}
