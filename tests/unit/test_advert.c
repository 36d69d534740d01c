/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/advert.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

#define DATA_MAX 64

static size_t from_hex(const char *hex, uint8_t *ret)
{
	size_t n = 0;

	for (; hex[0] && hex[1]; hex += 2) {
		unsigned byte;

		assert_true(n < DATA_MAX);
		assert_int_equal(sscanf(hex, "%2x", &byte), 1);
		ret[n++] = (uint8_t)byte;
	}
	return n;
}

/* What is before the service data in the captures: Flags, the list of UUIDs, type and UUID. */
#define CAPTURE_HEAD "02010603030dfd17160dfd"

/* Advertising data as it was captured. */
static void test_captures(void **state)
{
	static const struct {
		const char *hex;
		const char *device_id;
		int tx_power_dbm;
		bool asks, announces;
	} captures[] = {
		{CAPTURE_HEAD "3a04f2ea6ed6c0794602980dfce59cf19da20300",
		 "f2ea6ed6-c079-4602-980d-fce59cf19da2", 4, false, false},
		{CAPTURE_HEAD "3b04f2ea6ed6c0794602980dfce59cf19da20300",
		 "f2ea6ed6-c079-4602-980d-fce59cf19da2", 4, true, false},
		{CAPTURE_HEAD "3f04f2ea6ed6c0794602980dfce59cf19da20300",
		 "f2ea6ed6-c079-4602-980d-fce59cf19da2", 4, true, true},
		/* An IN100 beacon sets both bits of meaning, though it can only be spotted. */
		{CAPTURE_HEAD "070062f54cf669df453eac7a4c5841fd8bf50100",
		 "62f54cf6-69df-453e-ac7a-4c5841fd8bf5", 0, true, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(captures); i++) {
		uint8_t data[DATA_MAX];
		size_t head = strlen(CAPTURE_HEAD) / 2;
		size_t len = from_hex(captures[i].hex, data);
		char device_id[UTIL_UUID_TEXT];
		struct advert advert;

		assert_int_equal(len, head + ADVERT_LEN);
		assert_int_equal(advert_decode(data + head, len - head, &advert), 0);
		util_uuid_text(advert.device_id, device_id);
		assert_string_equal(device_id, captures[i].device_id);
		assert_int_equal(advert.tx_power_dbm, captures[i].tx_power_dbm);
		assert_int_equal(!!(advert.flags & ADVERT_FLAG_ASKS), captures[i].asks);
		assert_int_equal(!!(advert.flags & ADVERT_FLAG_ANNOUNCES), captures[i].announces);
		assert_memory_equal(advert.data, data + head, ADVERT_LEN);
	}
}

static const uint8_t good[ADVERT_LEN] = {
	0x3a, 0x04, 0xf2, 0xea, 0x6e, 0xd6, 0xc0, 0x79, 0x46, 0x02,
	0x98, 0x0d, 0xfc, 0xe5, 0x9c, 0xf1, 0x9d, 0xa2, 0x03, 0x00,
};

/* The official scanner drops 19 bytes or fewer and ignores what follows the 20th. */
static void test_lengths(void **state)
{
	(void)state;
	for (size_t len = 0; len <= DATA_MAX; len++) {
		/* Of the exact size, so that a sanitizer sees every byte read beyond it. */
		_cleanup_free_ uint8_t *data = malloc(MAX(len, (size_t)1));
		struct advert advert, untouched;

		assert_non_null(data);
		memset(data, 0xee, len);
		memcpy(data, good, MIN(len, sizeof(good)));
		memset(&advert, 0x55, sizeof(advert));
		untouched = advert;
		if (len < ADVERT_LEN) {
			assert_int_equal(advert_decode(data, len, &advert), -EBADMSG);
			assert_memory_equal(&advert, &untouched, sizeof(advert));
		} else {
			assert_int_equal(advert_decode(data, len, &advert), 0);
			assert_memory_equal(advert.data, good, ADVERT_LEN);
			assert_memory_equal(advert.device_id, good + 2, 16);
		}
	}
}

static void test_no_data(void **state)
{
	struct advert advert;

	(void)state;
	assert_int_equal(advert_decode(NULL, 0, &advert), -EBADMSG);
}

/* One byte takes all its values: nothing but the Device ID decides. */
static void check_any_value_at(size_t offset)
{
	for (unsigned value = 0; value <= UINT8_MAX; value++) {
		uint8_t data[ADVERT_LEN];
		struct advert advert;

		memcpy(data, good, sizeof(data));
		data[offset] = (uint8_t)value;
		assert_int_equal(advert_decode(data, sizeof(data), &advert), 0);
		assert_memory_equal(advert.data, data, sizeof(data));
		assert_int_equal(advert.flags, data[0]);
		assert_int_equal(advert.tx_power_dbm, (int8_t)data[1]);
	}
}

static void test_any_flags(void **state)
{
	(void)state;
	check_any_value_at(0);
}

static void test_any_tx_power(void **state)
{
	(void)state;
	check_any_value_at(1);
}

static void test_any_last_bytes(void **state)
{
	(void)state;
	check_any_value_at(18);
	check_any_value_at(19);
}

static void test_nil_id(void **state)
{
	uint8_t data[ADVERT_LEN];
	struct advert advert, untouched;

	(void)state;
	memcpy(data, good, sizeof(data));
	memset(data + 2, 0, 16);
	memset(&advert, 0x55, sizeof(advert));
	untouched = advert;
	assert_int_equal(advert_decode(data, sizeof(data), &advert), -EBADMSG);
	assert_memory_equal(&advert, &untouched, sizeof(advert));
	/* One bit anywhere in it makes it a device. */
	for (size_t bit = 0; bit < 128; bit++) {
		memset(data + 2, 0, 16);
		data[2 + bit / 8] = (uint8_t)(1u << bit % 8);
		assert_int_equal(advert_decode(data, sizeof(data), &advert), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_captures),     cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_no_data),	     cmocka_unit_test(test_any_flags),
		cmocka_unit_test(test_any_tx_power), cmocka_unit_test(test_any_last_bytes),
		cmocka_unit_test(test_nil_id),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
