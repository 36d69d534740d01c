/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/ctl_commands.h"
#include "agent/ctl_screens.h"
#include "agent/ctl_text.h"
#include "agent/util.h"

static void print_hearing(const struct ctl_page *page, struct json_object *d)
{
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "  heard    %s", ctl_ago(ctl_seconds(d, "last_s"), t));
	if (ctl_has(d, "adapter"))
		ctl_row_add(&row, " by %s", ctl_text(d, "adapter"));
	if (ctl_has(d, "rssi_dbm"))
		ctl_row_add(&row, " at %lld dBm", (long long)ctl_number(d, "rssi_dbm"));
	if (ctl_has(d, "rssi_min_dbm"))
		ctl_row_add(&row, " (%lld to %lld)", (long long)ctl_number(d, "rssi_min_dbm"),
			    (long long)ctl_number(d, "rssi_max_dbm"));
	ctl_row_end(&row, page, CTL_INDENT);
	ctl_line(page, CTL_INDENT, "  adverts  %lld, the first %s",
		 (long long)ctl_number(d, "count"), ctl_ago(ctl_seconds(d, "first_s"), t));
}

static void print_device(const struct ctl_page *page, struct json_object *d)
{
	int64_t failures = ctl_number(d, "failures");
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_line(page, CTL_INDENT, "device     %s", ctl_text(d, "device_url"));
	ctl_row_add(&row, "  state    %s", ctl_text(d, "state"));
	if (ctl_truth(d, "connected"))
		ctl_row_add(&row, ", connected");
	if (ctl_truth(d, "asks"))
		ctl_row_add(&row, ", asks for a connection");
	if (ctl_truth(d, "announces"))
		ctl_row_add(&row, ", announces itself");
	ctl_row_add(&row, "; flags 0x%02llx", (unsigned long long)ctl_number(d, "flags"));
	if (ctl_has(d, "tx_power_dbm"))
		ctl_row_add(&row, ", sends with %lld dBm",
			    (long long)ctl_number(d, "tx_power_dbm"));
	ctl_row_end(&row, page, CTL_INDENT);
	print_hearing(page, d);
	if (failures == 0)
		return;
	ctl_row_add(&row, "  failed   %lld time%s in a row, last %s", (long long)failures,
		    ctl_plural(failures), ctl_ago(ctl_seconds(d, "failure_s"), t));
	if (ctl_has(d, "retry_in_s"))
		ctl_row_add(&row, ", again in %s", ctl_duration(ctl_seconds(d, "retry_in_s"), t));
	ctl_row_add(&row, ": %s", ctl_text(d, "failure"));
	ctl_row_end(&row, page, CTL_INDENT);
}

static void print_place(const struct ctl_page *page, struct json_object *a, const char *said)
{
	struct ctl_row row = {0}, words = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "queue      %s for %s", ctl_text(a, "wait"),
		    ctl_duration(ctl_seconds(a, "since_s"), t));
	if (ctl_has(a, "adapter"))
		ctl_row_add(&row, " on %s", ctl_text(a, "adapter"));
	ctl_part_wait(&words, a, 0, said);
	if (words.text)
		ctl_row_add(&row, ": %s", words.text);
	free(words.text);
	ctl_row_end(&row, page, CTL_INDENT);
}

void ctl_screen_device(const struct ctl_page *page, struct json_object *o)
{
	struct json_object *session = ctl_get(o, "session"), *queue = ctl_get(o, "queue");
	struct json_object *last = ctl_get(o, "last");

	print_device(page, ctl_get(o, "device"));
	if (queue)
		print_place(page, queue, ctl_text(ctl_get(o, "device"), "failure"));
	if (!session && ctl_length(last) == 0) {
		ctl_line(page, CTL_INDENT, "sessions   none lately");
		return;
	}
	ctl_line(page, CTL_INDENT, "sessions   %s", session ? "one now" : "none now, the last:");
	ctl_part_session_head(page);
	if (session)
		ctl_part_session(page, session);
	for (size_t i = 0; i < ctl_length(last); i++)
		ctl_part_session(page, ctl_item(last, i));
	ctl_part_session_legend(page);
}

enum exit_code ctl_device(const struct ctl *ctl)
{
	_cleanup_free_ char *request = NULL;

	if (asprintf(&request, "device %s", ctl->argument) < 0) {
		request = NULL;
		fputs("blecon-hotspotctl: out of memory\n", stderr);
		return EXIT_FAILED;
	}
	return ctl_show(ctl, request, ctl_screen_device);
}
