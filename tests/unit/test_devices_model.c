/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* A random sequence against a model that has no lists and no hash. */

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
	assert_int_equal(devices_urgent(devices) > 0, urgent);
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
		cmocka_unit_test(random_sequence),
	};

	return cmocka_run_group_tests_name("devices_model", tests, NULL, NULL);
}
