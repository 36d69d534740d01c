/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/asker.h"

#include <string.h>

void hear_as(struct scheduler *scheduler, uint64_t now_ms, unsigned number,
	     const struct heard *heard)
{
	struct advert advert = {.flags = heard->flags, .data = {heard->flags}};
	struct ble_advert message = {
		.advert = &advert,
		.address = {{(uint8_t)number, (uint8_t)heard->adapter}, true},
		.rssi_dbm = heard->rssi_dbm,
		.adapter = heard->adapter,
	};

	memset(advert.device_id, 0x55, sizeof(advert.device_id));
	memcpy(advert.device_id + 4, &number, sizeof(number));
	memcpy(advert.data + 2, advert.device_id, sizeof(advert.device_id));
	scheduler_heard(scheduler, now_ms, &message, heard->retry_ms);
}

int number_of_asker(const struct scheduler_asker *asker)
{
	unsigned number;

	memcpy(&number, asker->device_id + 4, sizeof(number));
	return (int)number;
}

struct scheduler_asker *asker_of(const struct scheduler *scheduler, int number)
{
	LIST_FOREACH (l, &scheduler->queue) {
		struct scheduler_asker *asker = LIST_ENTRY(l, struct scheduler_asker, in_queue);

		if (number_of_asker(asker) == number)
			return asker;
	}
	return NULL;
}
