/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>
#include <string.h>

#include "agent/ctl_client.h"
#include "agent/ctl_commands.h"
#include "agent/ctl_screens.h"
#include "agent/ctl_text.h"
#include "agent/util.h"

static int by_id(const void *a, const void *b)
{
	return strcmp(ctl_text(*(struct json_object **)a, "device_url"),
		      ctl_text(*(struct json_object **)b, "device_url"));
}

static int64_t strength(struct json_object *device)
{
	return ctl_has(device, "rssi_dbm") ? ctl_number(device, "rssi_dbm") : INT8_MIN;
}

static int stronger_first(const void *a, const void *b)
{
	int64_t x = strength(*(struct json_object **)a), y = strength(*(struct json_object **)b);

	return x != y ? (x < y ? 1 : -1) : by_id(a, b);
}

static int later_first(const void *a, const void *b)
{
	double x = ctl_seconds(*(struct json_object **)a, "last_s");
	double y = ctl_seconds(*(struct json_object **)b, "last_s");

	return x < y ? -1 : x > y ? 1 : by_id(a, b);
}

void ctl_sort_devices(struct json_object *o, enum ctl_sort sort)
{
	static int (*const orders[])(const void *a, const void *b) = {
		[CTL_SORT_RSSI] = stronger_first,
		[CTL_SORT_SEEN] = later_first,
		[CTL_SORT_ID] = by_id,
	};
	struct json_object *list = ctl_get(o, "devices");

	if (ctl_length(list) > 0)
		json_object_array_sort(list, orders[sort]);
}

static char presence(struct json_object *device)
{
	if (ctl_truth(device, "connected"))
		return 'c';
	return strcmp(ctl_text(device, "state"), "lost") == 0 ? 'l' : '-';
}

static void print_failure(const struct ctl_page *page, struct json_object *d)
{
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	if (ctl_number(d, "failures") == 0)
		return;
	ctl_row_add(&row, "     failed %s", ctl_ago(ctl_seconds(d, "failure_s"), t));
	if (ctl_has(d, "retry_in_s"))
		ctl_row_add(&row, ", again in %s", ctl_duration(ctl_seconds(d, "retry_in_s"), t));
	ctl_row_add(&row, ": %s", ctl_text(d, "failure"));
	ctl_row_end(&row, page, 5);
}

void ctl_screen_devices(const struct ctl_page *page, struct json_object *o)
{
	struct json_object *list = ctl_get(o, "devices");
	char t[CTL_SHORT], n[CTL_SHORT], rssi[CTL_SHORT];

	if (ctl_length(list) == 0) {
		ctl_line(page, 0, "No device heard yet.");
		return;
	}
	/* 78 columns, as a Device URL takes 55 of a terminal's 80. */
	ctl_line(page, 5, "RSSI LAST    COUNT FLG DEVICE");
	for (size_t i = 0; i < ctl_length(list); i++) {
		struct json_object *d = ctl_item(list, i);

		snprintf(rssi, sizeof(rssi), ctl_has(d, "rssi_dbm") ? "%lld" : "-",
			 (long long)ctl_number(d, "rssi_dbm"));
		ctl_line(page, 5, "%4s %-6s %6s %c%c%c %s", rssi,
			 ctl_duration(ctl_seconds(d, "last_s"), t),
			 ctl_count(ctl_number(d, "count"), n), presence(d),
			 ctl_truth(d, "asks") ? 'a' : '-', ctl_truth(d, "announces") ? 'n' : '-',
			 ctl_text(d, "device_url"));
		print_failure(page, d);
	}
	ctl_line(page, 5, "FLG: l lost, c connected, a asks for a connection, n announces itself");
}

enum exit_code ctl_devices(const struct ctl *ctl)
{
	_cleanup_free_ char *line = NULL;
	struct json_object *o = ctl_client_request(ctl, "devices", &line);
	struct ctl_page page;

	if (!o)
		return EXIT_FAILED;
	ctl_page_init(&page, stdout);
	ctl_sort_devices(o, ctl->sort);
	if (ctl->json)
		puts(line);
	else
		ctl_screen_devices(&page, o);
	json_object_put(o);
	return EXIT_OK;
}
