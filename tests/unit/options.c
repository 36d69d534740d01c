/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void expect_equal_lists(const struct settings_list *a, const struct settings_list *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++)
		assert_string_equal(a->items[i], b->items[i]);
}

void expect_equal(const struct settings *a, const struct settings *b)
{
	assert_string_equal(a->state_dir, b->state_dir);
	assert_string_equal(a->status_socket, b->status_socket);
	assert_string_equal(a->log_level, b->log_level);
	assert_string_equal(a->uplink.url, b->uplink.url);
	assert_string_equal(a->uplink.ca_file, b->uplink.ca_file);
	assert_int_equal(a->uplink.connect_timeout_s, b->uplink.connect_timeout_s);
	assert_int_equal(a->uplink.ping_interval_s, b->uplink.ping_interval_s);
	assert_int_equal(a->uplink.ping_timeout_s, b->uplink.ping_timeout_s);
	assert_int_equal(a->uplink.backoff_min_ms, b->uplink.backoff_min_ms);
	assert_int_equal(a->uplink.backoff_max_s, b->uplink.backoff_max_s);
	assert_int_equal(a->uplink.report_interval_s, b->uplink.report_interval_s);
	assert_int_equal(a->uplink.stats_interval_s, b->uplink.stats_interval_s);
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
