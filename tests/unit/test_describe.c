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
		cmocka_unit_test(knows_what_is_hopeless),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
