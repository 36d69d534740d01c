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

static void write_all(struct wire_out *out)
{
	wire_out_array(out, 24);
	wire_out_uint(out, 0);
	wire_out_uint(out, 23);
	wire_out_uint(out, 24);
	wire_out_uint(out, 256);
	wire_out_uint(out, 65536);
	wire_out_uint(out, UINT64_MAX);
	wire_out_int(out, 0);
	wire_out_int(out, INT64_MAX);
	wire_out_int(out, -1);
	wire_out_int(out, -24);
	wire_out_int(out, -25);
	wire_out_int(out, -128);
	wire_out_int(out, INT64_MIN);
	wire_out_bytes(out, NULL, 0);
	wire_out_bytes(out, "\x01\x02", 2);
	wire_out_text(out, "");
	wire_out_text(out, "K\xc3\xbc");
	wire_out_map(out, 0);
	wire_out_map(out, 1);
	wire_out_array(out, 0);
}

static void writes_the_shortest_form(void **state)
{
	size_t len;
	_cleanup_free_ uint8_t *expected =
		unhex("98180017181819010"
		      "01a000100001bffffffffffffffff001b7fffffffffffffff20373818387f"
		      "3b7fffffffffffffff4042010260634bc3bca0a180",
		      &len);
	uint8_t buf[128];
	struct wire_out out;

	(void)state;
	wire_out_init(&out, buf, sizeof(buf));
	write_all(&out);
	assert_false(out.failed);
	assert_int_equal(out.len, len);
	assert_memory_equal(buf, expected, len);

	for (size_t size = 0; size <= len; size++) {
		_cleanup_free_ uint8_t *tight = malloc(size ? size : 1);

		assert_non_null(tight);
		wire_out_init(&out, tight, size);
		write_all(&out);
		assert_int_equal(out.failed, size < len);
		assert_true(out.len <= size);
	}
}

/* What came after the first thing that did not fit is not written, even where it would fit. */
static void nothing_after_an_overflow(void **state)
{
	uint8_t buf[4] = {0xee, 0xee, 0xee, 0xee};
	struct wire_out out;

	(void)state;
	wire_out_init(&out, buf, sizeof(buf));
	wire_out_uint(&out, 1);
	wire_out_uint(&out, UINT32_MAX);
	wire_out_uint(&out, 2);
	assert_true(out.failed);
	assert_int_equal(buf[0], 1);
	assert_int_equal(buf[1], 0xee);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(writes_the_shortest_form),
		cmocka_unit_test(nothing_after_an_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
