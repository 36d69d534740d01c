/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/advert.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t nil[16];
	struct advert advert, before;
	int r;

	memset(&advert, 0xaa, sizeof(advert));
	memcpy(&before, &advert, sizeof(advert));
	r = advert_decode(data, size, &advert);
	if (r == 0) {
		check(size >= ADVERT_LEN);
		check(memcmp(advert.data, data, ADVERT_LEN) == 0);
		check(advert.flags == data[0] && advert.tx_power_dbm == (int8_t)data[1]);
		check(memcmp(advert.device_id, data + 2, sizeof(advert.device_id)) == 0);
		check(memcmp(advert.device_id, nil, sizeof(nil)) != 0);
	} else {
		check(r == -EBADMSG);
		check(size < ADVERT_LEN || memcmp(data + 2, nil, sizeof(nil)) == 0);
		check(memcmp(&advert, &before, sizeof(advert)) == 0);
	}
	return 0;
}
