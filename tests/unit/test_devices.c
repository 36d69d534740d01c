/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void appears(void **state)
{
	struct devices *devices = make(16);
	const struct device_span *sent;
	struct device *device;

	(void)state;
	assert_null(find(devices, 1));
	assert_false(devices_urgent(devices));
	device = hear(devices, 1000, 1, ADVERT_FLAG_ASKS, -70, 9);
	assert_non_null(device);
	assert_ptr_equal(find(devices, 1), device);
	assert_int_equal(device->state, DEVICE_STATE_PRESENT);
	assert_int_equal(device->advert.flags, ADVERT_FLAG_ASKS);
	assert_int_equal(device->address.bytes[5], 9);
	assert_true(device->address.random);
	assert_int_equal(device->adapter, 1);
	assert_int_equal(device->count, 1);
	assert_true(devices_urgent(devices));
	assert_int_equal(counters(devices).known, 1);
	assert_int_equal(counters(devices).present, 1);
	assert_int_equal(counters(devices).dirty, 1);

	hear(devices, 1500, 1, ADVERT_FLAG_ASKS, -60, 10);
	hear(devices, 2000, 1, ADVERT_FLAG_ASKS, -80, 11);
	sent = only_sent(devices);
	assert_int_equal(sent->state, DEVICE_STATE_APPEARED);
	assert_int_equal(sent->count, 3);
	assert_int_equal(sent->first_ms, 1000);
	assert_int_equal(sent->last_ms, 2000);
	assert_int_equal(sent->rssi.last, -80);
	assert_int_equal(sent->rssi.min, -80);
	assert_int_equal(sent->rssi.max, -60);
	assert_int_equal(sent->adapter, 1);
	assert_int_equal(sent->data[0], ADVERT_FLAG_ASKS);
	assert_int_equal(sent->data[19], 11);
	assert_false(devices_urgent(devices));
	assert_int_equal(counters(devices).dirty, 0);
	devices_batch_done(devices);
	assert_int_equal(devices_batch_begin(devices, 100, false), 0);
	devices_free(devices);
}

static void stays(void **state)
{
	struct devices *devices = make(16);
	const struct device_span *sent;

	(void)state;
	hear(devices, 1000, 1, 0, -70, 0);
	only_sent(devices);
	devices_batch_done(devices);
	hear(devices, 2000, 1, 0, -50, 0);
	hear(devices, 3000, 1, 0, -55, 0);
	assert_false(devices_urgent(devices));
	assert_int_equal(devices_batch_begin(devices, 100, true), 0);
	sent = only_sent(devices);
	assert_int_equal(sent->state, DEVICE_STATE_PRESENT);
	assert_int_equal(sent->count, 2);
	assert_int_equal(sent->first_ms, 2000);
	assert_int_equal(sent->last_ms, 3000);
	assert_int_equal(sent->rssi.min, -55);
	assert_int_equal(sent->rssi.max, -50);
	devices_batch_done(devices);
	/* Of the device itself, since it appeared. */
	assert_int_equal(find(devices, 1)->count, 3);
	assert_int_equal(find(devices, 1)->first_ms, 1000);
	assert_int_equal(find(devices, 1)->rssi.min, -70);
	devices_free(devices);
}

static void is_lost(void **state)
{
	struct devices *devices = make(16);
	const struct device_span *sent;

	(void)state;
	assert_true(devices_expire(devices, 5000) == UINT64_MAX);
	hear(devices, 1000, 1, 0, -70, 7);
	hear(devices, 1500, 2, 0, -71, 0);
	devices_batch_begin(devices, 100, false);
	devices_batch_done(devices);
	assert_int_equal(devices_expire(devices, 1000 + LOST_AFTER_MS - 1), 1000 + LOST_AFTER_MS);
	assert_int_equal(find(devices, 1)->state, DEVICE_STATE_PRESENT);
	assert_int_equal(devices_expire(devices, 1000 + LOST_AFTER_MS), 1500 + LOST_AFTER_MS);
	assert_int_equal(find(devices, 1)->state, DEVICE_STATE_LOST);
	assert_int_equal(find(devices, 2)->state, DEVICE_STATE_PRESENT);
	assert_int_equal(counters(devices).present, 1);
	assert_int_equal(counters(devices).known, 2);
	assert_true(devices_urgent(devices));
	sent = only_sent(devices);
	assert_int_equal(sent->state, DEVICE_STATE_LOST);
	assert_int_equal(sent->count, 0);
	assert_int_equal(sent->first_ms, 1000);
	assert_int_equal(sent->last_ms, 1000);
	assert_int_equal(sent->rssi.last, -70);
	assert_int_equal(sent->data[19], 7);
	assert_int_equal(sent->adapter, 1);
	devices_batch_done(devices);
	/* It is lost once. */
	assert_int_equal(devices_expire(devices, 1000 + LOST_AFTER_MS + 1), 1500 + LOST_AFTER_MS);
	assert_false(devices_urgent(devices));
	devices_free(devices);
}

static void another_time_until_it_is_lost(void **state)
{
	struct devices *devices = make(16);

	(void)state;
	hear(devices, 1000, 1, 0, -70, 0);
	devices_configure(devices, 500);
	assert_int_equal(devices_expire(devices, 1499), 1500);
	assert_true(devices_expire(devices, 1500) == UINT64_MAX);
	assert_int_equal(find(devices, 1)->state, DEVICE_STATE_LOST);
	devices_free(devices);
}

/* Lost before the cloud was told that it is there: one sighting tells both. */
static void is_lost_untold(void **state)
{
	struct devices *devices = make(16);
	const struct device_span *sent;

	(void)state;
	hear(devices, 1000, 1, 0, -70, 0);
	hear(devices, 2000, 1, 0, -60, 0);
	assert_true(devices_expire(devices, 2000 + LOST_AFTER_MS) == UINT64_MAX);
	sent = only_sent(devices);
	assert_int_equal(sent->state, DEVICE_STATE_LOST);
	assert_int_equal(sent->count, 2);
	assert_int_equal(sent->first_ms, 1000);
	assert_int_equal(sent->last_ms, 2000);
	devices_batch_done(devices);
	devices_free(devices);
}

static void reappears(void **state)
{
	struct devices *devices = make(16);
	const struct device_span *sent;

	(void)state;
	hear(devices, 1000, 1, 0, -40, 0);
	only_sent(devices);
	devices_batch_done(devices);
	devices_expire(devices, 100000);
	only_sent(devices);
	devices_batch_done(devices);
	hear(devices, 200000, 1, 0, -80, 0);
	assert_true(devices_urgent(devices));
	assert_int_equal(counters(devices).present, 1);
	assert_int_equal(find(devices, 1)->state, DEVICE_STATE_PRESENT);
	assert_int_equal(find(devices, 1)->first_ms, 200000);
	assert_int_equal(find(devices, 1)->rssi.max, -80); /* since it is back */
	sent = only_sent(devices);
	assert_int_equal(sent->state, DEVICE_STATE_APPEARED);
	assert_int_equal(sent->count, 1);
	assert_int_equal(sent->first_ms, 200000);
	assert_int_equal(sent->rssi.max, -80);
	devices_batch_done(devices);
	devices_free(devices);
}

/* Lost and back before anything could be told: it appeared, and its times are right. */
static void reappears_untold(void **state)
{
	struct devices *devices = make(16);
	const struct device_span *sent;

	(void)state;
	hear(devices, 1000, 1, 0, -40, 0);
	only_sent(devices);
	devices_batch_done(devices);
	devices_expire(devices, 100000);
	hear(devices, 200000, 1, 0, -80, 0);
	hear(devices, 200001, 1, 0, -81, 0);
	sent = only_sent(devices);
	assert_int_equal(sent->state, DEVICE_STATE_APPEARED);
	assert_int_equal(sent->count, 2);
	assert_int_equal(sent->first_ms, 200000);
	assert_int_equal(sent->last_ms, 200001);
	assert_int_equal(sent->rssi.max, -80); /* not that of the time before */
	devices_batch_done(devices);

	/* The same with adverts that wait. */
	hear(devices, 300000, 1, 0, -50, 0);
	devices_expire(devices, 400000);
	hear(devices, 500000, 1, 0, -60, 0);
	sent = only_sent(devices);
	assert_int_equal(sent->state, DEVICE_STATE_APPEARED);
	assert_int_equal(sent->count, 2);
	assert_int_equal(sent->first_ms, 300000);
	assert_int_equal(sent->last_ms, 500000);
	devices_batch_done(devices);
	devices_free(devices);
}

static void changed_flags_are_urgent(void **state)
{
	struct devices *devices = make(16);

	(void)state;
	hear(devices, 1000, 1, 0, -70, 0);
	hear(devices, 1000, 2, 0, -70, 0);
	devices_batch_begin(devices, 100, false);
	devices_batch_done(devices);
	hear(devices, 2000, 1, 0, -70, 1); /* other data, the same flags */
	hear(devices, 2000, 2, 0, -70, 0);
	assert_false(devices_urgent(devices));
	hear(devices, 3000, 2, ADVERT_FLAG_ASKS, -70, 0);
	assert_true(devices_urgent(devices));
	assert_int_equal(devices_batch_begin(devices, 100, true), 1);
	assert_int_equal(batch_of(devices)->numbers[0], 2);
	assert_int_equal(batch_of(devices)->devices[0]->sent.state, DEVICE_STATE_PRESENT);
	assert_int_equal(batch_of(devices)->devices[0]->sent.count, 2);
	assert_int_equal(batch_of(devices)->devices[0]->sent.data[0], ADVERT_FLAG_ASKS);
	assert_false(devices_urgent(devices));
	/* Back again while that is on its way. */
	hear(devices, 4000, 2, 0, -70, 0);
	assert_true(devices_urgent(devices));
	devices_batch_done(devices);
	assert_int_equal(devices_batch_begin(devices, 100, true), 1);
	assert_int_equal(batch_of(devices)->devices[0]->sent.data[0], 0);
	devices_batch_done(devices);
	assert_int_equal(devices_batch_begin(devices, 100, false), 1);
	assert_int_equal(batch_of(devices)->numbers[0], 1);
	devices_batch_done(devices);
	devices_free(devices);
}

/* What is in a batch is what was sent, whatever is heard until it is acknowledged. */
static void a_batch_keeps_its_content(void **state)
{
	struct devices *devices = make(16);
	struct device_span before[3];

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		hear(devices, 1000 + i, i, 0, -70, (uint8_t)i);
	assert_int_equal(devices_batch_begin(devices, 100, false), 3);
	for (unsigned i = 0; i < 3; i++)
		before[i] = batch_of(devices)->devices[i]->sent;
	hear(devices, 2000, 2, ADVERT_FLAG_ASKS, -20, 99);
	hear(devices, 2001, 0, 0, -90, 98);
	hear(devices, 2002, 7, 0, -90, 98); /* a new one */
	devices_expire(devices, 2000 + LOST_AFTER_MS);
	hear(devices, 100000, 1, 0, -30, 97);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(batch_of(devices)->numbers[i], i);
		assert_memory_equal(&batch_of(devices)->devices[i]->sent, &before[i],
				    sizeof(before[i]));
	}
	assert_int_equal(batch_of(devices)->n, 3);
	devices_batch_done(devices);
	assert_int_equal(batch_of(devices)->n, 0);

	/* Meanwhile went on, and tells only what the first batch did not. */
	assert_int_equal(devices_batch_begin(devices, 100, false), 4);
	for (size_t i = 0; i < 4; i++) {
		static const enum device_state expected[] = {
			[0] = DEVICE_STATE_PRESENT,
			[1] = DEVICE_STATE_APPEARED,
			[2] = DEVICE_STATE_LOST,
			[7] = DEVICE_STATE_APPEARED,
		};
		const struct listing *batch = batch_of(devices);

		assert_int_equal(batch->devices[i]->sent.count, 1);
		assert_int_equal(batch->devices[i]->sent.state, expected[batch->numbers[i]]);
	}
	devices_batch_done(devices);
	devices_free(devices);
}

static void a_batch_takes_up_to_max(void **state)
{
	struct devices *devices = make(64);
	unsigned next = 0;

	(void)state;
	for (unsigned i = 0; i < 25; i++)
		hear(devices, 1000, i, 0, -70, 0);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(devices_batch_begin(devices, 10, round % 2 == 0),
				 round < 2 ? 10 : 5);
		/* First come, first told. */
		for (size_t i = 0; i < batch_of(devices)->n; i++)
			assert_int_equal(batch_of(devices)->numbers[i], next++);
		assert_int_equal(counters(devices).dirty, 25 - next);
		devices_batch_done(devices);
	}
	assert_int_equal(devices_batch_begin(devices, 10, false), 0);
	assert_int_equal(devices_batch_begin(devices, 0, false), 0);
	devices_free(devices);
}

static void rssi_may_be_missing(void **state)
{
	struct devices *devices = make(16);
	const struct device_span *sent;

	(void)state;
	hear(devices, 1000, 1, 0, BLE_RSSI_NONE, 0);
	sent = only_sent(devices);
	assert_int_equal(sent->rssi.last, BLE_RSSI_NONE);
	assert_int_equal(sent->rssi.min, BLE_RSSI_NONE);
	assert_int_equal(sent->rssi.max, BLE_RSSI_NONE);
	devices_batch_done(devices);
	/* The ones that were available count. */
	hear(devices, 2000, 1, 0, BLE_RSSI_NONE, 0);
	hear(devices, 2001, 1, 0, -128, 0);
	hear(devices, 2002, 1, 0, BLE_RSSI_NONE, 0);
	hear(devices, 2003, 1, 0, 20, 0);
	hear(devices, 2004, 1, 0, -60, 0);
	hear(devices, 2005, 1, 0, BLE_RSSI_NONE, 0);
	sent = only_sent(devices);
	assert_int_equal(sent->count, 6);
	assert_int_equal(sent->rssi.last, -60);
	assert_int_equal(sent->rssi.min, -128);
	assert_int_equal(sent->rssi.max, 20);
	devices_batch_done(devices);
	devices_free(devices);
}

/* The one heard least recently makes room, and what nobody was told of it is counted. */
static void evicts_the_oldest(void **state)
{
	struct devices *devices = make(16);

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		hear(devices, 1000 + i, i, 0, -70, 0);
	hear(devices, 2000, 0, 0, -70, 0); /* so 1 is the oldest now, with one advert */
	hear(devices, 2001, 2, 0, -70, 0);
	assert_int_equal(counters(devices).evicted, 0);
	hear(devices, 3000, 100, 0, -70, 0);
	assert_null(find(devices, 1));
	assert_non_null(find(devices, 0));
	assert_int_equal(counters(devices).known, 16);
	assert_int_equal(counters(devices).present, 16);
	assert_int_equal(counters(devices).dirty, 16);
	assert_int_equal(counters(devices).evicted, 1);
	assert_int_equal(counters(devices).evicted_adverts, 1);
	for (unsigned i = 0; i < 14; i++)
		hear(devices, 3001 + i, 101 + i, 0, -70, 0);
	assert_null(find(devices, 0)); /* had two */
	assert_non_null(find(devices, 2));
	assert_int_equal(counters(devices).evicted, 15);
	assert_int_equal(counters(devices).evicted_adverts, 16);
	/* What was told of counts no more. */
	assert_int_equal(devices_batch_begin(devices, 100, false), 16);
	devices_batch_done(devices);
	hear(devices, 4000, 200, 0, -70, 0);
	assert_null(find(devices, 2));
	assert_int_equal(counters(devices).evicted, 16);
	assert_int_equal(counters(devices).evicted_adverts, 16);
	devices_free(devices);
}

static void never_evicts_from_the_batch(void **state)
{
	struct devices *devices = make(16);

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		hear(devices, 1000 + i, i, 0, -70, 0);
	assert_int_equal(devices_batch_begin(devices, 15, false), 15);
	hear(devices, 2000, 100, 0, -70, 0);
	assert_null(find(devices, 15)); /* the only one that is not in it */
	assert_int_equal(batch_of(devices)->n, 15);
	hear(devices, 2001, 101, 0, -70, 0);
	assert_null(find(devices, 100));
	devices_batch_done(devices);

	assert_int_equal(devices_batch_begin(devices, 100, false), 1);
	devices_batch_done(devices);
	for (unsigned i = 0; i < 15; i++)
		hear(devices, 3000, i, 0, -70, 0);
	hear(devices, 3000, 101, 0, -70, 0);
	assert_int_equal(devices_batch_begin(devices, 100, false), 16);
	/* No room at all. The advert is lost, and counted. */
	assert_null(hear(devices, 4000, 102, 0, -70, 0));
	assert_null(find(devices, 102));
	assert_int_equal(counters(devices).known, 16);
	assert_int_equal(counters(devices).evicted_adverts, 3);
	assert_non_null(hear(devices, 4001, 3, 0, -70, 0)); /* one that is known has its place */
	devices_batch_done(devices);
	assert_non_null(hear(devices, 4002, 102, 0, -70, 0));
	devices_free(devices);
}

/* An urgent device that is evicted leaves nothing behind. */
static void eviction_ends_urgency(void **state)
{
	struct devices *devices = make(16);

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		hear(devices, 1000 + i, i, 0, -70, 0);
	devices_batch_begin(devices, 100, false);
	devices_batch_done(devices);
	hear(devices, 1100, 0, ADVERT_FLAG_ASKS, -70, 0);
	for (unsigned i = 1; i < 16; i++)
		hear(devices, 2000 + i, i, 0, -70, 0);
	assert_true(devices_urgent(devices));
	hear(devices, 3000, 100, 0, -70, 0);
	assert_null(find(devices, 0));
	assert_int_equal(devices_batch_begin(devices, 100, true), 1);
	assert_int_equal(batch_of(devices)->numbers[0], 100);
	assert_false(devices_urgent(devices));
	devices_batch_done(devices);
	devices_free(devices);
}

static void lists_the_oldest_first(void **state)
{
	static const unsigned expected[] = {1, 3, 4, 0, 2};
	struct devices *devices = make(16);

	(void)state;
	assert_int_equal(all_of(devices)->n, 0);
	for (unsigned i = 0; i < 5; i++)
		hear(devices, 1000 + i, i, 0, -70, 0);
	hear(devices, 2000, 0, 0, -70, 0);
	hear(devices, 2001, 2, 0, -70, 0);
	assert_int_equal(all_of(devices)->n, 5);
	assert_memory_equal(all_of(devices)->numbers, expected, sizeof(expected));
	devices_free(devices);
}

/* As many as the table was made for, in a table that is no power of two. */
static void finds_them_all(void **state)
{
	struct devices *devices = make(1000);

	(void)state;
	for (unsigned i = 0; i < 1500; i++)
		assert_non_null(hear(devices, i, i, 0, -70, 0));
	for (unsigned i = 0; i < 1500; i++)
		assert_int_equal(find(devices, i) != NULL, i >= 500);
	assert_int_equal(counters(devices).known, 1000);
	assert_int_equal(counters(devices).evicted, 500);
	devices_free(devices);
}

/* A device that failed waits for as long as it was told to, and says why. */
static void remembers_a_failure(void **state)
{
	struct devices *devices = make(16);
	struct device *device = hear(devices, 1000, 1, 0, -70, 0);
	char reason[] = "no answer";

	(void)state;
	assert_int_equal(device->failures, 0);
	assert_int_equal(device->retry_ms, 0);
	assert_null(device->failure);
	device_failed(device, 5000, 250, reason);
	memset(reason, 'x', sizeof(reason) - 1); /* it is copied */
	assert_int_equal(device->failures, 1);
	assert_int_equal(device->failed_ms, 5000);
	assert_int_equal(device->retry_ms, 5250);
	assert_string_equal(device->failure, "no answer");
	/* The last one counts. */
	device_failed(device, 6000, UINT32_MAX, "");
	device_failed(device, 7000, 0, "a reason that is longer than the one before it");
	assert_int_equal(device->failures, 3);
	assert_int_equal(device->failed_ms, 7000);
	assert_int_equal(device->retry_ms, 7000);
	assert_string_equal(device->failure, "a reason that is longer than the one before it");
	device_failed(device, 8000, UINT32_MAX, device->failure);
	assert_int_equal(device->retry_ms, UINT64_C(8000) + UINT32_MAX);
	assert_string_equal(device->failure, "a reason that is longer than the one before it");
	/* Neither adverts nor silence change that, and nobody is told. */
	devices_batch_begin(devices, 100, false);
	devices_batch_done(devices);
	devices_expire(devices, 1000000);
	assert_ptr_equal(hear(devices, 1000001, 1, ADVERT_FLAG_ASKS, -70, 0), device);
	assert_int_equal(device->failures, 4);
	assert_int_equal(device->failed_ms, 8000);
	devices_free(devices);
}

/* Its failure goes with a device that makes room, and with the table: LeakSanitizer looks. */
static void forgets_failures_with_the_device(void **state)
{
	struct devices *devices = make(16);

	(void)state;
	for (unsigned i = 0; i < 16; i++)
		device_failed(hear(devices, 1000 + i, i, 0, -70, 0), 2000, 10, "gone");
	for (unsigned i = 16; i < 24; i++)
		assert_null(hear(devices, 3000 + i, i, 0, -70, 0)->failure);
	assert_null(find(devices, 0));
	assert_non_null(find(devices, 15)->failure);
	/* One that comes back starts without. */
	assert_int_equal(hear(devices, 4000, 0, 0, -70, 0)->failures, 0);
	assert_int_equal(find(devices, 0)->retry_ms, 0);
	assert_null(find(devices, 0)->failure);
	devices_free(devices);
}

/* A device in a session does not advertise: it is neither lost nor the one to make room. */
static void keeps_connected_devices(void **state)
{
	struct devices *devices = make(16);
	struct device *device = hear(devices, 1000, 0, ADVERT_FLAG_ASKS, -70, 0);

	(void)state;
	devices_connected(devices, device, 1500, true);
	hear(devices, 2000, 1, 0, -70, 0);
	assert_int_equal(devices_expire(devices, 2000), 2000 + LOST_AFTER_MS);
	assert_int_equal(devices_expire(devices, 500000), 500000 + LOST_AFTER_MS);
	assert_int_equal(find(devices, 1)->state, DEVICE_STATE_LOST);
	assert_int_equal(device->state, DEVICE_STATE_PRESENT);
	for (unsigned i = 2; i < 30; i++)
		hear(devices, 500000 + i, i, 0, -70, 0);
	assert_ptr_equal(find(devices, 0), device);
	/* It was there until the session ended. */
	devices_connected(devices, device, 600000, false);
	assert_int_equal(devices_expire(devices, 600000 + LOST_AFTER_MS - 1),
			 600000 + LOST_AFTER_MS);
	assert_int_equal(device->state, DEVICE_STATE_PRESENT);
	assert_int_equal(devices_expire(devices, 600000 + LOST_AFTER_MS), UINT64_MAX);
	assert_int_equal(device->state, DEVICE_STATE_LOST);
	devices_free(devices);
}

/* Each advert that did not get a sighting of its own. */
static void counts_what_is_merged(void **state)
{
	struct devices *devices = make(16);

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		hear(devices, 1000, 1, 0, -70, 0);
	hear(devices, 1000, 2, 0, -70, 0);
	assert_int_equal(counters(devices).merged, 2);
	devices_batch_begin(devices, 100, false);
	hear(devices, 2000, 1, 0, -70, 0);
	assert_int_equal(counters(devices).merged, 2);
	hear(devices, 2000, 1, 0, -70, 0);
	assert_int_equal(counters(devices).merged, 3);
	devices_batch_done(devices);
	devices_free(devices);
}

static void names_states(void **state)
{
	(void)state;
	assert_string_equal(device_state_name(DEVICE_STATE_APPEARED), "appeared");
	assert_string_equal(device_state_name(DEVICE_STATE_PRESENT), "present");
	assert_string_equal(device_state_name(DEVICE_STATE_LOST), "lost");
}

static void free_takes_null(void **state)
{
	(void)state;
	devices_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(appears),
		cmocka_unit_test(stays),
		cmocka_unit_test(is_lost),
		cmocka_unit_test(another_time_until_it_is_lost),
		cmocka_unit_test(is_lost_untold),
		cmocka_unit_test(reappears),
		cmocka_unit_test(reappears_untold),
		cmocka_unit_test(changed_flags_are_urgent),
		cmocka_unit_test(a_batch_keeps_its_content),
		cmocka_unit_test(a_batch_takes_up_to_max),
		cmocka_unit_test(rssi_may_be_missing),
		cmocka_unit_test(evicts_the_oldest),
		cmocka_unit_test(never_evicts_from_the_batch),
		cmocka_unit_test(eviction_ends_urgency),
		cmocka_unit_test(lists_the_oldest_first),
		cmocka_unit_test(finds_them_all),
		cmocka_unit_test(remembers_a_failure),
		cmocka_unit_test(forgets_failures_with_the_device),
		cmocka_unit_test(keeps_connected_devices),
		cmocka_unit_test(counts_what_is_merged),
		cmocka_unit_test(names_states),
		cmocka_unit_test(free_takes_null),
	};

	return cmocka_run_group_tests_name("devices", tests, NULL, NULL);
}
