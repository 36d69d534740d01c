/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/proxy.h"

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
		const char *authority, *credentials;
	} vectors[] = {
		{"http://proxy.example", "proxy.example", 8080, "proxy.example:8080", ""},
		{"http://proxy.example/", "proxy.example", 8080, "proxy.example:8080", ""},
		{"HTTP://proxy.example:3128", "proxy.example", 3128, "proxy.example:3128", ""},
		{"http://192.0.2.1:1/", "192.0.2.1", 1, "192.0.2.1:1", ""},
		{"http://[2001:db8::1]", "2001:db8::1", 8080, "[2001:db8::1]:8080", ""},
		{"http://u:p@[::1]:3128/", "::1", 3128, "[::1]:3128", "u:p"},
		{"http://u:p@a", "a", 8080, "a:8080", "u:p"},
		{"http://u@a", "a", 8080, "a:8080", "u:"},
		{"http://u:@a", "a", 8080, "a:8080", "u:"},
		{"http://:p@a", "a", 8080, "a:8080", ":p"},
		{"http://u:p:q@a", "a", 8080, "a:8080", "u:p:q"},
		{"http://u:p%3Aq@a", "a", 8080, "a:8080", "u:p:q"},
		{"http://us%40er:p%40ss%2f%25@a:1", "a", 1, "a:1", "us@er:p@ss/%"},
		{"http://u:p@ss@a", "a", 8080, "a:8080", "u:p@ss"}, /* the last @ counts */
		{"http://u:a%20b%C3%B6@a", "a", 8080, "a:8080", "u:a b\xc3\xb6"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		const char *what = NULL;
		struct proxy proxy;

		if (proxy_parse(vectors[i].url, &proxy, &what) != 0)
			fail_msg("%s: %s", vectors[i].url, what);
		assert_string_equal(proxy.host, vectors[i].host);
		assert_int_equal(proxy.port, vectors[i].port);
		assert_string_equal(proxy.authority, vectors[i].authority);
		assert_string_equal(proxy.credentials, vectors[i].credentials);
	}
}

static const char *refuse(const char *url)
{
	struct proxy proxy, before;
	const char *what = NULL;

	memset(&proxy, 0xaa, sizeof(proxy));
	memset(&before, 0xaa, sizeof(before));
	if (proxy_parse(url, &proxy, &what) != -EINVAL)
		fail_msg("\"%s\" was accepted", url);
	assert_non_null(what);
	assert_true(strlen(what) > 0);
	assert_memory_equal(&proxy, &before, sizeof(proxy));
	return what;
}

static void refuses(void **state)
{
	static const char *const urls[] = {
		"",
		"proxy.example:3128",
		"//proxy.example",
		"http:/proxy.example",
		"socks5://proxy.example",
		"http://",
		"http:///",
		"http://:3128",
		"http://a:",
		"http://a:0",
		"http://a:65536",
		"http://a:3128x",
		"http://[::1",
		"http://[::1]x",
		"http://2001:db8::1",
		"http://a/path",
		"http://a//",
		"http://a/?",
		"http://a?b",
		"http://a#b",
		"http://a b",
		" http://a",
		"http://a\r\nX: y",
		"http://@a",
		"http://u:p@",
		"http://u:p@:1",
		"http://u:p/w@a", /* whose host would be u */
		"http://u%@a",
		"http://u%4@a",
		"http://u%4g@a",
		"http://u:%0@a",
		"http://u:p%00@a",
		"http://u:p%0d%0aX-Y:%20z@a",
		"http://u%7f:p@a",
		"http://u%3Aser:p@a",
		"http://u%3aser@a",
		"http://%3a:p@a",
		"http://u:p\xc3\xb6@a", /* not encoded */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++)
		refuse(urls[i]);
	assert_non_null(strstr(refuse("https://proxy.example"), "only http://"));
	assert_non_null(strstr(refuse("HTTPS://u:p@proxy.example:443/"), "only http://"));
}

/* The longest user and password there may be, and one byte more. */
static void keeps_its_limit(void **state)
{
	char user[PROXY_CREDENTIALS_MAX + 2], url[sizeof(user) * 4];

	(void)state;
	for (size_t n = PROXY_CREDENTIALS_MAX - 2; n <= PROXY_CREDENTIALS_MAX + 1; n++) {
		for (unsigned colon = 0; colon < 2; colon++) {
			const char *what;
			struct proxy proxy;

			/* Encoded it may be longer. */
			memset(user, 'a', n);
			user[n] = '\0';
			if (colon)
				user[1] = ':';
			snprintf(url, sizeof(url), "http://%%61%s@b", user + 1);
			if (n > PROXY_CREDENTIALS_MAX - !colon) {
				refuse(url);
				continue;
			}
			assert_int_equal(proxy_parse(url, &proxy, &what), 0);
			assert_int_equal(strlen(proxy.credentials), n + !colon);
			assert_memory_equal(proxy.credentials, user, n);
		}
	}
}

static void takes_the_environment(void **state)
{
	static const char *const names[] = {"ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		unsetenv(names[i]);
	setenv("http_proxy", "http://other", 1); /* for http:// alone */
	assert_null(proxy_from_environment());
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char value[32];

		setenv(names[i], "", 1);
		if (i == 0)
			assert_null(proxy_from_environment());
		else
			assert_string_not_equal(proxy_from_environment(), "");
		snprintf(value, sizeof(value), "http://%zu", i);
		setenv(names[i], value, 1);
		assert_string_equal(proxy_from_environment(), value);
	}
}

static void exempts(void **state)
{
	static const struct {
		const char *list, *host;
		bool exempt;
	} vectors[] = {
		{NULL, "cloud.example", false},
		{"", "cloud.example", false},
		{" , ,", "cloud.example", false},
		{"*", "cloud.example", true},
		{"*", "192.0.2.1", true},
		{"*,other.example", "cloud.example", false}, /* as curl: alone or not at all */
		{"*.example", "cloud.example", false},
		{"cloud.example", "cloud.example", true},
		{"Cloud.Example", "cLOUD.eXAMPLE", true},
		{"cloud.example.", "cloud.example", true},
		{"cloud.example", "cloud.example.", true},
		{"example", "cloud.example", true},
		{".example", "cloud.example", true},
		{".example", "example", true},
		{".cloud.example", "cloud.example", true},
		{"oud.example", "cloud.example", false},
		{".oud.example", "cloud.example", false},
		{"my.cloud.example", "cloud.example", false},
		{".", "cloud.example", false},
		{"..", "cloud.example", false},
		{"cloud", "cloud.example", false},
		{"a.test,b.test cloud.example,c.test", "cloud.example", true},
		{"a.test, cloud.example", "cloud.example", true},
		{"a.test;cloud.example", "cloud.example", false},
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.10", false},
		{"2.1", "192.0.2.1", false}, /* no name: it has no domain */
		{".2.1", "192.0.2.1", false},
		{"192.0.2.0/24", "192.0.2.200", true},
		{"192.0.2.0/25", "192.0.2.200", false},
		{"192.0.2.192/27", "192.0.2.200", true},
		{"192.0.2.1/32", "192.0.2.1", true},
		{"0.0.0.0/0", "192.0.2.1", true},
		{"192.0.2.0/33", "192.0.2.1", false},
		{"192.0.2.0/", "192.0.2.1", false},
		{"192.0.2.0/24x", "192.0.2.1", false},
		{"192.0.2/24", "192.0.2.1", false},
		{"0.0.0.0/0", "2001:db8::1", false},
		{"::/0", "192.0.2.1", false},
		{"2001:db8::1", "2001:DB8:0::1", true},
		{"[2001:db8::1]", "2001:db8::1", true},
		{"[2001:db8::1", "2001:db8::1", false},
		{"2001:db8::/32", "2001:db8:1::1", true},
		{"2001:db8::/32", "2001:db9::1", false},
		{"[]", "2001:db8::1", false},
		{"192.0.2.0/24", "cloud.example", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		if (proxy_exempt(vectors[i].list, vectors[i].host) != vectors[i].exempt)
			fail_msg("%s, %s", vectors[i].list, vectors[i].host);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses),	   cmocka_unit_test(refuses),
		cmocka_unit_test(keeps_its_limit), cmocka_unit_test(takes_the_environment),
		cmocka_unit_test(exempts),
	};

	return cmocka_run_group_tests_name("proxy", tests, NULL, NULL);
}
