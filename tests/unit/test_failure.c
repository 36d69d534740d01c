/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/failure.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static void each_place_has_its_name(void **state)
{
	(void)state;
	assert_string_equal(failure_at_name(FAILURE_AT_NONE), "");
	for (enum failure_at a = FAILURE_AT_RESOLVE; a <= FAILURE_AT_UP; a++) {
		assert_true(strlen(failure_at_name(a)) > 0);
		for (enum failure_at b = FAILURE_AT_NONE; b < a; b++)
			assert_string_not_equal(failure_at_name(a), failure_at_name(b));
	}
}

static void causes_have_their_place(void **state)
{
	(void)state;
	for (enum failure_cause c = FAILURE_UNKNOWN; c <= FAILURE_SUBPROTOCOL; c++)
		assert_int_equal(failure_at_of(c) == FAILURE_AT_NONE,
				 c == FAILURE_UNKNOWN || c == FAILURE_SILENCE);
	assert_int_equal(failure_at_of(FAILURE_REFUSED), FAILURE_AT_TCP);
	assert_int_equal(failure_at_of(FAILURE_NO_PROXY), FAILURE_AT_PROXY);
	assert_int_equal(failure_at_of(FAILURE_CLOCK), FAILURE_AT_TLS);
	assert_int_equal(failure_at_of(FAILURE_TOKEN), FAILURE_AT_UPGRADE);
}

static void knows_errors_and_answers(void **state)
{
	(void)state;
	assert_int_equal(failure_of_errno(ECONNREFUSED), FAILURE_REFUSED);
	assert_int_equal(failure_of_errno(ENETUNREACH), FAILURE_UNREACHABLE);
	assert_int_equal(failure_of_errno(EHOSTUNREACH), FAILURE_UNREACHABLE);
	assert_int_equal(failure_of_errno(ETIMEDOUT), FAILURE_SILENCE);
	assert_int_equal(failure_of_errno(ECONNRESET), FAILURE_UNKNOWN);
	assert_int_equal(failure_of_proxy(407), FAILURE_PROXY_USER);
	assert_int_equal(failure_of_proxy(401), FAILURE_PROXY_USER);
	assert_int_equal(failure_of_proxy(403), FAILURE_PROXY_REFUSES);
	assert_int_equal(failure_of_proxy(503), FAILURE_PROXY_TARGET);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_place_has_its_name),
		cmocka_unit_test(causes_have_their_place),
		cmocka_unit_test(knows_errors_and_answers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
