/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/urls.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

#define MIN_MS 1000
#define MAX_MS 300000
#define NOW    UINT64_C(1000000)

static void init(struct urls *urls, size_t n)
{
	static const char *const texts[] = {"wss://a/", "wss://b/", "wss://c/"};
	const char *what;
	size_t bad;

	assert_int_equal(urls_init(urls, texts, n, MIN_MS, MAX_MS, &bad, &what), 0);
	assert_int_equal(urls->n, n);
}

static void names_the_bad_one(void **state)
{
	static const char *const texts[] = {"wss://a/", "ws://b/"};
	const char *what;
	struct urls urls;
	size_t bad;

	(void)state;
	assert_int_equal(urls_init(&urls, texts, 2, MIN_MS, MAX_MS, &bad, &what), -EINVAL);
	assert_int_equal(bad, 1);
	assert_string_equal(what, "the URL does not start with wss://");
}

/* In order, as long as none has to wait. */
static void tries_them_in_order(void **state)
{
	struct urls urls;

	(void)state;
	init(&urls, 3);
	assert_ptr_equal(urls_next(&urls, NOW), &urls.urls[0]);
	url_failed(&urls.urls[0], NOW, false, 0, UINT32_MAX);
	assert_ptr_equal(urls_next(&urls, NOW), &urls.urls[1]);
	url_failed(&urls.urls[1], NOW, false, 0, UINT32_MAX);
	assert_ptr_equal(urls_next(&urls, NOW), &urls.urls[2]);
	/* The first again, once its wait is over. */
	assert_ptr_equal(urls_next(&urls, NOW + MIN_MS), &urls.urls[0]);
}

/* All have to wait: the one whose time comes first. */
static void waits_for_the_first_due(void **state)
{
	struct urls urls;

	(void)state;
	init(&urls, 3);
	url_failed(&urls.urls[0], NOW, false, 0, UINT32_MAX);
	url_failed(&urls.urls[1], NOW, false, 0, UINT32_MAX / 2);
	url_failed(&urls.urls[2], NOW, true, 0, 0);
	assert_ptr_equal(urls_next(&urls, NOW), &urls.urls[1]);
	assert_int_equal(urls.urls[1].retry_ms, NOW + MIN_MS / 2);
}

/* One that fails again and again waits longer and longer; the others do not. */
static void each_has_its_own_back_off(void **state)
{
	struct urls urls;
	uint32_t wait_ms = 0;

	(void)state;
	init(&urls, 2);
	for (unsigned i = 0; i < 20; i++)
		wait_ms = url_failed(&urls.urls[0], NOW, false, 0, UINT32_MAX);
	assert_int_equal(wait_ms, MAX_MS);
	assert_int_equal(urls.urls[0].failures, 20);
	assert_int_equal(url_failed(&urls.urls[1], NOW, false, 0, UINT32_MAX), MIN_MS);
	url_good(&urls.urls[0]);
	assert_int_equal(urls.urls[0].retry_ms, 0);
	assert_int_equal(url_failed(&urls.urls[0], NOW, false, 0, UINT32_MAX), MIN_MS);
}

/* What is hopeless waits from the upper half of the longest on. */
static void waits_long_where_it_is_hopeless(void **state)
{
	struct urls urls;

	(void)state;
	init(&urls, 1);
	assert_int_equal(url_failed(&urls.urls[0], NOW, true, 0, 0), MAX_MS / 2);
	assert_int_equal(url_failed(&urls.urls[0], NOW, true, 0, UINT32_MAX), MAX_MS);
}

/* What the server asks for is the least, with up to a quarter on top. */
static void leaves_the_server_alone_as_asked(void **state)
{
	struct urls urls;
	uint32_t most_ms = 0;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++) {
		uint32_t wait_ms;

		init(&urls, 1);
		wait_ms = url_failed(&urls.urls[0], NOW, false, 60000, i * 4294967u);
		assert_in_range(wait_ms, 60000, 75000);
		most_ms = MAX(most_ms, wait_ms);
	}
	assert_in_range(most_ms, 74000, 75000);
}

/* Where a connection broke that was up, no URL is tried by all hubs at once. */
static void disperses(void **state)
{
	uint64_t latest_ms = 0;
	struct urls urls;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++) {
		init(&urls, 2);
		urls.urls[1].retry_ms = NOW + 20 * MIN_MS;
		urls_disperse(&urls, NOW, i * 4294967u);
		assert_in_range(urls.urls[0].retry_ms, NOW, NOW + URLS_SPREAD * MIN_MS);
		assert_int_equal(urls.urls[1].retry_ms, NOW + 20 * MIN_MS);
		latest_ms = MAX(latest_ms, urls.urls[0].retry_ms);
	}
	assert_true(latest_ms > NOW + URLS_SPREAD * MIN_MS * 9 / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_the_bad_one),
		cmocka_unit_test(tries_them_in_order),
		cmocka_unit_test(waits_for_the_first_due),
		cmocka_unit_test(each_has_its_own_back_off),
		cmocka_unit_test(waits_long_where_it_is_hopeless),
		cmocka_unit_test(leaves_the_server_alone_as_asked),
		cmocka_unit_test(disperses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
