/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_commands.h"

#include <string.h>

#include "agent/ctl_client.h"
#include "agent/ctl_screens.h"
#include "agent/ctl_text.h"
#include "agent/util.h"

static void print_process(const struct ctl_page *page, struct json_object *o)
{
	struct json_object *process = ctl_get(o, "process");
	const char *level = ctl_text(o, "log_level");
	int64_t starts = ctl_number(process, "starts");
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "process    version %s, up %s", ctl_text(o, "version"),
		    ctl_duration(ctl_seconds(o, "uptime_s"), t));
	if (starts > 0)
		ctl_row_add(&row, ", started %lld time%s", (long long)starts, ctl_plural(starts));
	if (ctl_has(process, "rss_kb"))
		ctl_row_add(&row, "; %.1f MB memory", (double)ctl_number(process, "rss_kb") / 1024);
	if (ctl_has(process, "peak_rss_kb"))
		ctl_row_add(&row, ", %.1f at most",
			    (double)ctl_number(process, "peak_rss_kb") / 1024);
	if (*level && strcmp(level, "info") != 0)
		ctl_row_add(&row, ", log level %s", level);
	ctl_row_end(&row, page, CTL_INDENT);
	if (ctl_has(process, "last_end"))
		ctl_line(page, CTL_INDENT, "  before   %s", ctl_text(process, "last_end"));
}

static void print_clock(const struct ctl_page *page, struct json_object *clock)
{
	if (clock && !ctl_truth(clock, "set"))
		ctl_line(page, CTL_INDENT, "clock      not set: it says %s",
			 ctl_text(clock, "time"));
}

/* Where it is not as it was started. */
static void print_configuration(const struct ctl_page *page, struct json_object *c,
				const char *said)
{
	const char *text = ctl_text(c, ctl_has(c, "error") ? "error" : "changed");
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	if (!ctl_has(c, "since_s"))
		return;
	ctl_row_add(&row, "config     %s %s", ctl_text(c, "state"),
		    ctl_ago(ctl_seconds(c, "since_s"), t));
	if (ctl_has(c, "revert_in_s"))
		ctl_row_add(&row, ", given up in %s without the cloud",
			    ctl_duration(ctl_seconds(c, "revert_in_s"), t));
	if (ctl_is_said(said, text))
		ctl_row_add(&row, "%s", *text ? ", as said above" : "");
	else
		ctl_row_add(&row, ": %s", text);
	ctl_row_end(&row, page, CTL_INDENT);
	if (ctl_has(c, "needs_restart"))
		ctl_line(page, CTL_INDENT, "  restart  needed for %s",
			 ctl_text(c, "needs_restart"));
}

static const char *how(struct json_object *a)
{
	if (strcmp(ctl_text(a, "state"), "scanning") != 0)
		return ctl_text(a, "state");
	if (!ctl_truth(a, "monitor"))
		return "discovery";
	if (ctl_has(a, "discovering") && !ctl_truth(a, "discovering"))
		return "monitor";
	return "discovery, monitor";
}

static void print_adapter(const struct ctl_page *page, struct json_object *a, const char *said)
{
	char t[CTL_SHORT], rate[CTL_SHORT] = "-";

	if (!ctl_truth(a, "used")) {
		ctl_line(page, CTL_INDENT, "  %-8s %s not used", ctl_text(a, "name"),
			 ctl_text(a, "address"));
		return;
	}
	if (ctl_has(a, "adverts_per_s"))
		snprintf(rate, sizeof(rate), "%.1f", ctl_seconds(a, "adverts_per_s"));
	ctl_line(page, CTL_INDENT, "  %-8s %-17s %-7s %-18s %9s  %s", ctl_text(a, "name"),
		 ctl_text(a, "address"),
		 !ctl_has(a, "powered")	   ? "-"
		 : ctl_truth(a, "powered") ? "yes"
					   : "no",
		 how(a), rate,
		 ctl_has(a, "last_advert_s") ? ctl_ago(ctl_seconds(a, "last_advert_s"), t) : "-");
	if (ctl_has(a, "reason") && !ctl_is_said(said, ctl_text(a, "reason")))
		ctl_line(page, CTL_INDENT, "%*s%s", CTL_INDENT, "", ctl_text(a, "reason"));
	ctl_part_supervisor(page, ctl_get(a, "supervisor"), said);
}

static void print_bluetooth(const struct ctl_page *page, struct json_object *bluetooth,
			    const char *said)
{
	struct json_object *adapters = ctl_get(bluetooth, "adapters");
	const char *reason = ctl_text(bluetooth, "reason"), *advice = ctl_text(bluetooth, "advice");
	size_t n = ctl_length(adapters);
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "bluetooth  %s for %s", ctl_text(bluetooth, "state"),
		    ctl_duration(ctl_seconds(bluetooth, "since_s"), t));
	if (ctl_has(bluetooth, "version"))
		ctl_row_add(&row, ", bluetoothd %s", ctl_text(bluetooth, "version"));
	/* The adapters say for themselves what is wrong with them. */
	if (n == 0 && *reason && !ctl_is_said(said, reason))
		ctl_row_add(&row, ": %s", reason);
	ctl_row_end(&row, page, CTL_INDENT);
	if (*advice && !ctl_is_said(said, advice))
		ctl_line(page, CTL_INDENT, "  do       %s", advice);
	if (n > 0)
		ctl_line(page, CTL_INDENT, "  adapter  %-17s %-7s %-18s %9s  %s", "address",
			 "powered", "scanning", "adverts/s", "last");
	for (size_t i = 0; i < n; i++)
		print_adapter(page, ctl_item(adapters, i), said);
}

static void print_sightings(const struct ctl_page *page, struct json_object *s)
{
	int64_t present = ctl_number(s, "present"), pending = ctl_number(s, "pending");
	struct json_object *budget = ctl_get(s, "budget");
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_line(page, CTL_INDENT,
		 "sightings  %lld device%s present, %lld known; %lld adverts heard, %lld reported",
		 (long long)present, ctl_plural(present), (long long)ctl_number(s, "devices"),
		 (long long)ctl_number(s, "adverts"), (long long)ctl_number(s, "reported"));
	ctl_row_add(&row, "  pending  %lld device%s for the next report", (long long)pending,
		    ctl_plural(pending));
	if (ctl_has(s, "unacknowledged_s"))
		ctl_row_add(&row, ", one batch not acknowledged for %s",
			    ctl_duration(ctl_seconds(s, "unacknowledged_s"), t));
	else if (ctl_has(s, "acknowledged_s"))
		ctl_row_add(&row, ", last acknowledged %s",
			    ctl_ago(ctl_seconds(s, "acknowledged_s"), t));
	if (ctl_has(budget, "waits_s"))
		ctl_row_add(&row, ", which waits %s for the budget (see uplink)",
			    ctl_duration(ctl_seconds(budget, "waits_s"), t));
	ctl_row_end(&row, page, CTL_INDENT);
	if (ctl_number(s, "evicted") > 0)
		ctl_line(page, CTL_INDENT,
			 "  evicted  %lld devices (devices.max), with %lld adverts not reported",
			 (long long)ctl_number(s, "evicted"),
			 (long long)ctl_number(s, "evicted_adverts"));
}

static void print_relay(const struct ctl_page *page, struct json_object *relay)
{
	int64_t links = ctl_number(relay, "links"), waiting = ctl_number(relay, "queued");
	int64_t suspended = 0;
	struct json_object *sessions = ctl_get(relay, "sessions");
	struct ctl_row row = {0};

	if (ctl_number(relay, "max_links") == 0) {
		ctl_line(page, CTL_INDENT, "sessions   none: relay.max_links is 0");
		return;
	}
	for (size_t i = 0; i < ctl_length(sessions); i++)
		suspended += ctl_truth(ctl_item(sessions, i), "suspended");
	ctl_row_add(&row, "sessions   %lld of %lld links, %lld wait%s", (long long)links,
		    (long long)ctl_number(relay, "slots"), (long long)waiting,
		    waiting == 1 ? "s" : "");
	if (suspended > 0)
		ctl_row_add(&row, ", %lld kept without an uplink", (long long)suspended);
	if (waiting > 0 || ctl_length(sessions) > 0)
		ctl_row_add(&row, " (see sessions)");
	ctl_row_end(&row, page, CTL_INDENT);
	ctl_line(page, CTL_INDENT,
		 "  so far   %lld started: %lld served, %lld broken off, %lld failed",
		 (long long)ctl_number(relay, "started"), (long long)ctl_number(relay, "served"),
		 (long long)ctl_number(relay, "broken"), (long long)ctl_number(relay, "failed"));
}

void ctl_screen_status(const struct ctl_page *page, struct json_object *o)
{
	const char *summary = ctl_text(o, "summary");
	const char *name = ctl_text(ctl_get(o, "uplink"), "hotspot_name");

	ctl_line(page, 2, "%s", summary);
	ctl_line(page, CTL_INDENT, "hotspot    %s%s%s", ctl_text(o, "hotspot_id"),
		 *name ? ", " : "", name);
	print_process(page, o);
	print_clock(page, ctl_get(o, "clock"));
	print_configuration(page, ctl_get(o, "configuration"), summary);
	print_bluetooth(page, ctl_get(o, "bluetooth"), summary);
	ctl_part_uplink(page, o, summary);
	print_sightings(page, ctl_get(o, "sightings"));
	print_relay(page, ctl_get(o, "relay"));
}

enum exit_code ctl_status(const struct ctl *ctl)
{
	return ctl_show(ctl, "status", ctl_screen_status);
}
