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

static void refuses_missing_fields(void **state)
{
	char hex[512], more[600];

	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
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
	for (size_t i = 0; i < SAMPLES; i++) {
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
		"8303a081820105", /* of two, as it once was */
		"8303a0818201050b",
		"8303a081a3010203040506",
		"8303a0818361010203",
		"8303a0818301610203",
		"8303a0818301026103",
		"8303a08183f60203",
		"8303a08183200203",
		"8303a08183012003",
		"8303a08183010220",
		/* Session and credits of more than 32 bits. */
		"8303a081831b00000001000000000203",
		"8303a0818301021b0000000100000000",
		/* The last of several; an extra element that is missing or broken. */
		"8303a08283010203820405",
		"8303a0828301020301",
		"8303a08184010203",
		"8303a081840102031801",
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
		"8303a081980307182910",
		"8303a0818318070010",
		"8303a0818307180110",
		"8303a0818307001810",
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
		"8303a0819f010203ff",
		"8303a09f83010203ff",
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
		"8303a0829b000000010000000301020383010203",
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
	for (size_t i = 0; i < SAMPLES; i++) {
		build(&samples[i], count_fields(&samples[i]), 99, NULL, NULL, hex, sizeof(hex));
		for (size_t t = 0; t < ARRAY_SIZE(tails); t++) {
			char longer[600];

			snprintf(longer, sizeof(longer), "%s%s", hex, tails[t]);
			expect_hex(longer, -EBADMSG);
		}
	}
	expect_hex("81186300", -EBADMSG); /* of an unknown type too */
}

static void refuses_every_truncation(void **state)
{
	char hex[512];

	(void)state;
	for (size_t i = 0; i < SAMPLES; i++) {
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
	for (size_t i = 0; i < SAMPLES; i++) {
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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
		cmocka_unit_test(refuses_every_truncation),
		cmocka_unit_test(survives_every_changed_byte),
	};

	return cmocka_run_group_tests_name("message_refuse", tests, NULL, NULL);
}
