/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/messages.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

/* A message for the encoders below, whose arguments differ. */
typedef size_t (*encoder)(const void *arg, uint8_t *buf, size_t size);

/* The message is the vector where there is room for it, and none where there is not. */
static void check_encoder(encoder encode, const void *arg, const char *hex)
{
	size_t len;
	_cleanup_free_ uint8_t *expected = unhex(hex, &len);

	for (size_t size = 0; size <= len + 1; size++) {
		uint8_t *buf = malloc(size ? size : 1);
		size_t n;

		assert_non_null(buf);
		n = encode(arg, buf, size);
		assert_int_equal(n, size < len ? 0 : len);
		if (n > 0)
			assert_memory_equal(buf, expected, len);
		free(buf);
	}
}

static size_t hello(const void *arg, uint8_t *buf, size_t size)
{
	return message_encode_hello(arg, buf, size);
}

static void encodes_hello(void **state)
{
	size_t len;
	_cleanup_free_ uint8_t *id = unhex(ID, &len);
	_cleanup_free_ uint8_t *point = unhex(POINT, &len);
	_cleanup_free_ uint8_t *signature = unhex(SIGNATURE, &len);
	_cleanup_free_ uint8_t *run = unhex("0123456789abcdef", &len);
	struct message_hello m = {id,	point, signature, run, "blecon-hotspotd 0.1.0",
				  NULL, NULL,  0};

	(void)state;
	check_encoder(hello, &m,
		      "87020150" ID "5841" POINT "5840" SIGNATURE
		      "a26372756e480123456789abcdef656167656e7475626c65636f6e2d686f7473706f7464"
		      "20302e312e3080");
}

static void hello_lists_sessions_to_resume(void **state)
{
	size_t len;
	_cleanup_free_ uint8_t *id = unhex(ID, &len);
	_cleanup_free_ uint8_t *point = unhex(POINT, &len);
	_cleanup_free_ uint8_t *signature = unhex(SIGNATURE, &len);
	_cleanup_free_ uint8_t *run = unhex("0123456789abcdef", &len);
	static const struct message_resume resume[] = {
		{1, 5, 11}, {UINT32_MAX, UINT64_MAX, UINT32_MAX}, {0, 0, 0}};
	struct message_hello m = {id, point, signature, run, "x", NULL, resume, 3};

	(void)state;
	check_encoder(hello, &m,
		      "87020150" ID "5841" POINT "5840" SIGNATURE
		      "a26372756e480123456789abcdef656167656e746178"
		      "838301050b831affffffff1bffffffffffffffff1affffffff83000000");
}

static void hello_tells_the_location(void **state)
{
	static const uint8_t bytes[MESSAGE_PUBLIC_KEY_LEN];
	struct message_location all = {true, 52205300, -121800, 15, "2", "yard", "door"};
	struct message_location none = {.latitude_udeg = 1, .floor = "", .zone = "", .name = NULL};
	struct message_location name = {.name = "door"};
	struct message_hello m = {bytes, bytes, bytes, bytes, "x", &all, NULL, 0};
	/* [2, 1, 16, 65 and 64 bytes, {"run": 8 bytes, "agent": "x", ... */
	static const size_t map = 1 + 1 + 1 + 17 + 67 + 66, head = 1 + 1 + 1 + 17 + 67 + 66 + 22;
	static const char *const expected[] = {
		"686c6f636174696f6ea66d6c617469747564655f756465671a031c96f46e6c6f6e6769747564655f"
		"756465673a0001dbc76a61636375726163795f6d0f65666c6f6f726132647a6f6e65647961726464"
		"6e616d6564646f6f7280",
		"686c6f636174696f6ea1646e616d6564646f6f7280",
		"80",
		"80",
	};
	const struct message_location *locations[] = {&all, &name, &none, NULL};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(locations); i++) {
		uint8_t buf[MESSAGE_HELLO_MAX];
		size_t len, n;
		_cleanup_free_ uint8_t *end = unhex(expected[i], &len);

		m.location = locations[i];
		n = message_encode_hello(&m, buf, sizeof(buf));
		assert_int_equal(n, head + len);
		assert_int_equal(buf[map], i < 2 ? 0xa3 : 0xa2);
		assert_memory_equal(buf + head, end, len);
		assert_int_equal(message_encode_hello(&m, buf, n - 1), 0);
	}
}

/* One that lists as many sessions as it may, with the longest numbers. */
static void the_largest_hello_fits(void **state)
{
	static const uint8_t bytes[MESSAGE_PUBLIC_KEY_LEN];
	static const char label[] =
		"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	static const struct message_location location = {true,	-90000000, -180000000, UINT32_MAX,
							 label, label,	   label};
	struct message_resume resume[MESSAGE_RESUME_MAX];
	struct message_hello m = {
		bytes,
		bytes,
		bytes,
		bytes,
		"the name and the version of a program with a long name 100.100.100",
		&location,
		resume,
		MESSAGE_RESUME_MAX};
	uint8_t buf[MESSAGE_HELLO_MAX];
	size_t n;

	(void)state;
	for (size_t i = 0; i < MESSAGE_RESUME_MAX; i++)
		resume[i] = (struct message_resume){UINT32_MAX, UINT64_MAX, UINT32_MAX};
	n = message_encode_hello(&m, buf, sizeof(buf));
	/* [2, 1, 16, 65 and 64 bytes, two pairs, the location, [64 x [5, 9 and 5 bytes]]] */
	assert_int_equal(n, 1 + 1 + 1 + 17 + 67 + 66 + 1 + 4 + 9 + 6 + 2 + strlen(m.agent) + 9 + 1 +
				    (14 + 5) + (15 + 5) + (11 + 5) + (6 + 66) + (5 + 66) +
				    (5 + 66) + 2 + MESSAGE_RESUME_MAX * (1 + 5 + 9 + 5));
}

struct batch {
	uint64_t number;
	const struct message_sighting *sightings;
	size_t n;
};

static size_t sightings(const void *arg, uint8_t *buf, size_t size)
{
	const struct batch *batch = arg;

	return message_encode_sightings(batch->number, batch->sightings, batch->n, buf, size);
}

static void encodes_sightings(void **state)
{
	size_t len;
	_cleanup_free_ uint8_t *id = unhex(ID, &len);
	_cleanup_free_ uint8_t *reverse = unhex("1f1e1d1c1b1a19181716151413121110", &len);
	_cleanup_free_ uint8_t *data = unhex(SERVICE_DATA, &len);
	struct message_sighting two[] = {
		{id, data, len, 61000, 23, 24, -60, -128, -1, MESSAGE_APPEARED, 0},
		{reverse, data, len, UINT64_MAX, 0, 0, 127, 127, 127, MESSAGE_LOST, 65535},
	};

	(void)state;
	check_encoder(sightings, &(struct batch){1, NULL, 0}, "830a0180");
	check_encoder(
		sightings, &(struct batch){UINT64_C(1) << 32, two, 2},
		"830a1b0000000100000000828a50" ID "54" SERVICE_DATA
		"19ee48171818383b387f2000008a501f1e1d1c1b1a1918171615141312111054" SERVICE_DATA
		"1bffffffffffffffff0000187f187f187f0219ffff");
}

/* The largest batch, with the longest numbers, is far from the longest message. */
static void the_largest_batch_fits(void **state)
{
	static struct message_sighting all[MESSAGE_SIGHTINGS_MAX];
	static const uint8_t bytes[20];
	_cleanup_free_ uint8_t *buf = malloc(MESSAGE_MAX);
	size_t n;

	(void)state;
	assert_non_null(buf);
	for (size_t i = 0; i < MESSAGE_SIGHTINGS_MAX; i++)
		all[i] = (struct message_sighting){
			bytes, bytes, sizeof(bytes), UINT64_MAX,       UINT64_MAX, UINT64_MAX,
			-128,  -128,  -128,	     MESSAGE_APPEARED, UINT32_MAX,
		};
	n = message_encode_sightings(UINT64_MAX, all, MESSAGE_SIGHTINGS_MAX, buf, MESSAGE_MAX);
	/* [10, 2^64 - 1, [100 x [17 + 21 bytes, three times 9, three times 2, 1 and 5]]] */
	assert_int_equal(n, 2 + 9 + 2 + MESSAGE_SIGHTINGS_MAX * (1 + 17 + 21 + 27 + 6 + 1 + 5));
}

static size_t open_session(const void *arg, uint8_t *buf, size_t size)
{
	return message_encode_open(arg, buf, size);
}

static void encodes_open(void **state)
{
	size_t len;
	_cleanup_free_ uint8_t *id = unhex(ID, &len);
	_cleanup_free_ uint8_t *data = unhex(SERVICE_DATA, &len);

	(void)state;
	check_encoder(open_session, &(struct message_open){5, id, data, len, 0, 512, -70, 1},
		      "88140550" ID "54" SERVICE_DATA "00190200384501");
	check_encoder(open_session,
		      &(struct message_open){UINT32_MAX, id, data, 0, 1, 65535, 20, 2},
		      "88141affffffff50" ID "400119ffff1402");
}

static size_t data_frame(const void *arg, uint8_t *buf, size_t size)
{
	return message_encode_data(arg, buf, size);
}

static void encodes_data(void **state)
{
	uint8_t frame[512];
	char hex[1200] = "85161affffffff1affffffff1bffffffffffffffff590200";

	(void)state;
	check_encoder(data_frame,
		      &(struct message_data){3, 1, 300, (const uint8_t *)"\xde\xad\xbe\xef", 4},
		      "8516030119012c44deadbeef");
	check_encoder(data_frame, &(struct message_data){0, 0, 0, NULL, 0}, "851600000040");
	memset(frame, 0x5a, sizeof(frame));
	for (size_t i = 0; i < sizeof(frame); i++)
		strcat(hex, "5a");
	check_encoder(data_frame,
		      &(struct message_data){UINT32_MAX, UINT32_MAX, UINT64_MAX, frame, 512}, hex);
}

static size_t credit(const void *arg, uint8_t *buf, size_t size)
{
	return message_encode_credit(arg, buf, size);
}

static void encodes_credit(void **state)
{
	(void)state;
	check_encoder(credit, &(struct message_credit){3, 16, UINT64_C(1) << 40},
		      "841703101b0000010000000000");
	check_encoder(credit, &(struct message_credit){UINT32_MAX, UINT32_MAX, UINT64_MAX},
		      "84171affffffff1affffffff1bffffffffffffffff");
}

static size_t close_session(const void *arg, uint8_t *buf, size_t size)
{
	return message_encode_close(arg, buf, size);
}

static void encodes_close(void **state)
{
	(void)state;
	check_encoder(
		close_session,
		&(struct message_close){70000, MESSAGE_CLOSE_DISCONNECTED, "device disconnected"},
		"8418181a00011170017364657669636520646973636f6e6e6563746564");
	check_encoder(close_session, &(struct message_close){0}, "841818000060");
}

struct counters {
	const struct message_counter *counters;
	size_t n;
};

static size_t stats(const void *arg, uint8_t *buf, size_t size)
{
	const struct counters *c = arg;

	return message_encode_stats(c->counters, c->n, buf, size);
}

static void encodes_stats(void **state)
{
	static const struct message_counter three[] = {
		{"adverts", 1000000},
		{"links_up", 0},
		{"bytes_down", UINT64_MAX},
	};

	(void)state;
	check_encoder(stats, &(struct counters){NULL, 0}, "82181ea0");
	check_encoder(stats, &(struct counters){three, 3},
		      "82181ea367616476657274731a000f4240686c696e6b735f7570006a62797465735f646f77"
		      "6e1bffffffffffffffff");
}

static size_t signed_bytes(const void *arg, uint8_t *buf, size_t size)
{
	const uint8_t *const *parts = arg;

	return message_signed_bytes(parts[0], parts[1], "cloud.example:443", buf, size);
}

static void names_the_signed_bytes(void **state)
{
	size_t len;
	_cleanup_free_ uint8_t *nonce = unhex(NONCE, &len);
	_cleanup_free_ uint8_t *id = unhex(ID, &len);
	const uint8_t *parts[] = {nonce, id};

	(void)state;
	check_encoder(signed_bytes, parts,
		      "686f7473706f742d72656c61792e763100" NONCE ID
		      "636c6f75642e6578616d706c653a343433");
}

/* What both sides send is read as it was written. */
static void decodes_what_it_encodes(void **state)
{
	struct message_data data = {7, 1, 1, (const uint8_t *)"abc", 3};
	struct message_credit given = {7, 8, 9};
	struct message_close end = {7, MESSAGE_CLOSE_RADIO, "gone \xe2\x82\xac"};
	struct message m;
	uint8_t buf[64];

	(void)state;
	assert_int_equal(decode(buf, message_encode_data(&data, buf, sizeof(buf)), &m), 0);
	assert_int_equal(m.data.session, 7);
	assert_int_equal(m.data.channel, 1);
	assert_int_equal(m.data.seq, 1);
	assert_int_equal(m.data.len, 3);
	assert_memory_equal(m.data.payload, "abc", 3);
	assert_int_equal(decode(buf, message_encode_credit(&given, buf, sizeof(buf)), &m), 0);
	assert_int_equal(m.credit.session, 7);
	assert_int_equal(m.credit.credits, 8);
	assert_int_equal(m.credit.next_seq, 9);
	assert_int_equal(decode(buf, message_encode_close(&end, buf, sizeof(buf)), &m), 0);
	assert_int_equal(m.close.session, 7);
	assert_int_equal(m.close.code, MESSAGE_CLOSE_RADIO);
	assert_string_equal(m.close.reason, end.reason);
}

static void check_example(encoder encode, const void *arg, const char *title)
{
	_cleanup_free_ char *hex = example(title);

	check_encoder(encode, arg, hex);
}

/* Its key and signature cannot be made again: they are taken from it. */
static void check_hello_example(void)
{
	static const char title[] =
		"HELLO to wss://hub.example.com/, in answer to that, with session 1 to resume";
	static const uint8_t run[] = {0, 1, 2, 3, 4, 5, 6, 7};
	static const struct message_resume resume = {1, 5, 11};
	_cleanup_free_ char *hex = example(title);
	size_t len;
	_cleanup_free_ uint8_t *bytes = unhex(hex, &len);
	const uint8_t *id = bytes + 4, *key = id + MESSAGE_ID_LEN + 2;
	struct message_hello m = {
		id, key, key + MESSAGE_PUBLIC_KEY_LEN + 2, run, "example 1.0", NULL, &resume, 1};

	assert_true(len > (size_t)(m.signature - bytes) + MESSAGE_SIGNATURE_LEN);
	check_encoder(hello, &m, hex);
}

/* Those of PROTOCOL.md that the hotspot sends. */
static void encodes_the_examples(void **state)
{
	static const struct message_counter adverts = {"adverts", 1000};
	size_t len;
	_cleanup_free_ uint8_t *id = unhex("f2ea6ed6c0794602980dfce59cf19da2", &len);
	_cleanup_free_ uint8_t *data = unhex("3b04f2ea6ed6c0794602980dfce59cf19da20300", &len);
	struct message_sighting sighting = {
		id, data, len, 1500, 20, 3, -61, -64, -58, MESSAGE_APPEARED, 0};
	struct message_open open = {1, id, data, len, 0, 244, -61, 1};

	(void)state;
	check_hello_example();
	check_example(sightings, &(struct batch){7, &sighting, 1},
		      "SIGHTINGS, batch 7 of one device that appeared 1.5 s ago");
	check_example(open_session, &open, "OPEN of session 1 over GATT, with channel 0 alone");
	check_example(data_frame, &(struct message_data){1, 0, 0, (const uint8_t *)"\1\2\3", 3},
		      "DATA, the first frame, of 3 bytes");
	check_example(credit, &(struct message_credit){1, 8, 16},
		      "CREDIT of 8 more, all below seq 16 having arrived");
	check_example(close_session, &(struct message_close){1, MESSAGE_CLOSE_DONE, ""},
		      "CLOSE of session 1, done");
	check_example(stats, &(struct counters){&adverts, 1}, "STATS");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encodes_hello),
		cmocka_unit_test(hello_lists_sessions_to_resume),
		cmocka_unit_test(hello_tells_the_location),
		cmocka_unit_test(the_largest_hello_fits),
		cmocka_unit_test(encodes_sightings),
		cmocka_unit_test(the_largest_batch_fits),
		cmocka_unit_test(encodes_open),
		cmocka_unit_test(encodes_data),
		cmocka_unit_test(encodes_credit),
		cmocka_unit_test(encodes_close),
		cmocka_unit_test(encodes_stats),
		cmocka_unit_test(names_the_signed_bytes),
		cmocka_unit_test(decodes_what_it_encodes),
		cmocka_unit_test(encodes_the_examples),
	};

	return cmocka_run_group_tests_name("message_encode", tests, NULL, NULL);
}
