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
		"7473706f745f6e616d65664bc3bc636865828307182a10831affffffff1bffffffffffffffff1affff"
		"ffff",
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
	assert_int_equal(m.welcome.resume.n, 0);
	/* {"later": [{"a": [1, -2, h'78', {1: 2}]}, null, 1.5], "credits": 64, "z": {},
	 *  "report_ms": 2^64 - 1}, [[1, 2, 3, "later", [3]]] */
	c = good_hex("8303a4656c6174657283a161618401214178a10102f6fb3ff8000000000000676372656469"
		     "74731840617aa0697265706f72745f6d731bffffffffffffffff8185010203656c61746572"
		     "8103",
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
	for (size_t i = 0; i < SAMPLES; i++) {
		struct message m;
		uint8_t *data;

		build(&samples[i], count_fields(&samples[i]), 99, NULL, NULL, hex, sizeof(hex));
		data = good_hex(hex, &m);
		assert_int_equal(m.type, samples[i].type);
		free(data);
	}
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
	for (size_t i = 0; i < SAMPLES; i++) {
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

static uint8_t *good_example(const char *title, struct message *ret)
{
	_cleanup_free_ char *hex = example(title);

	return good_hex(hex, ret);
}

/* Those of PROTOCOL.md that the cloud sends. */
static void decodes_the_examples(void **state)
{
	struct message_resume resume;
	struct message m;
	_cleanup_free_ uint8_t *welcome = NULL;

	(void)state;
	assert_int_equal(count_examples(), 13); /* of which test_message_encode has the others */
	free(good_example("CHALLENGE, nonce of 32 bytes aa", &m));
	assert_int_equal(m.type, MESSAGE_CHALLENGE);
	for (unsigned i = 0; i < MESSAGE_NONCE_LEN; i++)
		assert_int_equal(m.challenge.nonce[i], 0xaa);
	assert_true(m.challenge.server_time_ms == UINT64_C(0x1a2085d7c28));
	free(good_example("WELCOME, 8 credits, reports every minute", &m));
	assert_int_equal(m.type, MESSAGE_WELCOME);
	assert_int_equal(m.welcome.credits, 8);
	assert_int_equal(m.welcome.report_ms, 60000);
	assert_int_equal(m.welcome.resume.n, 0);
	welcome = good_example(
		"WELCOME, session 1 goes on: all below seq 5 arrived, 11 more are taken", &m);
	assert_int_equal(m.welcome.credits, 0);
	assert_int_equal(m.welcome.resume.n, 1);
	assert_true(message_find_resume(&m.welcome.resume, 1, &resume));
	assert_int_equal(resume.session, 1);
	assert_int_equal(resume.next_seq, 5);
	assert_int_equal(resume.credits, 11);
	free(good_example("SIGHTINGS_ACK of batch 7", &m));
	assert_int_equal(m.type, MESSAGE_SIGHTINGS_ACK);
	assert_int_equal(m.ack_batch, 7);
	free(good_example("ACCEPT of session 1", &m));
	assert_int_equal(m.type, MESSAGE_ACCEPT);
	assert_int_equal(m.accept_session, 1);
	free(good_example("GOAWAY in 5 s", &m));
	assert_int_equal(m.type, MESSAGE_GOAWAY);
	assert_int_equal(m.goaway.after_ms, 5000);
	assert_string_equal(m.goaway.reason, "maintenance");
}

static void expect_resume(const struct message_resume_list *list, uint32_t session,
			  uint64_t next_seq, uint32_t credits)
{
	struct message_resume resume = {0};

	assert_true(message_find_resume(list, session, &resume));
	assert_int_equal(resume.session, session);
	assert_true(resume.next_seq == next_seq);
	assert_int_equal(resume.credits, credits);
}

static void expect_no_resume(const struct message_resume_list *list, uint32_t session)
{
	struct message_resume resume = {7, 8, 9};

	assert_false(message_find_resume(list, session, &resume));
	assert_int_equal(resume.session, 7);
	assert_int_equal(resume.next_seq, 8);
	assert_int_equal(resume.credits, 9);
}

static void finds_sessions_to_resume(void **state)
{
	struct message m;
	_cleanup_free_ uint8_t *a = NULL;
	_cleanup_free_ uint8_t *b = NULL;
	_cleanup_free_ uint8_t *c = NULL;

	(void)state;
	a = good_hex("8303a0828307182a10831affffffff1bffffffffffffffff1affffffff", &m);
	assert_int_equal(m.welcome.resume.n, 2);
	expect_resume(&m.welcome.resume, 7, 42, 16);
	expect_resume(&m.welcome.resume, UINT32_MAX, UINT64_MAX, UINT32_MAX);
	expect_no_resume(&m.welcome.resume, 0);
	expect_no_resume(&m.welcome.resume, 42); /* a next_seq is no session */
	expect_no_resume(&m.welcome.resume, 16);
	b = good_hex("8303a080", &m);
	expect_no_resume(&m.welcome.resume, 0);
	/* [[1, 2, 3, [9, 9, 9]], [4, 5, 6, {7: [8, 8, 8]}, h'09', null], [0, 0, 0]], and a field
	 * to come that looks the same: [[2, 2, 2]] */
	c = good_hex("8403a083840102038309090986040506a107830808084109f6830000008183020202", &m);
	assert_int_equal(m.welcome.resume.n, 3);
	expect_resume(&m.welcome.resume, 1, 2, 3);
	expect_resume(&m.welcome.resume, 4, 5, 6);
	expect_resume(&m.welcome.resume, 0, 0, 0);
	expect_no_resume(&m.welcome.resume, 9);
	expect_no_resume(&m.welcome.resume, 8);
	expect_no_resume(&m.welcome.resume, 7);
	expect_no_resume(&m.welcome.resume, 2);
}

/* As long as the longest message allows, and read to its last byte. */
static void finds_sessions_in_a_long_list(void **state)
{
	enum { N = 5000, HEAD = 6, ENTRY = 13 };
	_cleanup_free_ uint8_t *data = malloc(HEAD + N * ENTRY);
	struct message m;

	(void)state;
	assert_non_null(data);
	memcpy(data, "\x83\x03\xa0\x99\x13\x88", HEAD);
	for (uint32_t i = 0; i < N; i++) {
		/* [65536 + i, 2^16 + 3i, i % 7, false] */
		uint8_t *p = data + HEAD + (size_t)i * ENTRY;
		uint32_t session = 65536 + i, next_seq = 65536 + 3 * i;

		*p++ = 0x84;
		*p++ = 0x1a;
		for (int shift = 24; shift >= 0; shift -= 8)
			*p++ = (uint8_t)(session >> shift);
		*p++ = 0x1a;
		for (int shift = 24; shift >= 0; shift -= 8)
			*p++ = (uint8_t)(next_seq >> shift);
		*p++ = (uint8_t)(i % 7);
		*p++ = 0xf4;
	}
	assert_int_equal(decode(data, HEAD + N * ENTRY, &m), 0);
	assert_int_equal(m.welcome.resume.n, N);
	for (uint32_t i = 0; i < N; i += i < N - 100 ? 97 : 1)
		expect_resume(&m.welcome.resume, 65536 + i, 65536 + 3 * i, i % 7);
	expect_no_resume(&m.welcome.resume, 65535);
	expect_no_resume(&m.welcome.resume, 65536 + N);
	/* The last one is checked like the first. */
	data[HEAD + N * ENTRY - 1] = 0x60;
	assert_int_equal(decode(data, HEAD + N * ENTRY, &m), 0);
	data[HEAD + N * ENTRY - 1] = 0x61;
	assert_int_equal(decode(data, HEAD + N * ENTRY, &m), -EBADMSG);
	data[HEAD + N * ENTRY - 1] = 0xf4;
	data[HEAD + (N - 1) * ENTRY] = 0x82;
	assert_int_equal(decode(data, HEAD + N * ENTRY, &m), -EBADMSG);
	data[HEAD + (N - 1) * ENTRY] = 0x84;
	data[5]++; /* one more than there are */
	assert_int_equal(decode(data, HEAD + N * ENTRY, &m), -EBADMSG);
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
		cmocka_unit_test(ignores_further_fields),
		cmocka_unit_test(ignores_unknown_types),
		cmocka_unit_test(ignores_deep_nesting),
		cmocka_unit_test(decodes_the_examples),
		cmocka_unit_test(finds_sessions_to_resume),
		cmocka_unit_test(finds_sessions_in_a_long_list),
	};

	return cmocka_run_group_tests_name("message_decode", tests, NULL, NULL);
}
