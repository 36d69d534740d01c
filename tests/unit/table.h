/* SPDX-License-Identifier: Apache-2.0 */
/* A device table whose devices are numbers, for the unit tests of agent/devices. */
#pragma once

#include "agent/devices.h"

#define LOST_AFTER_MS 60000

struct devices *make(size_t max);
void device_id(unsigned number, uint8_t ret[16]);
/* An advert of device `number`; its data has the flags, and a byte that the test chooses. */
struct device *hear(struct devices *devices, uint64_t now_ms, unsigned number, uint8_t flags,
		    int8_t rssi, uint8_t byte);
struct device *find(struct devices *devices, unsigned number);
unsigned number_of(const struct device *device);

struct listing {
	size_t n;
	unsigned numbers[2000];
	const struct device *devices[2000];
};
/* Valid until the next call. */
const struct listing *batch_of(struct devices *devices);
const struct listing *all_of(struct devices *devices);
/* The one device of a batch that takes all there is. */
const struct device_span *only_sent(struct devices *devices);
struct devices_counters counters(struct devices *devices);
