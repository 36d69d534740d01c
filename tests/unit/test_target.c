/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/target.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "agent/util.h"

static void splits_off_the_host(void **state)
{
	static const struct {
		const char *authority, *host, *text;
		uint16_t port;
		bool is_address;
	} cases[] = {
		{"cloud.example:443", "cloud.example", "cloud.example", 443, false},
		{"127.0.0.1:8443", "127.0.0.1", "127.0.0.1", 8443, true},
		{"127.0.0.1.example:1", "127.0.0.1.example", "127.0.0.1.example", 1, false},
		{"[::1]:65535", "[::1]", "::1", 65535, true},
		{"[2001:db8:0:0:0:ffff:192.168.100.228]:443",
		 "[2001:db8:0:0:0:ffff:192.168.100.228]", "2001:db8:0:0:0:ffff:192.168.100.228",
		 443, true},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct websocket_target target = {.authority = cases[i].authority};
		char host[64], address[INET6_ADDRSTRLEN];

		assert_int_equal(target_host(&target, host, sizeof(host)), cases[i].port);
		assert_string_equal(host, cases[i].host);
		assert_int_equal(target_address(&target, address, sizeof(address)),
				 cases[i].is_address);
		assert_string_equal(address, cases[i].text);
	}
}

static void a_long_name_is_no_address(void **state)
{
	const struct websocket_target target = {
		.authority = "1.2.3.4.a-name-that-is-longer-than-any-address-there-can-be:443",
	};
	char address[INET6_ADDRSTRLEN];

	(void)state;
	assert_false(target_address(&target, address, sizeof(address)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(splits_off_the_host),
		cmocka_unit_test(a_long_name_is_no_address),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
