/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct devices *make(size_t max)
{
	struct devices *devices;

	assert_int_equal(devices_new(max, LOST_AFTER_MS, &devices), 0);
	return devices;
}

void device_id(unsigned number, uint8_t ret[16])
{
	memset(ret, 0x77, 16);
	ret[14] = (uint8_t)(number >> 8);
	ret[15] = (uint8_t)number;
}

struct device *hear(struct devices *devices, uint64_t now_ms, unsigned number, uint8_t flags,
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

struct device *find(struct devices *devices, unsigned number)
{
	uint8_t id[16];

	device_id(number, id);
	return devices_find(devices, id);
}

unsigned number_of(const struct device *device)
{
	return (unsigned)device->advert.device_id[14] << 8 | device->advert.device_id[15];
}

static void list(void *userdata, const struct device *device)
{
	struct listing *listing = userdata;

	assert_true(listing->n < ARRAY_SIZE(listing->numbers));
	listing->devices[listing->n] = device;
	listing->numbers[listing->n++] = number_of(device);
}

const struct listing *batch_of(struct devices *devices)
{
	static struct listing listing;

	listing.n = 0;
	devices_batch_each(devices, list, &listing);
	return &listing;
}

const struct listing *all_of(struct devices *devices)
{
	static struct listing listing;

	listing.n = 0;
	devices_each(devices, list, &listing);
	return &listing;
}

const struct device_span *only_sent(struct devices *devices)
{
	assert_int_equal(devices_batch_begin(devices, 100, false), 1);
	assert_int_equal(batch_of(devices)->n, 1);
	return &batch_of(devices)->devices[0]->sent;
}

struct devices_counters counters(struct devices *devices)
{
	struct devices_counters ret;

	devices_get_counters(devices, &ret);
	return ret;
}
