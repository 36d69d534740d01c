/* SPDX-License-Identifier: Apache-2.0 */
/* The hold-off, and what it is for: of several hubs the nearest is to take a device. */
#include "tests/unit/asker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

#define HOLDOFF_MS 900

/* Nothing at -50 dBm, all of it at -95 dBm, and up to a sixth of it on top. */
static void holds_off_by_rssi(void **state)
{
	static const struct {
		int8_t rssi_dbm;
		uint64_t least_ms;
	} vectors[] = {
		{126, 0},   {0, 0},	{-49, 0},   {-50, 0},	{-51, 20},   {-65, 300},
		{-80, 600}, {-94, 880}, {-95, 900}, {-96, 900}, {-128, 900}, {BLE_RSSI_NONE, 440},
	};
	static const struct scheduler_config config = {
		.max_links = 1,
		.rssi_floor_dbm = -128,
		.holdoff_ms = HOLDOFF_MS,
	};
	struct scheduler scheduler;

	(void)state;
	scheduler_init(&scheduler, &config);
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		const struct heard heard = {0, vectors[i].rssi_dbm, ADVERT_FLAG_ASKS, 0};
		uint64_t least = UINT64_MAX, most = 0;

		for (unsigned k = 0; k < 2000; k++) {
			struct scheduler_asker *asker;

			hear_as(&scheduler, 5000, 1, &heard);
			asker = asker_of(&scheduler, 1);
			least = MIN(least, asker->ready_ms - 5000);
			most = MAX(most, asker->ready_ms - 5000);
			scheduler_remove(&scheduler, asker);
		}
		/* All of the jitter is used: a wrong bound or none would be seen. */
		assert_in_range(least, vectors[i].least_ms, vectors[i].least_ms + 10);
		assert_in_range(most, vectors[i].least_ms + HOLDOFF_MS / 6 - 10,
				vectors[i].least_ms + HOLDOFF_MS / 6);
	}
	scheduler_done(&scheduler);
}

/* --- Three hubs in reach of the same devices. --- */

#define HUBS	    3
#define DEVICES	    1000
#define INTERVAL_MS 100
#define NEARER_DB   10

static struct device {
	uint64_t next_ms; /* of its adverts */
	unsigned nearest;
	int rssi_dbm; /* at the nearest hub */
	bool taken;
} devices[DEVICES];

static struct scheduler hubs[HUBS];
static uint64_t wake_ms[HUBS];

/* About normal, with a standard deviation of 4 dB. */
static int noise_db(void)
{
	int sum = 0;

	for (unsigned i = 0; i < 12; i++)
		sum += (int)(random() % 1000);
	return (sum - 6 * 1000 + (sum > 6000 ? 125 : -125)) / 250;
}

struct result {
	unsigned taken, by_the_nearest;
	unsigned in_vain; /* choices of devices that another hub had taken just before */
};

static void choose(unsigned hub, uint64_t now_ms, struct result *result)
{
	static const struct scheduler_load idle = {0};
	struct scheduler_hearing *on;
	struct scheduler_asker *asker;

	while ((asker = scheduler_next(&hubs[hub], now_ms, &idle, &on, &wake_ms[hub]))) {
		struct device *device = &devices[number_of_asker(asker)];

		scheduler_remove(&hubs[hub], asker);
		result->in_vain += device->taken;
		result->taken += !device->taken;
		result->by_the_nearest += !device->taken && device->nearest == hub;
		device->taken = true;
	}
}

static void advertise(unsigned number, uint64_t now_ms)
{
	const struct device *device = &devices[number];

	for (unsigned hub = 0; hub < HUBS; hub++) {
		int dbm = device->rssi_dbm - (hub == device->nearest ? 0 : NEARER_DB) + noise_db();

		hear_as(&hubs[hub], now_ms, number,
			&(struct heard){0, (int8_t)CLAMP(dbm, -127, 20), ADVERT_FLAG_ASKS, 0});
		wake_ms[hub] = now_ms;
	}
}

/* All devices begin to ask within that time. */
static struct result run(uint32_t holdoff_ms, uint64_t within_ms)
{
	const struct scheduler_config config = {
		.max_links = 1,
		.rssi_floor_dbm = -128,
		.holdoff_ms = holdoff_ms,
	};
	struct result result = {0};

	for (unsigned hub = 0; hub < HUBS; hub++) {
		scheduler_init(&hubs[hub], &config);
		wake_ms[hub] = UINT64_MAX;
	}
	for (unsigned i = 0; i < DEVICES; i++)
		devices[i] = (struct device){
			.next_ms = 1000 + (uint64_t)random() % within_ms,
			.nearest = (unsigned)random() % HUBS,
			.rssi_dbm = -50 - (int)(random() % 31),
		};
	for (uint64_t now_ms = 1000; now_ms < 1000 + within_ms + 10000; now_ms++) {
		for (unsigned i = 0; i < DEVICES; i++) {
			if (devices[i].taken || devices[i].next_ms > now_ms)
				continue;
			advertise(i, now_ms);
			devices[i].next_ms = now_ms + INTERVAL_MS + (uint64_t)random() % 11;
		}
		/* In another order each time: none is the first in the same millisecond. */
		for (unsigned i = 0, first = (unsigned)random(); i < HUBS; i++) {
			if (wake_ms[(first + i) % HUBS] <= now_ms)
				choose((first + i) % HUBS, now_ms, &result);
		}
	}
	for (unsigned hub = 0; hub < HUBS; hub++) {
		assert_int_equal(hubs[hub].turned_away, 0);
		scheduler_done(&hubs[hub]);
	}
	return result;
}

static void the_nearest_hub_takes_the_device(void **state)
{
	struct result with, without;

	(void)state;
	srandom(1);
	with = run(1000, 120000);
	without = run(0, 120000);
	print_message(
		"the nearest takes %.1f %%, and %.1f %% without hold-off; %u choices in vain\n",
		100.0 * with.by_the_nearest / DEVICES, 100.0 * without.by_the_nearest / DEVICES,
		with.in_vain);
	assert_int_equal(with.taken, DEVICES);
	assert_int_equal(without.taken, DEVICES);
	assert_true(with.by_the_nearest > DEVICES * 80 / 100);
	assert_true(with.in_vain < DEVICES / 2);
	/* Otherwise the hold-off would not be what does it. */
	assert_true(without.by_the_nearest < DEVICES * 60 / 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(holds_off_by_rssi),
		cmocka_unit_test(the_nearest_hub_takes_the_device),
	};

	return cmocka_run_group_tests_name("scheduler_holdoff", tests, NULL, NULL);
}
