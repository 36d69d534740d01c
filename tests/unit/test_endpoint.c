/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/endpoint.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

static void parses(void **state)
{
	static const struct {
		const char *url, *host;
		unsigned port;
		const char *path, *authority;
	} vectors[] = {
		{"wss://cloud.example", "cloud.example", 443, "/", "cloud.example:443"},
		{"wss://cloud.example/", "cloud.example", 443, "/", "cloud.example:443"},
		{"wss://cloud.example:8443", "cloud.example", 8443, "/", "cloud.example:8443"},
		{"wss://cloud.example/relay/v1", "cloud.example", 443, "/relay/v1",
		 "cloud.example:443"},
		{"wss://cloud.example:1/a?b=c&d=/@:e", "cloud.example", 1, "/a?b=c&d=/@:e",
		 "cloud.example:1"},
		{"wss://cloud.example?b=c", "cloud.example", 443, "/?b=c", "cloud.example:443"},
		{"wss://cloud.example:65535?b", "cloud.example", 65535, "/?b",
		 "cloud.example:65535"},
		{"wss://cloud.example//a//b", "cloud.example", 443, "//a//b", "cloud.example:443"},
		{"WSS://Cloud.Example/X", "Cloud.Example", 443, "/X", "Cloud.Example:443"},
		{"wss://192.0.2.1:443/", "192.0.2.1", 443, "/", "192.0.2.1:443"},
		{"wss://[2001:db8::1]", "2001:db8::1", 443, "/", "[2001:db8::1]:443"},
		{"wss://[2001:db8::1]/x", "2001:db8::1", 443, "/x", "[2001:db8::1]:443"},
		{"wss://[::1]:8443/x:1", "::1", 8443, "/x:1", "[::1]:8443"},
		{"wss://[fe80::1%25eth0]:1?x", "fe80::1%25eth0", 1, "/?x", "[fe80::1%25eth0]:1"},
		{"wss://a:00443/", "a", 443, "/", "a:443"},
		{"wss://a.", "a.", 443, "/", "a.:443"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		struct endpoint ep;
		const char *what = NULL;

		if (endpoint_parse(vectors[i].url, &ep, &what) != 0)
			fail_msg("%s: %s", vectors[i].url, what);
		assert_string_equal(ep.host, vectors[i].host);
		assert_int_equal(ep.port, vectors[i].port);
		assert_string_equal(ep.path, vectors[i].path);
		assert_string_equal(ep.authority, vectors[i].authority);
	}
}

static void refuse(const char *url)
{
	struct endpoint ep, before;
	const char *what = NULL;

	memset(&ep, 0xaa, sizeof(ep));
	memset(&before, 0xaa, sizeof(before));
	if (endpoint_parse(url, &ep, &what) != -EINVAL)
		fail_msg("\"%s\" was accepted", url);
	assert_non_null(what);
	assert_true(strlen(what) > 0);
	assert_memory_equal(&ep, &before, sizeof(ep));
}

static void refuses(void **state)
{
	static const char *const vectors[] = {
		"",
		"wss",
		"wss:",
		"wss:/",
		"wss:/cloud.example",
		"wss//cloud.example",
		"wss://",
		"wss:///path",
		"wss://?query",
		"ws://cloud.example",
		"https://cloud.example",
		"cloud.example",
		" wss://cloud.example",
		"wss://cloud.example ",
		"wss://cloud.example/a b",
		"wss://cloud.example/\r\nX: y",
		"wss://cloud\t.example",
		"wss://cloud.example/\x01",
		"wss://cloud.example/\x7f",
		"wss://cl\xc3\xb6ud.example/", /* names are ASCII on the wire */
		"wss://cloud.example/#fragment",
		"wss://cloud.example#",
		"wss://user@cloud.example",
		"wss://user:password@cloud.example/",
		"wss://@cloud.example",
		"wss://user@[::1]/",
		"wss://:443",
		"wss://:443/x",
		"wss://cloud.example:",
		"wss://cloud.example:/",
		"wss://cloud.example:0",
		"wss://cloud.example:65536",
		"wss://cloud.example:100000",
		"wss://cloud.example:4294967739", /* 443, where 32 bits are looked at */
		"wss://cloud.example:-1",
		"wss://cloud.example:+443",
		"wss://cloud.example:443x",
		"wss://cloud.example:0x1bb",
		"wss://cloud.example:44:3",
		"wss://2001:db8::1/", /* without brackets */
		"wss://[2001:db8::1",
		"wss://[2001:db8::1/x]",
		"wss://[]",
		"wss://[]:443/",
		"wss://[::1]443",
		"wss://[::1]x:443",
		"wss://[::1]:",
		"wss://[::1]:0/",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		refuse(vectors[i]);
}

/* The longest host and path there may be, and one byte more. */
static void keeps_its_limits(void **state)
{
	char host[ENDPOINT_HOST_MAX + 2], path[ENDPOINT_PATH_MAX + 2];
	char url[sizeof(host) + sizeof(path) + 32];

	(void)state;
	for (size_t n = ENDPOINT_HOST_MAX - 1; n <= ENDPOINT_HOST_MAX + 1; n++) {
		for (unsigned v6 = 0; v6 < 2; v6++) {
			struct endpoint ep;
			const char *what;

			memset(host, 'a', n);
			host[n] = '\0';
			snprintf(url, sizeof(url), v6 ? "wss://[%s]:65535/" : "wss://%s:65535/",
				 host);
			if (n > ENDPOINT_HOST_MAX) {
				refuse(url);
				continue;
			}
			assert_int_equal(endpoint_parse(url, &ep, &what), 0);
			assert_string_equal(ep.host, host);
			assert_int_equal(strlen(ep.authority), n + strlen(":65535") + 2 * v6);
			assert_string_equal(strrchr(ep.authority, ':'), ":65535");
		}
	}
	for (size_t n = ENDPOINT_PATH_MAX - 2; n <= ENDPOINT_PATH_MAX + 1; n++) {
		struct endpoint ep;
		const char *what;

		memset(path, 'p', n);
		path[0] = '/';
		path[n] = '\0';
		snprintf(url, sizeof(url), "wss://a%s", path);
		if (endpoint_parse(url, &ep, &what) == 0) {
			assert_true(n <= ENDPOINT_PATH_MAX);
			assert_string_equal(ep.path, path);
		} else {
			assert_true(n >= ENDPOINT_PATH_MAX);
			refuse(url);
		}
		/* A query alone gets a slash before it, for which there must be room. */
		url[strlen("wss://a")] = '?';
		if (endpoint_parse(url, &ep, &what) == 0) {
			assert_int_equal(strlen(ep.path), n + 1);
			assert_string_equal(ep.path + 1, url + strlen("wss://a"));
		} else {
			assert_true(n >= ENDPOINT_PATH_MAX);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),
		cmocka_unit_test(refuses),
		cmocka_unit_test(keeps_its_limits),
	};

	return cmocka_run_group_tests_name("endpoint", tests, NULL, NULL);
}
