/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a Blecon device says of itself in the Service Data (AD type 0x16) of its advertisement,
 * 16-bit service UUID 0xFD0D. Pure: no I/O, no allocation.
 *
 *    0       1         2                              18      20
 *   +-------+---------+------------------------------+-------+----
 *   | flags | tx dBm  | Device ID, UUID, big endian  |   ?   | ignored
 *   +-------+---------+------------------------------+-------+----
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define ADVERT_SERVICE_UUID "0000fd0d-0000-1000-8000-00805f9b34fb"
#define ADVERT_LEN	    20

#define ADVERT_FLAG_ASKS      (1u << 0) /* the device asks for a connection */
#define ADVERT_FLAG_ANNOUNCES (1u << 2) /* a person pressed "identify" */

struct advert {
	uint8_t flags;
	int8_t tx_power_dbm;
	uint8_t device_id[16];
	uint8_t data[ADVERT_LEN]; /* all of it as it came, unknown bits included */
};

/* data, len: the service data without its UUID. Returns 0, or -EBADMSG where it is shorter than
 * ADVERT_LEN or the Device ID is nil; *ret is untouched then. Never requires a value of unknown bits. */
int advert_decode(const uint8_t *data, size_t len, struct advert *ret);
