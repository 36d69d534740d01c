/* SPDX-License-Identifier: Apache-2.0 */
/* The device table with what an earlier agent has left. */
#include "tests/unit/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static struct device_span span_of(unsigned number, uint64_t count, enum device_state state)
{
	struct device_span span = {
		.count = count,
		.first_ms = 1000,
		.last_ms = 2000,
		.rssi = {-60, -70, -50},
		.state = state,
		.adapter = 1,
	};

	device_id(number, span.data + 2);
	return span;
}

/* A device that an earlier agent told nobody of. */
static void restores_a_device(void **state)
{
	const struct device_span span = span_of(1, 5, DEVICE_STATE_PRESENT);
	struct devices *devices = make(16);
	const struct device_span *sent;

	(void)state;
	devices_restore(devices, &span, false);
	assert_int_equal(counters(devices).kept, 1);
	assert_int_equal(counters(devices).known, 1);
	assert_int_equal(counters(devices).present, 0);
	assert_int_equal(counters(devices).dirty, 1);
	assert_int_equal(counters(devices).adverts, 0);
	assert_int_equal(devices_urgent(devices), 1);
	assert_int_equal(find(devices, 1)->state, DEVICE_STATE_LOST);
	assert_int_equal(find(devices, 1)->rssi.last, -60);
	assert_true(devices_expire(devices, 1000000) == UINT64_MAX);
	/* Its like again is no more than that: nothing counts twice. */
	devices_restore(devices, &span, false);
	assert_int_equal(counters(devices).kept, 1);
	assert_int_equal(counters(devices).evicted_adverts, 5);
	sent = only_sent(devices);
	assert_memory_equal(sent, &span, sizeof(span));
	devices_batch_done(devices);
	devices_free(devices);
}

/* Heard again before that could be told: it appeared, and one sighting tells both. */
static void hears_a_restored_device(void **state)
{
	const struct device_span span = span_of(1, 5, DEVICE_STATE_PRESENT);
	const struct device_span lost = span_of(2, 0, DEVICE_STATE_LOST);
	struct devices *devices = make(16);
	const struct listing *batch;

	(void)state;
	devices_restore(devices, &span, false);
	devices_restore(devices, &lost, false);
	assert_int_equal(hear(devices, 9000, 1, ADVERT_FLAG_ASKS, -80, 0)->count, 1);
	hear(devices, 9000, 2, 0, -80, 0);
	assert_int_equal(counters(devices).present, 2);
	assert_int_equal(counters(devices).merged, 1);
	assert_int_equal(devices_batch_begin(devices, 100, true), 2);
	batch = batch_of(devices);
	assert_int_equal(batch->devices[0]->sent.state, DEVICE_STATE_APPEARED);
	assert_int_equal(batch->devices[0]->sent.count, 6);
	assert_int_equal(batch->devices[0]->sent.first_ms, 1000);
	assert_int_equal(batch->devices[0]->sent.last_ms, 9000);
	assert_int_equal(batch->devices[0]->sent.rssi.min, -80);
	assert_int_equal(batch->devices[0]->sent.data[0], ADVERT_FLAG_ASKS);
	assert_int_equal(batch->devices[1]->sent.state, DEVICE_STATE_APPEARED);
	assert_int_equal(batch->devices[1]->sent.count, 1);
	assert_int_equal(batch->devices[1]->sent.first_ms, 9000);
	devices_batch_done(devices);
	devices_free(devices);
}

/* The batch that was out is so again, in its order, and keeps its content. */
static void restores_a_batch(void **state)
{
	struct devices *devices = make(16);

	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		struct device_span span = span_of(20 - i, i + 1, DEVICE_STATE_APPEARED);

		devices_restore(devices, &span, true);
		devices_restore(devices, &span, true);
	}
	/* 16 of them, and the other four and each one's double had no place. */
	assert_int_equal(counters(devices).kept, 16);
	assert_int_equal(counters(devices).evicted, 24);
	assert_int_equal(batch_of(devices)->n, 16);
	for (unsigned i = 0; i < 16; i++)
		assert_int_equal(batch_of(devices)->numbers[i], 20 - i);
	assert_int_equal(counters(devices).dirty, 0);
	assert_int_equal(devices_urgent(devices), 0);
	hear(devices, 5000, 20, 0, -70, 0);
	assert_int_equal(batch_of(devices)->devices[0]->sent.count, 1);
	assert_int_equal(find(devices, 20)->pending.count, 1);
	assert_int_equal(find(devices, 20)->pending.state, DEVICE_STATE_APPEARED);
	devices_batch_done(devices);
	/* Now they make room. */
	assert_non_null(hear(devices, 6000, 99, 0, -70, 0));
	devices_free(devices);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(restores_a_device),
		cmocka_unit_test(hears_a_restored_device),
		cmocka_unit_test(restores_a_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
