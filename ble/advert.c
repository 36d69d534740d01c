/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/advert.h"

#include <errno.h>
#include <string.h>

#define OFFSET_FLAGS	 0
#define OFFSET_TX_POWER	 1
#define OFFSET_DEVICE_ID 2

int advert_decode(const uint8_t *data, size_t len, struct advert *ret)
{
	static const uint8_t nil[sizeof(ret->device_id)];

	if (len < ADVERT_LEN)
		return -EBADMSG;
	if (memcmp(data + OFFSET_DEVICE_ID, nil, sizeof(nil)) == 0)
		return -EBADMSG;
	ret->flags = data[OFFSET_FLAGS];
	ret->tx_power_dbm = (int8_t)data[OFFSET_TX_POWER];
	memcpy(ret->device_id, data + OFFSET_DEVICE_ID, sizeof(ret->device_id));
	memcpy(ret->data, data, ADVERT_LEN);
	return 0;
}
