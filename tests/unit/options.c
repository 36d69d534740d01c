/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/options.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void expect_equal_lists(const struct settings_list *a, const struct settings_list *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++)
		assert_string_equal(a->items[i], b->items[i]);
}

static void expect_equal_degrees(double a, double b)
{
	if (!isnan(a) || !isnan(b))
		assert_true(a == b);
}

void expect_equal(const struct settings *a, const struct settings *b)
{
	assert_string_equal(a->state_dir, b->state_dir);
	assert_string_equal(a->status_socket, b->status_socket);
	assert_string_equal(a->log_level, b->log_level);
	expect_equal_lists(&a->uplink.urls, &b->uplink.urls);
	assert_string_equal(a->uplink.ca_file, b->uplink.ca_file);
	expect_equal_lists(&a->uplink.pins, &b->uplink.pins);
	assert_string_equal(a->uplink.proxy, b->uplink.proxy);
	assert_int_equal(a->uplink.connect_timeout_s, b->uplink.connect_timeout_s);
	assert_int_equal(a->uplink.ping_interval_s, b->uplink.ping_interval_s);
	assert_int_equal(a->uplink.ping_timeout_s, b->uplink.ping_timeout_s);
	assert_int_equal(a->uplink.backoff_min_ms, b->uplink.backoff_min_ms);
	assert_int_equal(a->uplink.backoff_max_s, b->uplink.backoff_max_s);
	assert_int_equal(a->uplink.report_interval_s, b->uplink.report_interval_s);
	assert_int_equal(a->uplink.stats_interval_s, b->uplink.stats_interval_s);
	assert_int_equal(a->uplink.sightings_kb_per_day, b->uplink.sightings_kb_per_day);
	assert_int_equal(a->uplink.reload_revert_s, b->uplink.reload_revert_s);
	assert_string_equal(a->auth.mode, b->auth.mode);
	assert_string_equal(a->auth.token_file, b->auth.token_file);
	assert_string_equal(a->auth.certificate_file, b->auth.certificate_file);
	expect_equal_degrees(a->location.latitude, b->location.latitude);
	expect_equal_degrees(a->location.longitude, b->location.longitude);
	assert_int_equal(a->location.accuracy_m, b->location.accuracy_m);
	assert_string_equal(a->location.floor, b->location.floor);
	assert_string_equal(a->location.zone, b->location.zone);
	assert_string_equal(a->location.name, b->location.name);
	expect_equal_lists(&a->bluetooth.adapters, &b->bluetooth.adapters);
	assert_int_equal(a->bluetooth.duplicate_data, b->bluetooth.duplicate_data);
	assert_int_equal(a->bluetooth.silence_s, b->bluetooth.silence_s);
	assert_int_equal(a->devices.max, b->devices.max);
	assert_int_equal(a->devices.lost_after_s, b->devices.lost_after_s);
	assert_string_equal(a->relay.bearer, b->relay.bearer);
	assert_int_equal(a->relay.max_links, b->relay.max_links);
	assert_int_equal(a->relay.max_links_per_adapter, b->relay.max_links_per_adapter);
	assert_int_equal(a->relay.holdoff_ms, b->relay.holdoff_ms);
	assert_int_equal(a->relay.resume_max_s, b->relay.resume_max_s);
	assert_int_equal(a->relay.rssi_floor_dbm, b->relay.rssi_floor_dbm);
	assert_int_equal(a->relay.idle_timeout_s, b->relay.idle_timeout_s);
	assert_int_equal(a->relay.max_duration_s, b->relay.max_duration_s);
	assert_int_equal(a->relay.retry_min_s, b->relay.retry_min_s);
	assert_int_equal(a->relay.retry_max_s, b->relay.retry_max_s);
}

char conf[sizeof(directory) + 16], included[sizeof(directory) + 16];

int options_setup(void **state)
{
	if (make_directory(state) < 0)
		return -1;
	snprintf(conf, sizeof(conf), "%s/test.conf", directory);
	snprintf(included, sizeof(included), "%s/more.conf", directory);
	return 0;
}

int options_teardown(void **state)
{
	unlink(conf);
	unlink(included);
	return remove_directory(state);
}

void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

struct settings load(const char *text)
{
	char error[SETTINGS_ERROR] = "";
	struct settings settings;

	write_file(conf, text);
	if (settings_load(conf, &settings, error) != 0)
		fail_msg("%s", error);
	return settings;
}

void refuse_at(const char *file, unsigned line, const char *what, const char *text)
{
	static const struct settings zero;
	char error[SETTINGS_ERROR] = "", expected[SETTINGS_ERROR];
	struct settings settings;
	int r;

	write_file(conf, text);
	r = settings_load(conf, &settings, error);
	if (r != -EINVAL)
		fail_msg("%d instead of a refusal of: %s", r, text);
	if (line > 0)
		snprintf(expected, sizeof(expected), "%s:%u: %s", file, line, what);
	else
		snprintf(expected, sizeof(expected), "%s: %s", file, what);
	if (strncmp(error, expected, strlen(expected)) != 0)
		fail_msg("\"%s\" instead of \"%s...\"", error, expected);
	assert_memory_equal(&settings, &zero, sizeof(zero));
}

void refuse(unsigned line, const char *what, const char *text)
{
	refuse_at(conf, line, what, text);
}
