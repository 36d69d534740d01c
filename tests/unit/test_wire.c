/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

static void reads_uint(void **state)
{
	static const struct {
		const char *hex;
		uint64_t value;
	} vectors[] = {
		/* RFC 8949, appendix A. */
		{"00", 0},
		{"01", 1},
		{"0a", 10},
		{"17", 23},
		{"1818", 24},
		{"1819", 25},
		{"1864", 100},
		{"18ff", 255},
		{"190100", 256},
		{"1903e8", 1000},
		{"19ffff", 65535},
		{"1a00010000", 65536},
		{"1a000f4240", 1000000},
		{"1affffffff", UINT32_MAX},
		{"1b0000000100000000", UINT64_C(4294967296)},
		{"1b000000e8d4a51000", UINT64_C(1000000000000)},
		{"1bffffffffffffffff", UINT64_MAX},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t len;
		_cleanup_free_ uint8_t *data = unhex(vectors[i].hex, &len);
		struct wire_in in;

		wire_in_init(&in, data, len);
		assert_true(wire_in_uint(&in, UINT64_MAX) == vectors[i].value);
		assert_true(wire_in_complete(&in));
		wire_in_init(&in, data, len);
		assert_true(wire_in_uint(&in, vectors[i].value) == vectors[i].value);
		assert_true(wire_in_complete(&in));
		if (vectors[i].value == 0)
			continue;
		wire_in_init(&in, data, len);
		assert_true(wire_in_uint(&in, vectors[i].value - 1) == 0);
		assert_true(in.failed);
		assert_false(wire_in_complete(&in));
	}
}

static void reads_int(void **state)
{
	static const struct {
		const char *hex;
		int64_t value;
	} vectors[] = {
		{"00", 0},
		{"17", 23},
		{"187f", 127},
		{"20", -1},
		{"37", -24},
		{"387f", -128},
		{"3a7fffffff", INT32_MIN},
		{"1a7fffffff", INT32_MAX},
		{"3b7fffffffffffffff", INT64_MIN},
		{"1b7fffffffffffffff", INT64_MAX},
	};
	static const char *const wrong[] = {
		"1b8000000000000000", "3b8000000000000000", "3bffffffffffffffff", "40", "f6", ""};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		int64_t value = vectors[i].value;
		size_t len;
		_cleanup_free_ uint8_t *data = unhex(vectors[i].hex, &len);
		struct wire_in in;

		wire_in_init(&in, data, len);
		assert_true(wire_in_int(&in, value, value) == value);
		assert_true(wire_in_complete(&in));
		wire_in_init(&in, data, len);
		if (value < INT64_MAX)
			assert_true(wire_in_int(&in, value + 1, INT64_MAX) == 0 && in.failed);
		wire_in_init(&in, data, len);
		if (value > INT64_MIN)
			assert_true(wire_in_int(&in, INT64_MIN, value - 1) == 0 && in.failed);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		size_t len;
		_cleanup_free_ uint8_t *data = unhex(wrong[i], &len);
		struct wire_in in;

		wire_in_init(&in, data, len);
		assert_true(wire_in_int(&in, INT64_MIN, INT64_MAX) == 0);
		assert_true(in.failed);
	}
}

/* Every getter refuses these whole, and so does skip. */
static void refuses_broken_items(void **state)
{
	static const char *const vectors[] = {
		"", /* nothing at all */
		/* Not the shortest form. */
		"1800",
		"1817",
		"190000",
		"1900ff",
		"1a00000000",
		"1a0000ffff",
		"1b0000000000000000",
		"1b00000000ffffffff",
		"3800",
		"390017",
		"3a0000ffff",
		"3b00000000ffffffff",
		"5800",
		"580161",
		"59000161",
		"5a0000000161",
		"5b000000000000000161",
		"7800",
		"780161",
		"79000161",
		"7a0000000161",
		"7b000000000000000161",
		"9800",
		"980100",
		"99000100",
		"9a0000000100",
		"9b000000000000000100",
		"b800",
		"b8010000",
		"b900010000",
		"ba000000010000",
		"bb00000000000000010000",
		"d80100",
		"d9000100",
		"da0000000100",
		"db000000000000000100",
		/* Indefinite lengths and a lone break. */
		"5f4100ff",
		"7f6161ff",
		"9f00ff",
		"9fff",
		"bf0000ff",
		"bfff",
		"ff",
		/* Reserved additional information. */
		"1c",
		"1d",
		"1e",
		"1f",
		"3c",
		"5c",
		"5d",
		"5e",
		"7c",
		"9c",
		"bc",
		"dc",
		"df",
		"fc",
		"fd",
		"fe",
		/* Cut short. */
		"18",
		"19",
		"1900",
		"1a000000",
		"1b00000000000000",
		"38",
		"58",
		"5820",
		"41",
		"4200",
		"61",
		"6261",
		"f9",
		"f900",
		"fa000000",
		"fb00000000000000",
		"c0",
		"d8",
		"81",
		"8200",
		"a1",
		"a100",
		"818181",
		/* Lengths that lie. */
		"5affffffff00",
		"5bffffffffffffffff00",
		"7bffffffffffffffff00",
		"9affffffff00",
		"9bffffffffffffffff00",
		"9b800000000000000000",
		"baffffffff0000",
		"bbffffffffffffffff0000",
		"bb80000000000000000000",
		/* The same within a container. */
		"8100ff" /* after it */,
		"819bffffffffffffffff00",
		"818218",
		"a1005f4100ff",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t len, n;
		_cleanup_free_ uint8_t *data = unhex(vectors[i], &len);
		struct wire_in in;

		wire_in_init(&in, data, len);
		wire_in_skip(&in);
		if (wire_in_complete(&in))
			fail_msg("%s was skipped", vectors[i]);
		if (data[0] == 0x81 || data[0] == 0xa1 || data[0] == 0x82 || data[0] == 0xc0)
			continue; /* the head by itself is fine */
		wire_in_init(&in, data, len);
		assert_true(wire_in_uint(&in, UINT64_MAX) == 0);
		assert_true(in.failed);
		wire_in_init(&in, data, len);
		n = 99;
		assert_null(wire_in_bytes(&in, &n));
		assert_true(in.failed);
		assert_int_equal(n, 0);
		wire_in_init(&in, data, len);
		n = 99;
		assert_null(wire_in_text(&in, &n));
		assert_true(in.failed);
		assert_int_equal(n, 0);
		wire_in_init(&in, data, len);
		assert_int_equal(wire_in_array(&in), 0);
		assert_true(in.failed);
		wire_in_init(&in, data, len);
		assert_int_equal(wire_in_map(&in), 0);
		assert_true(in.failed);
	}
}

static void skips_whole_items(void **state)
{
	static const char *const vectors[] = {
		/* RFC 8949, appendix A, what has a definite length. */
		"00",
		"17",
		"1818",
		"1bffffffffffffffff",
		"20",
		"3863",
		"3903e7",
		"3bffffffffffffffff",
		"f90000",
		"fb3ff199999999999a",
		"fa47c35000",
		"f97e00",
		"f4",
		"f5",
		"f6",
		"f7",
		"c074323031332d30332d32315432303a30343a30305a",
		"c11a514b67b0",
		"d74401020304",
		"d818456449455446",
		"d82076687474703a2f2f7777772e6578616d706c652e636f6d",
		"40",
		"4401020304",
		"60",
		"6161",
		"62c3bc",
		"64f0908591",
		"80",
		"83010203",
		"8301820203820405",
		"98190102030405060708090a0b0c0d0e0f101112131415161718181819",
		"a0",
		"a201020304",
		"a26161016162820203",
		"826161a161626163",
		"a56161614161626142616361436164614461656145",
		"d81aa0",
		"c1c2c300",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t len;
		_cleanup_free_ uint8_t *data = unhex(vectors[i], &len);
		struct wire_in in;

		wire_in_init(&in, data, len);
		wire_in_skip(&in);
		if (!wire_in_complete(&in))
			fail_msg("%s was not skipped", vectors[i]);
		for (size_t cut = 0; cut < len; cut++) {
			wire_in_init(&in, data, cut);
			wire_in_skip(&in);
			assert_false(wire_in_complete(&in));
		}
	}
}

/* Well-formed, though without a meaning yet (RFC 8949, section 3.3). */
static void skips_unassigned_simple_values(void **state)
{
	static const char *const vectors[] = {"e0", "f0", "f3", "f820", "f8ff", "82f0f8ff"};
	static const char *const broken[] = {"f8", "f800", "f818", "f81f"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors) + ARRAY_SIZE(broken); i++) {
		bool good = i < ARRAY_SIZE(vectors);
		const char *hex = good ? vectors[i] : broken[i - ARRAY_SIZE(vectors)];
		size_t len;
		_cleanup_free_ uint8_t *data = unhex(hex, &len);
		struct wire_in in;

		wire_in_init(&in, data, len);
		wire_in_skip(&in);
		if (wire_in_complete(&in) != good)
			fail_msg("%s is %s", hex, good ? "well-formed" : "broken");
	}
}

/* One item is passed over and not one byte more. */
static void skip_stops_after_its_item(void **state)
{
	static const uint8_t data[] = {0x82, 0xa1, 0x61, 'a', 0x80, 0xc1, 0x05, 0x07};
	struct wire_in in;

	(void)state;
	wire_in_init(&in, data, sizeof(data));
	wire_in_skip(&in);
	assert_false(in.failed);
	assert_false(wire_in_complete(&in));
	assert_int_equal(wire_in_uint(&in, 100), 7);
	assert_true(wire_in_complete(&in));
}

/* Depth costs no stack: each nesting item that a message has room for. */
static void skips_the_deepest_nesting(void **state)
{
	static const uint8_t heads[] = {0x81, 0xa1, 0xc1};
	const size_t len = 65536;
	_cleanup_free_ uint8_t *data = malloc(len);
	struct wire_in in;

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
		memset(data, heads[i], len);
		wire_in_init(&in, data, len);
		wire_in_skip(&in);
		assert_true(in.failed);
	}
	memset(data, 0x81, len);
	data[len - 1] = 0;
	wire_in_init(&in, data, len);
	wire_in_skip(&in);
	assert_true(wire_in_complete(&in));
}

/* Promises that add up to more than a machine can count, each by itself just possible. */
static void many_large_containers(void **state)
{
	const size_t len = 65536;
	_cleanup_free_ uint8_t *data = malloc(len);
	struct wire_in in;

	(void)state;
	assert_non_null(data);
	for (size_t i = 0; i + 3 <= len; i += 3) {
		size_t left = len - i - 3;

		data[i] = 0xb9;
		data[i + 1] = (uint8_t)(left >> 8);
		data[i + 2] = (uint8_t)left;
	}
	data[len - 1] = 0;
	wire_in_init(&in, data, len);
	wire_in_skip(&in);
	assert_true(in.failed);
}

static void reads_strings(void **state)
{
	size_t len, n;
	_cleanup_free_ uint8_t *data = unhex("43010203406361c3bc60", &len);
	struct wire_in in;

	(void)state;
	wire_in_init(&in, data, len);
	assert_ptr_equal(wire_in_bytes(&in, &n), data + 1);
	assert_int_equal(n, 3);
	assert_non_null(wire_in_bytes_exact(&in, 0));
	assert_ptr_equal(wire_in_text(&in, &n), data + 6);
	assert_int_equal(n, 3);
	assert_non_null(wire_in_text(&in, &n));
	assert_int_equal(n, 0);
	assert_true(wire_in_complete(&in));

	wire_in_init(&in, data, len);
	assert_ptr_equal(wire_in_bytes_exact(&in, 3), data + 1);
	wire_in_init(&in, data, len);
	assert_null(wire_in_bytes_exact(&in, 2));
	assert_true(in.failed);
	wire_in_init(&in, data, len);
	assert_null(wire_in_bytes_exact(&in, 4));
	assert_true(in.failed);
}

static void checks_utf8(void **state)
{
	static const struct {
		const char *hex;
		bool good;
	} vectors[] = {
		{"6100", true}, /* U+0000 */
		{"617f", true},	       {"62c280", true}, /* U+0080 */
		{"62dfbf", true}, /* U+07FF */
		{"63e0a080", true}, /* U+0800 */
		{"63ed9fbf", true}, /* U+D7FF */
		{"63ee8080", true}, /* U+E000 */
		{"63efbfbf", true}, /* U+FFFF */
		{"64f0908080", true}, /* U+10000 */
		{"64f48fbfbf", true}, /* U+10FFFF */
		{"6180", false}, /* a continuation alone */
		{"61bf", false},       {"62c080", false}, /* U+0000 in two bytes */
		{"62c1bf", false},     {"61c3", false}, /* cut short */
		{"62c328", false},     {"63e09fbf", false}, /* U+07FF in three bytes */
		{"63eda080", false}, /* a surrogate */
		{"63edbfbf", false},   {"62e282", false},
		{"63e28228", false},   {"64f08fbfbf", false}, /* U+FFFF in four bytes */
		{"64f4908080", false}, /* U+110000 */
		{"64f5808080", false}, {"65f888808080", false},
		{"63f09f98", false},   {"61fe", false},
		{"61ff", false},       {"6461c3bcff", false}, /* good ones before it */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t len, n;
		_cleanup_free_ uint8_t *data = unhex(vectors[i].hex, &len);
		struct wire_in in;
		const char *text;

		wire_in_init(&in, data, len);
		text = wire_in_text(&in, &n);
		if (wire_in_complete(&in) != vectors[i].good)
			fail_msg("%s is %s", vectors[i].hex, vectors[i].good ? "good" : "bad");
		assert_int_equal(text != NULL, vectors[i].good);
		assert_int_equal(n, vectors[i].good ? len - 1 : 0);
	}
}

static void refuses_another_kind(void **state)
{
	static const char *const vectors[] = {"00", "20", "40", "60", "80", "a0", "c100", "f6"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		size_t len, n;
		_cleanup_free_ uint8_t *data = unhex(vectors[i], &len);

		for (size_t kind = 0; kind < 5; kind++) {
			static const size_t own[] = {0, 2, 3, 4, 5};
			struct wire_in in;

			wire_in_init(&in, data, len);
			if (kind == 0)
				wire_in_uint(&in, UINT64_MAX);
			else if (kind == 1)
				wire_in_bytes(&in, &n);
			else if (kind == 2)
				wire_in_text(&in, &n);
			else if (kind == 3)
				assert_int_equal(wire_in_array(&in), 0);
			else
				assert_int_equal(wire_in_map(&in), 0);
			assert_int_equal(in.failed, own[kind] != i);
		}
	}
}

static void counts_items(void **state)
{
	size_t len;
	_cleanup_free_ uint8_t *data = unhex("8300a2010203041818", &len);
	struct wire_in in;

	(void)state;
	wire_in_init(&in, data, len);
	assert_int_equal(wire_in_array(&in), 3);
	assert_int_equal(wire_in_uint(&in, 0), 0);
	assert_int_equal(wire_in_map(&in), 2);
	for (unsigned i = 1; i <= 4; i++)
		assert_int_equal(wire_in_uint(&in, 10), i);
	assert_int_equal(wire_in_uint(&in, 24), 24);
	assert_true(wire_in_complete(&in));
}

/* After the first failure nothing is taken any more. */
static void a_failure_stays(void **state)
{
	static const uint8_t data[] = {0x05, 0x41, 0x00, 0x00};
	struct wire_in in;
	size_t n = 99;

	(void)state;
	wire_in_init(&in, data, sizeof(data));
	assert_int_equal(wire_in_uint(&in, 4), 0);
	assert_null(wire_in_bytes(&in, &n));
	assert_int_equal(n, 0);
	assert_null(wire_in_bytes_exact(&in, 0));
	wire_in_skip(&in);
	assert_int_equal(wire_in_uint(&in, UINT64_MAX), 0);
	assert_true(in.failed);
	assert_false(wire_in_complete(&in));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_uint),
		cmocka_unit_test(reads_int),
		cmocka_unit_test(refuses_broken_items),
		cmocka_unit_test(skips_whole_items),
		cmocka_unit_test(skips_unassigned_simple_values),
		cmocka_unit_test(skip_stops_after_its_item),
		cmocka_unit_test(skips_the_deepest_nesting),
		cmocka_unit_test(many_large_containers),
		cmocka_unit_test(reads_strings),
		cmocka_unit_test(checks_utf8),
		cmocka_unit_test(refuses_another_kind),
		cmocka_unit_test(counts_items),
		cmocka_unit_test(a_failure_stays),
	};

	return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
