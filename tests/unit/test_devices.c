/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/devices.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define LOST_AFTER_MS 60000

static struct devices *make(size_t max)
{
	struct devices *devices;

	assert_int_equal(devices_new(max, LOST_AFTER_MS, &devices), 0);
	return devices;
}

static void device_id(unsigned number, uint8_t ret[16])
{
	memset(ret, 0x77, 16);
	ret[14] = (uint8_t)(number >> 8);
	ret[15] = (uint8_t)number;
}

/* An advert of device `number`; its data has the flags, and a byte that the test chooses. */
static struct device *hear(struct devices *devices, uint64_t now_ms, unsigned number, uint8_t flags,
			   int8_t rssi, uint8_t byte)
{
	struct advert advert = {.flags = flags, .data = {flags, [19] = byte}};
	struct ble_advert heard = {
		.advert = &advert,
		.address = {{1, 2, 3, 4, 5, byte}, true},
		.rssi_dbm = rssi,
		.adapter = byte % 2,
	};

	device_id(number, advert.device_id);
	memcpy(advert.data + 2, advert.device_id, 16);
	return devices_heard(devices, now_ms, &heard);
}

static struct device *find(struct devices *devices, unsigned number)
{
	uint8_t id[16];

	device_id(number, id);
	return devices_find(devices, id);
}

static unsigned number_of(const struct device *device)
{
	return (unsigned)device->advert.device_id[14] << 8 | device->advert.device_id[15];
}

struct listing {
	size_t n;
	unsigned numbers[2000];
	const struct device *devices[2000];
};

static void list(void *userdata, const struct device *device)
{
	struct listing *listing = userdata;

	assert_true(listing->n < ARRAY_SIZE(listing->numbers));
	listing->devices[listing->n] = device;
	listing->numbers[listing->n++] = number_of(device);
}

static const struct listing *batch_of(struct devices *devices)
{
	static struct listing listing;

	listing.n = 0;
	devices_batch_each(devices, list, &listing);
	return &listing;
}

static const struct listing *all_of(struct devices *devices)
{
	static struct listing listing;

	listing.n = 0;
	devices_each(devices, list, &listing);
	return &listing;
}

/* The one device of a batch that takes all there is. */
static const struct device_span *only_sent(struct devices *devices)
{
	assert_int_equal(devices_batch_begin(devices, 100, false), 1);
	assert_int_equal(batch_of(devices)->n, 1);
	return &batch_of(devices)->devices[0]->sent;
}

static struct devices_counters counters(struct devices *devices)
{
	struct devices_counters ret;

	devices_get_counters(devices, &ret);
	return ret;
}

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

/* --- A random sequence against a model that has no lists and no hash. --- */

#define MODEL_IDS 60
#define MODEL_MAX 24

struct model {
	struct model_device {
		bool known, present, dirty, urgent, in_batch;
		uint8_t flags;
		uint64_t seen; /* order */
		uint64_t last_ms;
		uint64_t pending, sent;
		enum device_state pending_state, sent_state;
	} devices[MODEL_IDS];
	uint64_t order, fed, told, evicted;
	size_t known;
	bool batch;
};

static bool model_evict(struct model *model)
{
	struct model_device *oldest = NULL;

	for (unsigned i = 0; i < MODEL_IDS; i++) {
		struct model_device *d = &model->devices[i];

		if (d->known && !d->in_batch && (!oldest || d->seen < oldest->seen))
			oldest = d;
	}
	if (!oldest)
		return false;
	model->evicted += oldest->pending;
	model->known--;
	*oldest = (struct model_device){0};
	return true;
}

static bool model_heard(struct model *model, uint64_t now_ms, unsigned number, uint8_t flags)
{
	struct model_device *d = &model->devices[number];
	bool news;

	model->fed++;
	if (!d->known) {
		if (model->known == MODEL_MAX && !model_evict(model)) {
			model->evicted++;
			return false;
		}
		model->known++;
		d->known = true;
		d->flags = flags;
	}
	news = !d->present;
	if (news)
		d->pending_state = DEVICE_STATE_APPEARED;
	else if (d->pending == 0)
		d->pending_state = DEVICE_STATE_PRESENT;
	d->urgent |= news || d->flags != flags;
	d->dirty = d->present = true;
	d->flags = flags;
	d->pending++;
	d->seen = ++model->order;
	d->last_ms = now_ms;
	return true;
}

static void model_expire(struct model *model, uint64_t now_ms)
{
	for (unsigned i = 0; i < MODEL_IDS; i++) {
		struct model_device *d = &model->devices[i];

		if (!d->present || d->last_ms + LOST_AFTER_MS > now_ms)
			continue;
		d->present = false;
		d->dirty = d->urgent = true;
		d->pending_state = DEVICE_STATE_LOST;
	}
}

static void model_done(struct model *model)
{
	for (unsigned i = 0; i < MODEL_IDS; i++) {
		struct model_device *d = &model->devices[i];

		model->told += d->sent;
		d->sent = 0;
		d->in_batch = false;
	}
	model->batch = false;
}

/* Checks the batch just begun, and takes it into the model. */
static void model_begin(struct model *model, struct devices *devices, size_t n, size_t max,
			bool urgent_only)
{
	const struct listing *batch = batch_of(devices);
	size_t due = 0;

	for (unsigned i = 0; i < MODEL_IDS; i++)
		due += urgent_only ? model->devices[i].urgent : model->devices[i].dirty;
	assert_int_equal(n, MIN(due, max));
	assert_int_equal(batch->n, n);
	for (size_t i = 0; i < n; i++) {
		struct model_device *d = &model->devices[batch->numbers[i]];

		assert_true(d->known && d->dirty && (d->urgent || !urgent_only) && !d->in_batch);
		d->in_batch = true;
		d->dirty = d->urgent = false;
		d->sent = d->pending;
		d->sent_state = d->pending_state;
		d->pending = 0;
	}
	model->batch = true;
}

static void model_compare(const struct model *model, struct devices *devices)
{
	struct devices_counters c = counters(devices);
	const struct listing *all = all_of(devices);
	uint64_t pending = 0, sent = 0, seen = 0;
	size_t dirty = 0, present = 0, in_batch = 0;
	bool urgent = false;

	assert_int_equal(all->n, model->known);
	for (size_t i = 0; i < all->n; i++) {
		const struct model_device *d = &model->devices[all->numbers[i]];
		const struct device *device = all->devices[i];

		assert_true(d->known && d->seen > seen);
		seen = d->seen;
		assert_int_equal(device->state != DEVICE_STATE_LOST, d->present);
		assert_int_equal(device->urgent, d->urgent);
		assert_int_equal(device->is_dirty, d->dirty);
		assert_int_equal(device->in_batch, d->in_batch);
		assert_int_equal(device->pending.count, d->pending);
		if (d->dirty)
			assert_int_equal(device->pending.state, d->pending_state);
		if (d->in_batch) {
			assert_int_equal(device->sent.count, d->sent);
			assert_int_equal(device->sent.state, d->sent_state);
			sent += device->sent.count;
		}
		pending += device->pending.count;
		dirty += d->dirty;
		present += d->present;
		in_batch += d->in_batch;
		urgent |= d->urgent;
	}
	assert_int_equal(c.known, model->known);
	assert_int_equal(c.dirty, dirty);
	assert_int_equal(c.present, present);
	assert_int_equal(batch_of(devices)->n, in_batch);
	assert_int_equal(devices_urgent(devices), urgent);
	assert_int_equal(c.adverts, model->fed);
	assert_int_equal(c.evicted_adverts, model->evicted);
	/* No advert is lost unnoticed, and none counts twice. */
	assert_int_equal(model->told + sent + pending + c.evicted_adverts, model->fed);
}

static void random_sequence(void **state)
{
	struct devices *devices = make(MODEL_MAX);
	struct model model = {0};
	uint64_t now_ms = 1000000;
	size_t batches = 0;

	(void)state;
	srandom(2);
	for (unsigned i = 0; i < 100000; i++) {
		unsigned what = (unsigned)random() % 100;

		now_ms += (unsigned)random() % 500;
		if (what < 95) {
			/* Few of them often, so that they stay; the rest comes and goes. */
			unsigned number = (unsigned)random() % (random() % 3 ? 12 : MODEL_IDS);
			uint8_t flags = random() % 8 ? 0 : ADVERT_FLAG_ASKS;
			struct device *device = hear(devices, now_ms, number, flags, -70, 0);

			assert_int_equal(model_heard(&model, now_ms, number, flags),
					 device != NULL);
		} else if (what < 97) {
			now_ms += what == 96 && random() % 16 == 0 ? 2 * LOST_AFTER_MS : 0;
			model_expire(&model, now_ms);
			assert_true(devices_expire(devices, now_ms) > now_ms);
		} else if (model.batch) {
			devices_batch_done(devices);
			model_done(&model);
		} else {
			size_t max = (size_t)random() % (MODEL_MAX + 6);
			bool urgent_only = random() % 2;

			model_begin(&model, devices, devices_batch_begin(devices, max, urgent_only),
				    max, urgent_only);
			batches++;
		}
		if (i % 16 == 0)
			model_compare(&model, devices);
	}
	model_compare(&model, devices);
	assert_true(batches > 1000 && model.evicted > 1000 && model.told > 10000);
	devices_free(devices);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(appears),
		cmocka_unit_test(stays),
		cmocka_unit_test(is_lost),
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
		cmocka_unit_test(names_states),
		cmocka_unit_test(free_takes_null),
		cmocka_unit_test(random_sequence),
	};

	return cmocka_run_group_tests_name("devices", tests, NULL, NULL);
}
