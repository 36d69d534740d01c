/* SPDX-License-Identifier: Apache-2.0 */
/* Devices that ask, as numbers, for the unit tests of agent/scheduler. */
#pragma once

#include "agent/scheduler.h"

/* What differs from advert to advert; the rest follows from the device's number. */
struct heard {
	unsigned adapter;
	int8_t rssi_dbm;
	uint8_t flags;
	uint64_t retry_ms;
};

void hear_as(struct scheduler *scheduler, uint64_t now_ms, unsigned number,
	     const struct heard *heard);

int number_of_asker(const struct scheduler_asker *asker);
/* NULL where it is not in the queue. */
struct scheduler_asker *asker_of(const struct scheduler *scheduler, int number);
