/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/describe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "uplink/message.h"

static const struct endpoint endpoint = {
	.host = "hub.example", .port = 443, .authority = "hub.example:443"};
static const struct proxy proxy = {.host = "proxy.example", .port = 3128};
static const struct route direct = {
	.endpoint = &endpoint, .next = 1, .addresses = {.n = 1, .addresses = {"192.0.2.1"}}};
static const struct route proxied = {.endpoint = &endpoint,
				     .proxy = &proxy,
				     .next = 1,
				     .addresses = {.n = 1, .addresses = {"192.0.2.9"}}};

static void names_the_ends(void **state)
{
	static const struct {
		const struct route *route;
		struct websocket_end end;
		const char *expected;
	} cases[] = {
		{&direct,
		 {.step = WEBSOCKET_STEP_TCP, .reason = "Connection refused"},
		 "cannot connect to 192.0.2.1, port 443: Connection refused"},
		{&direct,
		 {.step = WEBSOCKET_STEP_TLS, .reason = "no TLS in 15 s"},
		 "cannot connect to hub.example:443 (192.0.2.1): no TLS in 15 s"},
		{&proxied,
		 {.step = WEBSOCKET_STEP_TCP, .reason = "Connection refused"},
		 "cannot connect to the proxy 192.0.2.9, port 3128: Connection refused"},
		{&proxied,
		 {.step = WEBSOCKET_STEP_UPGRADE, .reason = "HTTP 404"},
		 "cannot connect to hub.example:443 (through 192.0.2.9): HTTP 404"},
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 1006, .reason = "connection lost"},
		 "connection lost"},
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 4401, .by_peer = true, .reason = "who?"},
		 "closed by the server (4401): who?"},
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 1001, .by_peer = true, .reason = ""},
		 "closed by the server (1001): no reason given"},
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 4409, .by_peer = true, .reason = "x"},
		 "closed by the server (4409): another hotspot has this one's key: x"},
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 4400, .reason = "broken CBOR"},
		 "bad message from the server, closed (4400): broken CBOR"},
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 1001, .reason = "x"},
		 "closed (1001): x"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char text[200];

		describe_end(cases[i].route, &cases[i].end, text, sizeof(text));
		assert_string_equal(text, cases[i].expected);
	}
}

static void names_the_place(void **state)
{
	static const struct {
		const struct route *route;
		struct websocket_end end;
		bool was_up, silent;
		struct failure expected;
	} cases[] = {
		{&direct,
		 {.step = WEBSOCKET_STEP_TCP, .cause = FAILURE_REFUSED},
		 false,
		 false,
		 {FAILURE_AT_TCP, FAILURE_REFUSED, 0, 0}},
		{&proxied,
		 {.step = WEBSOCKET_STEP_TCP, .cause = FAILURE_REFUSED},
		 false,
		 false,
		 {FAILURE_AT_PROXY, FAILURE_REFUSED, 0, 0}},
		{&direct,
		 {.step = WEBSOCKET_STEP_TCP, .code = 1006},
		 false,
		 true,
		 {FAILURE_AT_TCP, FAILURE_SILENCE, 0, 0}},
		{&direct,
		 {.step = WEBSOCKET_STEP_TLS, .code = 1006},
		 false,
		 true,
		 {FAILURE_AT_TLS, FAILURE_SILENCE, 0, 0}},
		{&proxied,
		 {.step = WEBSOCKET_STEP_TLS, .code = 1006},
		 false,
		 true,
		 {FAILURE_AT_PROXY, FAILURE_SILENCE, 0, 0}},
		{&proxied,
		 {.step = WEBSOCKET_STEP_TLS, .cause = FAILURE_PROXY_USER},
		 false,
		 false,
		 {FAILURE_AT_PROXY, FAILURE_PROXY_USER, 0, 0}},
		{&proxied,
		 {.step = WEBSOCKET_STEP_TLS, .cause = FAILURE_EXPIRED},
		 false,
		 false,
		 {FAILURE_AT_TLS, FAILURE_EXPIRED, 0, 0}},
		/* In TLS 1.3 the client learns of it afterwards. */
		{&direct,
		 {.step = WEBSOCKET_STEP_UPGRADE, .cause = FAILURE_CERTIFICATE_WANTED},
		 false,
		 false,
		 {FAILURE_AT_TLS, FAILURE_CERTIFICATE_WANTED, 0, 0}},
		{&direct,
		 {.step = WEBSOCKET_STEP_UPGRADE, .code = 1006, .http_status = 503},
		 false,
		 false,
		 {FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 503}},
		{&proxied,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 4401, .by_peer = true},
		 false,
		 false,
		 {FAILURE_AT_HELLO, FAILURE_UNKNOWN, 4401, 0}},
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 1006},
		 false,
		 true,
		 {FAILURE_AT_HELLO, FAILURE_SILENCE, 0, 0}},
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 1006},
		 true,
		 false,
		 {FAILURE_AT_UP, FAILURE_UNKNOWN, 0, 0}},
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 1006},
		 true,
		 true,
		 {FAILURE_AT_UP, FAILURE_SILENCE, 0, 0}},
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 4409, .by_peer = true},
		 true,
		 false,
		 {FAILURE_AT_UP, FAILURE_UNKNOWN, 4409, 0}},
		/* What was said before counts. */
		{&direct,
		 {.step = WEBSOCKET_STEP_OPEN, .code = 4400},
		 true,
		 true,
		 {FAILURE_AT_UP, FAILURE_UNKNOWN, 4400, 0}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct failure failure = describe_failure(cases[i].route, &cases[i].end,
							  cases[i].was_up, cases[i].silent);

		assert_int_equal(failure.at, cases[i].expected.at);
		assert_int_equal(failure.cause, cases[i].expected.cause);
		assert_int_equal(failure.code, cases[i].expected.code);
		assert_int_equal(failure.http_status, cases[i].expected.http_status);
	}
}

static void knows_what_is_hopeless(void **state)
{
	static const unsigned codes[] = {4401, 4403, 4409, 4426};
	static const unsigned others[] = {0, 1001, 1006, 1011, 4400};
	static const unsigned statuses[] = {401, 403};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
		assert_true(describe_hopeless(&(struct websocket_end){.code = codes[i]}));
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_false(describe_hopeless(&(struct websocket_end){.code = others[i]}));
	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++)
		assert_true(describe_hopeless(&(struct websocket_end){.http_status = statuses[i]}));
	assert_false(describe_hopeless(&(struct websocket_end){.http_status = 503}));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_the_ends),
		cmocka_unit_test(names_the_place),
		cmocka_unit_test(knows_what_is_hopeless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
