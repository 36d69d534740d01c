/* SPDX-License-Identifier: Apache-2.0 */
/* Messages for the unit tests of uplink/message. */
#pragma once

#include "uplink/message.h"

/* The vectors were made with python3-cbor2. */
#define NONCE "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define ID    "101112131415161718191a1b1c1d1e1f"
#define POINT                                                                                      \
	"04000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"                       \
	"202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
#define SIGNATURE                                                                                  \
	"808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"                         \
	"a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
#define SERVICE_DATA "01f8" ID "aa55"

/* Each message of the cloud, and each of its fields by itself. */
struct sample {
	enum message_type type;
	const char *type_hex;
	const char *fields[5];
};
#define SAMPLES 8
extern const struct sample samples[SAMPLES];
size_t count_fields(const struct sample *sample);
/* The array of type and fields, field number `other` (from 0) replaced, n_fields in all: those
 * beyond the sample's own are all `extra`. */
void build(const struct sample *sample, size_t n_fields, size_t other, const char *instead,
	   const char *extra, char *ret_hex, size_t size);

/* The example of PROTOCOL.md with that title, in hexadecimal. The caller frees it. */
char *example(const char *title);
/* How many there are. */
size_t count_examples(void);

/* Decodes; where that fails, *ret must be as it was and *ret_what say why. */
int decode(const uint8_t *data, size_t len, struct message *ret);
/* What comes of the vector, which lies in memory of its length. */
void expect_hex(const char *hex, int expected);
/* For vectors whose payload matters; the caller frees what it lies in. */
uint8_t *good_hex(const char *hex, struct message *ret);
