/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/advice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "uplink/uplink.h"

#define NOW	INT64_C(1795453200) /* 2026-11-23 17:00 UTC */
#define DAY	86400
#define LONGEST 160 /* what the first line has room for */

static char text[ADVICE_MAX];

static const char *advise(enum uplink_state state, const struct failure *failure, const char *proxy)
{
	const struct uplink_status status = {.state = state, .failure = *failure, .proxy = proxy};

	advice_uplink(&(struct advice_uplink_facts){.uplink = &status,
						    .config_file = "/etc/hub.conf",
						    .now_s = NOW},
		      text, sizeof(text));
	return text;
}

static void says(const char *advice, const char *word)
{
	if (!strstr(advice, word))
		fail_msg("\"%s\" does not say \"%s\"", advice, word);
}

static void names_the_next_step(void **state)
{
	static const struct {
		struct failure failure;
		const char *proxy;
		const char *words[3];
	} vectors[] = {
		{{FAILURE_AT_RESOLVE, FAILURE_NO_NAME, 0, 0},
		 "",
		 {"uplink.url", "/etc/resolv.conf"}},
		{{FAILURE_AT_RESOLVE, FAILURE_NO_DNS, 0, 0},
		 "",
		 {"DNS server in /etc/resolv.conf that answers", "uplink.url"}},
		{{FAILURE_AT_RESOLVE, FAILURE_NO_NAME, 0, 0}, "p:1", {"uplink.proxy"}},
		{{FAILURE_AT_RESOLVE, FAILURE_NO_DNS, 0, 0}, "p:1", {"uplink.proxy"}},
		{{FAILURE_AT_RESOLVE, FAILURE_RESOLVER, 0, 0}, "", {"memory"}},
		{{FAILURE_AT_TCP, FAILURE_REFUSED, 0, 0}, "", {"server up", "port in uplink.url"}},
		{{FAILURE_AT_TCP, FAILURE_SILENCE, 0, 0},
		 "",
		 {"firewall", "route", "default gateway"}},
		{{FAILURE_AT_TCP, FAILURE_UNREACHABLE, 0, 0},
		 "",
		 {"network up", "default gateway"}},
		{{FAILURE_AT_TCP, FAILURE_UNKNOWN, 0, 0}, "", {"firewall"}},
		{{FAILURE_AT_PROXY, FAILURE_REFUSED, 0, 0}, "p:1", {"proxy up", "uplink.proxy"}},
		{{FAILURE_AT_PROXY, FAILURE_PROXY_USER, 0, 0},
		 "p:1",
		 {"user and password", "uplink.proxy"}},
		{{FAILURE_AT_PROXY, FAILURE_PROXY_REFUSES, 0, 0},
		 "p:1",
		 {"allow CONNECT", "uplink.url"}},
		{{FAILURE_AT_PROXY, FAILURE_PROXY_TARGET, 0, 0},
		 "p:1",
		 {"cannot reach the server"}},
		{{FAILURE_AT_PROXY, FAILURE_NO_PROXY, 0, 0}, "p:1", {"HTTP proxy", "port"}},
		{{FAILURE_AT_PROXY, FAILURE_SILENCE, 0, 0}, "p:1", {"uplink.proxy"}},
		{{FAILURE_AT_TLS, FAILURE_CLOCK, 0, 0}, "", {"Set the hub's clock", "NTP"}},
		{{FAILURE_AT_TLS, FAILURE_NOT_YET_VALID, 0, 0}, "", {"clock", "NTP"}},
		{{FAILURE_AT_TLS, FAILURE_EXPIRED, 0, 0}, "", {"Renew it on the server", "clock"}},
		{{FAILURE_AT_TLS, FAILURE_OTHER_HOST, 0, 0},
		 "",
		 {"host in uplink.url", "certificate"}},
		{{FAILURE_AT_TLS, FAILURE_UNKNOWN_CA, 0, 0}, "", {"uplink.ca_file"}},
		{{FAILURE_AT_TLS, FAILURE_BAD_CERTIFICATE, 0, 0}, "", {"another certificate"}},
		{{FAILURE_AT_TLS, FAILURE_PIN, 0, 0}, "", {"uplink.pins"}},
		{{FAILURE_AT_TLS, FAILURE_CERTIFICATE_WANTED, 0, 0},
		 "",
		 {"auth.mode", "identity --csr"}},
		{{FAILURE_AT_TLS, FAILURE_CERTIFICATE_REFUSED, 0, 0},
		 "",
		 {"auth.certificate_file", "identity --csr"}},
		{{FAILURE_AT_TLS, FAILURE_TLS_VERSION, 0, 0}, "", {"TLS 1.2", "server"}},
		{{FAILURE_AT_TLS, FAILURE_NO_TLS, 0, 0}, "", {"port in uplink.url"}},
		{{FAILURE_AT_TLS, FAILURE_FILES, 0, 0}, "", {"uplink.ca_file", "--check-config"}},
		{{FAILURE_AT_TLS, FAILURE_SILENCE, 0, 0}, "", {"firewall"}},
		{{FAILURE_AT_TLS, FAILURE_TLS_FAILED, 0, 0}, "", {"server's log", "auth.mode"}},
		{{FAILURE_AT_UPGRADE, FAILURE_TOKEN, 0, 0}, "", {"auth.token_file"}},
		{{FAILURE_AT_UPGRADE, FAILURE_SUBPROTOCOL, 0, 101}, "", {"uplink.url", "path"}},
		{{FAILURE_AT_UPGRADE, FAILURE_SILENCE, 0, 0}, "", {"log"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 0}, "", {"log"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 200}, "", {"uplink.url"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 302}, "", {"login"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 400}, "", {"Upgrade", "README"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 401},
		 "",
		 {"auth.token_file", "auth.mode"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 403}, "", {"allowed", "identity"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 404}, "", {"path in uplink.url"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 426}, "", {"Upgrade", "README"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 429}, "", {"by itself"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 502}, "", {"down", "by itself"}},
		{{FAILURE_AT_UPGRADE, FAILURE_UNKNOWN, 0, 503}, "", {"down", "by itself"}},
		{{FAILURE_AT_HELLO, FAILURE_UNKNOWN, 4401, 0},
		 "",
		 {"Register", "identity", "Host"}},
		{{FAILURE_AT_HELLO, FAILURE_UNKNOWN, 4403, 0}, "", {"allowed in the cloud"}},
		{{FAILURE_AT_HELLO, FAILURE_UNKNOWN, 4400, 0}, "", {"update"}},
		{{FAILURE_AT_HELLO, FAILURE_UNKNOWN, 4426, 0}, "", {"update"}},
		{{FAILURE_AT_HELLO, FAILURE_SILENCE, 0, 0}, "", {"uplink.url"}},
		{{FAILURE_AT_HELLO, FAILURE_UNKNOWN, 0, 0}, "", {"cloud's log"}},
		{{FAILURE_AT_UP, FAILURE_UNKNOWN, 4409, 0}, "", {"same key", "hotspot.key"}},
		{{FAILURE_AT_UP, FAILURE_UNKNOWN, 1001, 0}, "", {"wait"}},
		{{FAILURE_AT_UP, FAILURE_UNKNOWN, 1012, 0}, "", {"wait"}},
		{{FAILURE_AT_UP, FAILURE_UNKNOWN, 1011, 0}, "", {"cloud's log"}},
		{{FAILURE_AT_UP, FAILURE_UNKNOWN, 0, 0},
		 "",
		 {"idle time", "uplink.ping_interval_s"}},
		{{FAILURE_AT_UP, FAILURE_SILENCE, 0, 0},
		 "",
		 {"line down", "uplink.ping_interval_s"}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		const char *advice =
			advise(UPLINK_STATE_WAITING, &vectors[i].failure, vectors[i].proxy);

		for (size_t j = 0; j < ARRAY_SIZE(vectors[i].words) && vectors[i].words[j]; j++)
			says(advice, vectors[i].words[j]);
	}
}

/* Whatever comes together: a sentence, and none too long. */
static void has_a_sentence_for_all(void **state)
{
	static const unsigned statuses[] = {0, 101, 200, 302, 400, 401, 403, 404, 429, 500, 599};
	static const unsigned codes[] = {0, 1001, 1011, 4400, 4401, 4403, 4409, 4426};

	(void)state;
	for (enum failure_at at = FAILURE_AT_RESOLVE; at <= FAILURE_AT_UP; at++) {
		for (enum failure_cause c = FAILURE_UNKNOWN; c <= FAILURE_SUBPROTOCOL; c++) {
			for (size_t i = 0; i < ARRAY_SIZE(statuses) * ARRAY_SIZE(codes); i++) {
				const struct failure failure = {at, c, codes[i % ARRAY_SIZE(codes)],
								statuses[i / ARRAY_SIZE(codes)]};
				const char *advice = advise(UPLINK_STATE_CONNECTING, &failure, "");
				size_t len = strlen(advice);

				assert_in_range(len, 20, LONGEST);
				assert_non_null(strchr(".?", advice[len - 1]));
				assert_in_range(*advice, 'A', 'Z');
			}
		}
	}
}

static void has_none_where_nothing_is_wrong(void **state)
{
	const struct failure failure = {FAILURE_AT_UP, FAILURE_UNKNOWN, 0, 0}, none = {0};

	(void)state;
	assert_string_equal(advise(UPLINK_STATE_UP, &failure, ""), "");
	assert_string_equal(advise(UPLINK_STATE_RESOLVING, &none, ""), "");
}

static void names_the_file(void **state)
{
	const struct failure none = {0};

	(void)state;
	assert_string_equal(advise(UPLINK_STATE_UNCONFIGURED, &none, ""),
			    "Set uplink.url in /etc/hub.conf, and reload (SIGHUP).");
}

static void points_at_a_cloud_that_is_late(void **state)
{
	struct uplink_status status = {.state = UPLINK_STATE_UP, .proxy = ""};
	const struct advice_uplink_facts facts = {.uplink = &status, .late_ms = 45000};

	(void)state;
	advice_uplink(&facts, text, sizeof(text));
	says(text, "the cloud, which takes nothing in");
	status.state = UPLINK_STATE_CONNECTING;
	advice_uplink(&facts, text, sizeof(text));
	assert_string_equal(text, "");
}

static void tells_of_its_own_certificate_in_time(void **state)
{
	static const struct {
		int64_t end, now;
		const char *begins;
	} vectors[] = {
		{0, NOW, ""},
		{NOW + 15 * DAY, NOW, ""},
		{NOW + 14 * DAY, NOW, "The hotspot's own certificate ends in 14 days: "},
		{NOW + DAY, NOW, "The hotspot's own certificate ends in 1 day: "},
		{NOW + 10, NOW, "The hotspot's own certificate ends in 0 days: "},
		{NOW - 3 * DAY, NOW, "The hotspot's own certificate ended 3 days ago: "},
		{NOW - 3 * DAY, 180, ""}, /* who knows what day it is */
	};
	const struct uplink_status up = {.state = UPLINK_STATE_UP, .proxy = ""};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		const struct advice_uplink_facts facts = {.uplink = &up,
							  .own_certificate_end = vectors[i].end,
							  .now_s = vectors[i].now};
		char same[ADVICE_MAX];

		advice_own_certificate(&facts, text, sizeof(text));
		assert_int_equal(strncmp(text, vectors[i].begins, strlen(vectors[i].begins)), 0);
		assert_int_equal(strlen(text) > 0, strlen(vectors[i].begins) > 0);
		if (*text)
			says(text, "identity --csr");
		advice_uplink(&facts, same, sizeof(same));
		assert_string_equal(same, text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_the_next_step),
		cmocka_unit_test(has_a_sentence_for_all),
		cmocka_unit_test(has_none_where_nothing_is_wrong),
		cmocka_unit_test(names_the_file),
		cmocka_unit_test(points_at_a_cloud_that_is_late),
		cmocka_unit_test(tells_of_its_own_certificate_in_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
