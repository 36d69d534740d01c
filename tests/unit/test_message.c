/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/message.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

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
static const struct sample {
	enum message_type type;
	const char *type_hex;
	const char *fields[5];
} samples[] = {
	{MESSAGE_CHALLENGE, "01", {"5820" NONCE, "1b0000018bcfe5687b"}},
	{MESSAGE_WELCOME,
	 "03",
	 {"a4697265706f72745f6d7319ea6069726573756d655f6d731975306763726564697473106c686f7473706f"
	  "745f6e616d65664bc3bc636865",
	  "828207182a821affffffff1bffffffffffffffff"}},
	{MESSAGE_SIGHTINGS_ACK, "0b", {"01"}},
	{MESSAGE_ACCEPT, "15", {"1affffffff"}},
	{MESSAGE_DATA, "16", {"03", "01", "19012c", "44deadbeef"}},
	{MESSAGE_CREDIT, "17", {"03", "10", "1b0000010000000000"}},
	{MESSAGE_CLOSE, "1818", {"1a00011170", "01", "7364657669636520646973636f6e6e6563746564"}},
	{MESSAGE_GOAWAY, "181f", {"191388", "666465706c6f79"}},
};

static size_t count_fields(const struct sample *sample)
{
	size_t n = 0;

	while (sample->fields[n])
		n++;
	return n;
}

/* Bytes of a hexadecimal text, in memory of exactly their length, so that ASan sees an overrun. */
static uint8_t *unhex(const char *hex, size_t *ret_len)
{
	size_t len = strlen(hex) / 2;
	uint8_t *data = malloc(len ? len : 1);

	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &data[i]), 1);
	*ret_len = len;
	return data;
}

/* The array of type and fields, field number `other` (from 0) replaced, n_fields in all: those
 * beyond the sample's own are all `extra`. */
static void build(const struct sample *sample, size_t n_fields, size_t other, const char *instead,
		  const char *extra, char *ret_hex, size_t size)
{
	size_t own = count_fields(sample), n;

	n = (size_t)snprintf(ret_hex, size, "%02zx%s", 0x81 + n_fields, sample->type_hex);
	for (size_t i = 0; i < n_fields; i++)
		n += (size_t)snprintf(ret_hex + n, size - n, "%s",
				      i == other ? instead
				      : i < own	 ? sample->fields[i]
						 : extra);
	assert_true(n < size);
}

/* Decodes; where that fails, *ret must be as it was and *ret_what say why. */
static int decode(const uint8_t *data, size_t len, struct message *ret)
{
	struct message before;
	const char *what = NULL;
	int r;

	memset(ret, 0xaa, sizeof(*ret));
	memcpy(&before, ret, sizeof(before));
	r = message_decode(data, len, ret, &what);
	if (r == -EBADMSG)
		assert_non_null(what);
	if (r != 0)
		assert_memory_equal(ret, &before, sizeof(before));
	return r;
}

static int decode_hex(const char *hex)
{
	size_t len;
	_cleanup_free_ uint8_t *data = unhex(hex, &len);
	struct message m;

	return decode(data, len, &m);
}

static void expect_hex(const char *hex, int expected)
{
	int r = decode_hex(hex);

	if (r != expected)
		fail_msg("%.200s: %d, not %d", hex, r, expected);
}

/* For vectors whose payload matters; the caller frees what it lies in. */
static uint8_t *good_hex(const char *hex, struct message *ret)
{
	size_t len;
	uint8_t *data = unhex(hex, &len);

	assert_int_equal(decode(data, len, ret), 0);
	return data;
}

static void decodes_challenge(void **state)
{
	struct message m;
	_cleanup_free_ uint8_t *a = NULL;
	_cleanup_free_ uint8_t *b = NULL;

	(void)state;
	a = good_hex("83015820" NONCE "1b0000018bcfe5687b", &m);
	assert_int_equal(m.type, MESSAGE_CHALLENGE);
	for (unsigned i = 0; i < MESSAGE_NONCE_LEN; i++)
		assert_int_equal(m.challenge.nonce[i], i);
	assert_true(m.challenge.server_time_ms == UINT64_C(1700000000123));
	b = good_hex("83015820ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
		     "1bffffffffffffffff",
		     &m);
	assert_int_equal(m.challenge.nonce[31], 0xff);
	assert_true(m.challenge.server_time_ms == UINT64_MAX);
}

static void decodes_welcome(void **state)
{
	struct message m;
	_cleanup_free_ uint8_t *a = NULL;
	_cleanup_free_ uint8_t *b = NULL;
	_cleanup_free_ uint8_t *c = NULL;

	(void)state;
	a = good_hex(
		"8303a4697265706f72745f6d7319ea6069726573756d655f6d731975306763726564697473106c686f"
		"7473706f745f6e616d65664bc3bc636865828207182a821affffffff1bffffffffffffffff",
		&m);
	assert_int_equal(m.type, MESSAGE_WELCOME);
	assert_int_equal(m.welcome.report_ms, 60000);
	assert_int_equal(m.welcome.resume_ms, 30000);
	assert_int_equal(m.welcome.credits, 16);
	assert_string_equal(m.welcome.hotspot_name, "K\xc3\xbc"
						    "che");
	b = good_hex("8303a080", &m);
	assert_int_equal(m.welcome.report_ms, 0);
	assert_int_equal(m.welcome.resume_ms, 0);
	assert_int_equal(m.welcome.credits, 0);
	assert_string_equal(m.welcome.hotspot_name, "");
	/* {"later": [{"a": [1, -2, h'78', {1: 2}]}, null, 1.5], "credits": 64, "z": {},
	 *  "report_ms": 2^64 - 1}, [[1, 2, "later", [3]]] */
	c = good_hex("8303a4656c6174657283a161618401214178a10102f6fb3ff8000000000000676372656469"
		     "74731840617aa0697265706f72745f6d731bffffffffffffffff81840102656c6174657281"
		     "03",
		     &m);
	assert_int_equal(m.welcome.credits, MESSAGE_CREDITS_MAX);
	assert_true(m.welcome.report_ms == UINT64_MAX);
	assert_int_equal(m.welcome.resume_ms, 0);
}

static void decodes_the_short_ones(void **state)
{
	struct message m;
	_cleanup_free_ uint8_t *a = NULL;
	_cleanup_free_ uint8_t *b = NULL;
	_cleanup_free_ uint8_t *c = NULL;
	_cleanup_free_ uint8_t *d = NULL;
	_cleanup_free_ uint8_t *e = NULL;

	(void)state;
	a = good_hex("820b01", &m);
	assert_int_equal(m.type, MESSAGE_SIGHTINGS_ACK);
	assert_int_equal(m.ack_batch, 1);
	b = good_hex("820b1bffffffffffffffff", &m);
	assert_true(m.ack_batch == UINT64_MAX);
	c = good_hex("82151affffffff", &m);
	assert_int_equal(m.type, MESSAGE_ACCEPT);
	assert_int_equal(m.accept_session, UINT32_MAX);
	d = good_hex("841703101b0000010000000000", &m);
	assert_int_equal(m.type, MESSAGE_CREDIT);
	assert_int_equal(m.credit.session, 3);
	assert_int_equal(m.credit.credits, 16);
	assert_true(m.credit.next_seq == UINT64_C(1) << 40);
	e = good_hex("84171affffffff1affffffff1bffffffffffffffff", &m);
	assert_int_equal(m.credit.session, UINT32_MAX);
	assert_int_equal(m.credit.credits, UINT32_MAX);
	assert_true(m.credit.next_seq == UINT64_MAX);
}

static void decodes_data(void **state)
{
	struct message m;
	_cleanup_free_ uint8_t *a = NULL;
	_cleanup_free_ uint8_t *b = NULL;
	_cleanup_free_ uint8_t *c = NULL;

	(void)state;
	a = good_hex("8516030119012c44deadbeef", &m);
	assert_int_equal(m.type, MESSAGE_DATA);
	assert_int_equal(m.data.session, 3);
	assert_int_equal(m.data.channel, 1);
	assert_int_equal(m.data.seq, 300);
	assert_int_equal(m.data.len, 4);
	assert_ptr_equal(m.data.payload, a + 8);
	assert_memory_equal(m.data.payload, "\xde\xad\xbe\xef", 4);
	b = good_hex("851600000040", &m);
	assert_int_equal(m.data.len, 0);
	c = good_hex("85161affffffff1affffffff1bffffffffffffffff41ff", &m);
	assert_int_equal(m.data.session, UINT32_MAX);
	assert_int_equal(m.data.channel, UINT32_MAX);
	assert_true(m.data.seq == UINT64_MAX);
}

/* The longest message there is: DATA of MESSAGE_MAX bytes. */
static void decodes_the_longest_message(void **state)
{
	_cleanup_free_ uint8_t *data = calloc(1, MESSAGE_MAX);
	struct message m;

	(void)state;
	assert_non_null(data);
	memcpy(data, "\x85\x16\x00\x00\x00\x59\xff\xf8", 8);
	assert_int_equal(decode(data, MESSAGE_MAX, &m), 0);
	assert_int_equal(m.data.len, MESSAGE_MAX - 8);
}

static void decodes_close_and_goaway(void **state)
{
	struct message m;
	_cleanup_free_ uint8_t *a = NULL;
	_cleanup_free_ uint8_t *b = NULL;
	_cleanup_free_ uint8_t *c = NULL;
	_cleanup_free_ uint8_t *d = NULL;

	(void)state;
	a = good_hex("8418181a00011170017364657669636520646973636f6e6e6563746564", &m);
	assert_int_equal(m.type, MESSAGE_CLOSE);
	assert_int_equal(m.close.session, 70000);
	assert_int_equal(m.close.code, MESSAGE_CLOSE_DISCONNECTED);
	assert_string_equal(m.close.reason, "device disconnected");
	b = good_hex("841818000060", &m);
	assert_string_equal(m.close.reason, "");
	c = good_hex("841818001affffffff60", &m); /* a code to come */
	assert_int_equal(m.close.code, UINT32_MAX);
	d = good_hex("83181f191388666465706c6f79", &m);
	assert_int_equal(m.type, MESSAGE_GOAWAY);
	assert_int_equal(m.goaway.after_ms, 5000);
	assert_string_equal(m.goaway.reason, "deploy");
}

/* Texts of the cloud that are too long are cut, at a character. */
static void cuts_texts(void **state)
{
	(void)state;
	for (size_t len = MESSAGE_REASON_MAX - 4; len <= MESSAGE_REASON_MAX + 200; len++) {
		for (size_t wide = 1; wide <= 4; wide++) {
			static const char *const chars[] = {"x", "\xc3\xbc", "\xe2\x82\xac",
							    "\xf0\x9f\x98\x80"};
			size_t n = len / wide * wide, kept;
			uint8_t data[512] = {0x84, 0x18, 0x18, 0x00, 0x00, 0x78, (uint8_t)n};
			struct message m;
			size_t head = 7;

			if (n > UINT8_MAX) {
				data[5] = 0x79;
				data[6] = (uint8_t)(n >> 8);
				data[head++] = (uint8_t)n;
			}
			for (size_t i = 0; i < n; i += wide)
				memcpy(data + head + i, chars[wide - 1], wide);
			assert_int_equal(decode(data, head + n, &m), 0);
			kept = MIN(n, MESSAGE_REASON_MAX / wide * wide);
			assert_int_equal(strlen(m.close.reason), kept);
			assert_memory_equal(m.close.reason, data + head, kept);
		}
	}
}

static void cuts_the_name(void **state)
{
	/* {"hotspot_name": 65 bytes, the last two of them one character}, [] */
	uint8_t data[128] = {0x83, 0x03, 0xa1, 0x6c, 'h', 'o', 't', 's', 'p',
			     'o',  't',	 '_',  'n',  'a', 'm', 'e', 0x78};
	struct message m;

	(void)state;
	data[17] = MESSAGE_NAME_MAX;
	memset(data + 18, 'n', MESSAGE_NAME_MAX);
	data[18 + MESSAGE_NAME_MAX] = 0x80;
	assert_int_equal(decode(data, 18 + MESSAGE_NAME_MAX + 1, &m), 0);
	assert_int_equal(strlen(m.welcome.hotspot_name), MESSAGE_NAME_MAX);

	data[17] = MESSAGE_NAME_MAX + 1;
	memcpy(data + 18 + MESSAGE_NAME_MAX - 1, "\xc3\xbc\x80", 3);
	assert_int_equal(decode(data, 18 + MESSAGE_NAME_MAX + 2, &m), 0);
	assert_int_equal(strlen(m.welcome.hotspot_name), MESSAGE_NAME_MAX - 1);
}

static void samples_are_good(void **state)
{
	char hex[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		struct message m;
		uint8_t *data;

		build(&samples[i], count_fields(&samples[i]), 99, NULL, NULL, hex, sizeof(hex));
		data = good_hex(hex, &m);
		assert_int_equal(m.type, samples[i].type);
		free(data);
	}
}

static void refuses_missing_fields(void **state)
{
	char hex[512], more[600];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		size_t own = count_fields(&samples[i]);

		for (size_t n = 0; n < own; n++) {
			build(&samples[i], n, 99, NULL, NULL, hex, sizeof(hex));
			expect_hex(hex, -EBADMSG);
			/* The fields are there, but behind the array's end. */
			strcpy(more, hex);
			for (size_t f = n; f < own; f++)
				strcat(more, samples[i].fields[f]);
			expect_hex(more, -EBADMSG);
		}
	}
}

static const char *const kinds[] = {
	"01",	"20",	  "4100", "6161", "80",	    "a0", "f4", "f6", "fb3ff8000000000000",
	"c101", "d82a60", "f5",	  "f7",	  "f93c00",
};

/* Each field of each message replaced by an item of each other kind. */
static void refuses_wrong_kinds(void **state)
{
	char hex[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		for (size_t f = 0; f < count_fields(&samples[i]); f++) {
			unsigned kind = (unsigned)strtoul(
				(char[]){samples[i].fields[f][0], samples[i].fields[f][1], 0}, NULL,
				16);

			for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
				unsigned other;

				assert_int_equal(sscanf(kinds[k], "%2x", &other), 1);
				if (other >> 5 == kind >> 5)
					continue;
				build(&samples[i], count_fields(&samples[i]), f, kinds[k], NULL,
				      hex, sizeof(hex));
				expect_hex(hex, -EBADMSG);
			}
		}
	}
}

static void refuses_wrong_values(void **state)
{
	static const char *const vectors[] = {
		/* A nonce of 31 and of 33 bytes, and of none. */
		"8301581f000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e00",
		"83015821" NONCE "0000",
		"83014000",
		/* More than 32 bits: ACCEPT, DATA, CREDIT, CLOSE. */
		"82151b0000000100000000",
		"85161b0000000100000000000040",
		"8516001b00000001000000000040",
		"84171b00000001000000000000",
		"8417001b000000010000000000",
		"8418181b00000001000000000060",
		"841818001b000000010000000060",
		/* No credits, and more than there may be. */
		"8303a167637265646974730080",
		"8303a16763726564697473184180",
		"8303a167637265646974731bffffffffffffffff80",
		/* A known key with a value of another kind. */
		"8303a1697265706f72745f6d736080",
		"8303a1697265706f72745f6d732080",
		"8303a169726573756d655f6d73f680",
		"8303a16763726564697473616180",
		"8303a16c686f7473706f745f6e616d650180",
		"8303a16c686f7473706f745f6e616d65414180",
		/* A session to resume that is no array, too short, or of wrong kinds. */
		"8303a08100",
		"8303a08180",
		"8303a0818101",
		"8303a081a10102",
		"8303a081826101",
		"8303a08182016101",
		"8303a081822002",
		"8303a081821b000000010000000002",
		"8303a08282010281",
		/* Types that are none. */
		"8120",
		"816161",
		"814101",
		"8180",
		"81f6",
		"82f93c0000",
		"82c10b01",
		"80",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		expect_hex(vectors[i], -EBADMSG);
}

static void refuses_what_is_no_array(void **state)
{
	static const char *const vectors[] = {
		"", "00", "0b", "20", "4101", "6101", "a0", "a10b01", "c1820b01", "f6", "ff", "9f",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		expect_hex(vectors[i], -EBADMSG);
}

static void refuses_other_forms_of_a_number(void **state)
{
	static const char *const vectors[] = {
		/* SIGHTINGS_ACK of batch 1: array, type and batch in longer forms. */
		"98020b01",
		"9900020b01",
		"9a000000020b01",
		"9b00000000000000020b01",
		"82180b01",
		"8219000b01",
		"821a0000000b01",
		"821b000000000000000b01",
		"820b1801",
		"820b190001",
		"820b1a00000001",
		"820b1b0000000000000001",
		/* DATA with lengths in longer forms. */
		"85160000005800",
		"8516000000580100",
		"85160000005900",
		"8516000000590000",
		"85160000005a0000000100",
		"85160000005b000000000000000100",
		/* CLOSE, the same with a text. */
		"84181800007800",
		"841818000078016178",
		"8418180000790000",
		/* WELCOME: map, key, value, list. */
		"8303b80080",
		"8303b9000080",
		"8303a17807637265646974731080",
		"8303a09800",
		"8303a16763726564697473181080",
		"8303a0990000",
		"8303a081980207182a",
		"8303a081821807182a",
		/* Deep within what is ignored. */
		"830b011801",
		"830b01811801",
		"830b01a1180100",
		"830b01d80100",
		"830b01580161",
		"8303a161781900ff80",
		"8218631801",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		expect_hex(vectors[i], -EBADMSG);
}

static void refuses_indefinite_lengths(void **state)
{
	static const char *const vectors[] = {
		"9f0b01ff", /* SIGHTINGS_ACK */
		"85160000005f4100ff", /* DATA */
		"84181800007f6161ff", /* CLOSE */
		"8303bfff80", /* WELCOME */
		"8303a09fff",
		"8303a0819f0102ff",
		"8303a16c686f7473706f745f6e616d657f6161ff80",
		"830b019fff", /* in what is ignored */
		"830b01bfff",
		"830b015fff",
		"830b017fff",
		"830b018181819f00ff",
		"8218639fff",
		"830b01ff", /* break alone */
		"82ff01",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		expect_hex(vectors[i], -EBADMSG);
}

static void refuses_lengths_that_lie(void **state)
{
	static const char *const vectors[] = {
		"830b01", /* an array of three that has two */
		"970b01",
		"98ff0b01",
		"99ffff0b01",
		"9affffffff0b01",
		"9bffffffffffffffff0b01",
		"9b00000001000000020b01", /* two, where 32 bits are looked at */
		"85160000005affffffff00",
		"85160000005bffffffffffffffff00",
		"85160000005b000000010000000100",
		"851600000058ff00",
		"84181800007bffffffffffffffff61",
		"8303baffffffff80",
		"8303bbffffffffffffffff80",
		"8303bb800000000000000080",
		"8303a280", /* a map that takes the list for a key */
		"8303a09affffffff",
		"8303a09bffffffffffffffff",
		"8303a0810102",
		"8303a0829b00000001000000020102820102",
		"830b019bffffffffffffffff00",
		"830b01bb800000000000000000",
		"8218639affffffff",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		expect_hex(vectors[i], -EBADMSG);
}

static void refuses_broken_utf8(void **state)
{
	static const char *const texts[] = {
		"6180", "62c080",     "61c3",	    "62c328",	  "63eda080", "63e09fbf",
		"61ff", "64f4908080", "64f08fbfbf", "6461c3bcff", "62e282",
	};
	char hex[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		snprintf(hex, sizeof(hex), "8418180000%s", texts[i]);
		expect_hex(hex, -EBADMSG);
		snprintf(hex, sizeof(hex), "83181f00%s", texts[i]);
		expect_hex(hex, -EBADMSG);
		snprintf(hex, sizeof(hex), "8303a16c686f7473706f745f6e616d65%s80", texts[i]);
		expect_hex(hex, -EBADMSG);
	}
}

/* Broken far behind what is kept. */
static void checks_utf8_beyond_the_cut(void **state)
{
	uint8_t data[7 + 250] = {0x84, 0x18, 0x18, 0x00, 0x00, 0x78, 250};
	struct message m;

	(void)state;
	memset(data + 7, 'x', 250);
	assert_int_equal(decode(data, sizeof(data), &m), 0);
	data[sizeof(data) - 1] = 0xc3;
	assert_int_equal(decode(data, sizeof(data), &m), -EBADMSG);
}

static void refuses_trailing_bytes(void **state)
{
	static const char *const tails[] = {"00", "80", "f6", "ff", "9f", "0000000000000000"};
	char hex[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		build(&samples[i], count_fields(&samples[i]), 99, NULL, NULL, hex, sizeof(hex));
		for (size_t t = 0; t < ARRAY_SIZE(tails); t++) {
			char longer[600];

			snprintf(longer, sizeof(longer), "%s%s", hex, tails[t]);
			expect_hex(longer, -EBADMSG);
		}
	}
	expect_hex("81186300", -EBADMSG); /* of an unknown type too */
}

static void ignores_further_fields(void **state)
{
	static const char *const extras[] = {
		"00",
		"1bffffffffffffffff",
		"3bffffffffffffffff",
		"4401020304",
		"6161",
		"80",
		"83010203",
		"a0",
		"a201020304",
		"f4",
		"f5",
		"f6",
		"f7",
		"f93c00",
		"fa3fc00000",
		"fb3ff8000000000000",
		"c11a514b67b0",
		"d818456449455446",
		"8181818181818181a1a1800001",
		"98190102030405060708090a0b0c0d0e0f101112131415161718181819",
	};
	char hex[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		size_t own = count_fields(&samples[i]);

		for (size_t e = 0; e < ARRAY_SIZE(extras); e++) {
			for (size_t n = 1; n <= 3; n++) {
				struct message m;
				uint8_t *data;

				build(&samples[i], own + n, 99, NULL, extras[e], hex, sizeof(hex));
				data = good_hex(hex, &m);
				assert_int_equal(m.type, samples[i].type);
				free(data);
			}
		}
	}
}

static void ignores_unknown_types(void **state)
{
	static const char *const vectors[] = {
		"8100",
		"8104",
		"811863",
		"8118ff",
		"811affffffff",
		"811bffffffffffffffff",
		"811b0000000100000001", /* CHALLENGE, where 32 bits are looked at */
		"82186300",
		"82186380",
		"8218636161",
		"841863f6f5a10102",
		/* Types that only a hotspot sends. */
		"8102",
		"830a0180",
		"8114",
		"82181ea0",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		expect_hex(vectors[i], -ENOMSG);
	/* Ignored only where they are well-formed. */
	expect_hex("821863", -EBADMSG);
	expect_hex("82186341", -EBADMSG);
	expect_hex("8218631c", -EBADMSG);
	expect_hex("8218638100ff", -EBADMSG);
}

/* An extra field as deep as the longest message allows. */
static void ignores_deep_nesting(void **state)
{
	_cleanup_free_ uint8_t *data = malloc(MESSAGE_MAX);
	struct message m;

	(void)state;
	assert_non_null(data);
	memset(data, 0x81, MESSAGE_MAX);
	memcpy(data, "\x83\x0b\x01", 3);
	data[MESSAGE_MAX - 1] = 0;
	assert_int_equal(decode(data, MESSAGE_MAX, &m), 0);
	data[MESSAGE_MAX - 1] = 0x81;
	assert_int_equal(decode(data, MESSAGE_MAX, &m), -EBADMSG);
}

static void refuses_every_truncation(void **state)
{
	char hex[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		size_t len;
		uint8_t *data;

		build(&samples[i], count_fields(&samples[i]) + 1, 99, NULL, "826161a10203", hex,
		      sizeof(hex));
		data = unhex(hex, &len);
		for (size_t cut = 0; cut < len; cut++) {
			uint8_t *part = malloc(cut ? cut : 1);
			struct message m;

			assert_non_null(part);
			memcpy(part, data, cut);
			assert_int_equal(decode(part, cut, &m), -EBADMSG);
			free(part);
		}
		free(data);
	}
}

/* What every decoded message must be, whatever it was decoded from. */
static void check_invariants(const struct message *m, const uint8_t *data, size_t len)
{
	switch (m->type) {
	case MESSAGE_WELCOME:
		assert_true(m->welcome.credits <= MESSAGE_CREDITS_MAX);
		assert_non_null(memchr(m->welcome.hotspot_name, 0, MESSAGE_NAME_MAX + 1));
		break;
	case MESSAGE_DATA:
		assert_true(m->data.payload >= data && m->data.payload <= data + len);
		assert_true(m->data.len <= (size_t)(data + len - m->data.payload));
		break;
	case MESSAGE_CLOSE:
		assert_non_null(memchr(m->close.reason, 0, MESSAGE_REASON_MAX + 1));
		break;
	case MESSAGE_GOAWAY:
		assert_non_null(memchr(m->goaway.reason, 0, MESSAGE_REASON_MAX + 1));
		break;
	case MESSAGE_CHALLENGE:
	case MESSAGE_SIGHTINGS_ACK:
	case MESSAGE_ACCEPT:
	case MESSAGE_CREDIT:
		break;
	case MESSAGE_HELLO:
	case MESSAGE_SIGHTINGS:
	case MESSAGE_OPEN:
	case MESSAGE_STATS:
		fail_msg("a message that the cloud does not send was decoded");
	}
}

/* Every byte of every sample set to every value. */
static void survives_every_changed_byte(void **state)
{
	char hex[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		size_t len;
		uint8_t *data;

		build(&samples[i], count_fields(&samples[i]), 99, NULL, NULL, hex, sizeof(hex));
		data = unhex(hex, &len);
		for (size_t at = 0; at < len; at++) {
			uint8_t was = data[at];

			for (unsigned value = 0; value < 256; value++) {
				struct message m;
				int r;

				data[at] = (uint8_t)value;
				r = decode(data, len, &m);
				if (r == 0)
					check_invariants(&m, data, len);
				else
					assert_true(r == -EBADMSG || r == -ENOMSG);
			}
			data[at] = was;
		}
		free(data);
	}
}

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
	struct message_hello m = {id, point, signature, run, "blecon-hotspotd 0.1.0"};

	(void)state;
	check_encoder(hello, &m,
		      "87020150" ID "5841" POINT "5840" SIGNATURE
		      "a26372756e480123456789abcdef656167656e7475626c65636f6e2d686f7473706f7464"
		      "20302e312e3080");
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
	check_encoder(open_session, &(struct message_open){5, id, data, len, 0, 512, -70},
		      "87140550" ID "54" SERVICE_DATA "001902003845");
	check_encoder(open_session, &(struct message_open){UINT32_MAX, id, data, 0, 1, 65535, 20},
		      "87141affffffff50" ID "400119ffff14");
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decodes_challenge),
		cmocka_unit_test(decodes_welcome),
		cmocka_unit_test(decodes_the_short_ones),
		cmocka_unit_test(decodes_data),
		cmocka_unit_test(decodes_the_longest_message),
		cmocka_unit_test(decodes_close_and_goaway),
		cmocka_unit_test(cuts_texts),
		cmocka_unit_test(cuts_the_name),
		cmocka_unit_test(samples_are_good),
		cmocka_unit_test(refuses_missing_fields),
		cmocka_unit_test(refuses_wrong_kinds),
		cmocka_unit_test(refuses_wrong_values),
		cmocka_unit_test(refuses_what_is_no_array),
		cmocka_unit_test(refuses_other_forms_of_a_number),
		cmocka_unit_test(refuses_indefinite_lengths),
		cmocka_unit_test(refuses_lengths_that_lie),
		cmocka_unit_test(refuses_broken_utf8),
		cmocka_unit_test(checks_utf8_beyond_the_cut),
		cmocka_unit_test(refuses_trailing_bytes),
		cmocka_unit_test(ignores_further_fields),
		cmocka_unit_test(ignores_unknown_types),
		cmocka_unit_test(ignores_deep_nesting),
		cmocka_unit_test(refuses_every_truncation),
		cmocka_unit_test(survives_every_changed_byte),
		cmocka_unit_test(encodes_hello),
		cmocka_unit_test(encodes_sightings),
		cmocka_unit_test(the_largest_batch_fits),
		cmocka_unit_test(encodes_open),
		cmocka_unit_test(encodes_data),
		cmocka_unit_test(encodes_credit),
		cmocka_unit_test(encodes_close),
		cmocka_unit_test(encodes_stats),
		cmocka_unit_test(names_the_signed_bytes),
		cmocka_unit_test(decodes_what_it_encodes),
	};

	return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
