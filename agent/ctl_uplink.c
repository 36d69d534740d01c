/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/ctl_commands.h"
#include "agent/ctl_screens.h"
#include "agent/ctl_text.h"

#define SOON_DAYS 30 /* until a certificate ends: it is told everywhere */

static void print_state(const struct ctl_page *page, struct json_object *uplink)
{
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "uplink     %s for %s", ctl_text(uplink, "state"),
		    ctl_duration(ctl_seconds(uplink, "since_s"), t));
	if (ctl_has(uplink, "rtt_us") && strcmp(ctl_text(uplink, "state"), "up") == 0)
		ctl_row_add(&row, ", ping %.1f ms", (double)ctl_number(uplink, "rtt_us") / 1000);
	if (ctl_has(uplink, "retry_in_s"))
		ctl_row_add(&row, ", next attempt in %s",
			    ctl_duration(ctl_seconds(uplink, "retry_in_s"), t));
	if (ctl_has(uplink, "reconnect_in_s"))
		ctl_row_add(&row, ", reconnects in %s as the cloud asked",
			    ctl_duration(ctl_seconds(uplink, "reconnect_in_s"), t));
	ctl_row_end(&row, page, CTL_INDENT);
}

/* With the days left, as long as the hub knows the date. Returns whether it ends soon. */
static bool describe_end(struct ctl_row *row, struct json_object *clock, const char *until)
{
	int64_t days = 0;

	ctl_row_add(row, "until %.10s", until);
	if (!ctl_truth(clock, "set") || !ctl_days(ctl_text(clock, "time"), until, &days))
		return false;
	if (days < 0 || strcmp(until, ctl_text(clock, "time")) < 0)
		ctl_row_add(row, ": expired");
	else
		ctl_row_add(row, ", %lld day%s left", (long long)days, ctl_plural(days));
	return days < SOON_DAYS;
}

static void print_certificates(const struct ctl_page *page, struct json_object *uplink,
			       struct json_object *clock, bool all)
{
	struct ctl_row own = {0}, row = {0};
	bool soon;

	if (ctl_has(uplink, "certificate_until")) {
		ctl_row_add(&row, "  tls      certificate ");
		describe_end(&row, clock, ctl_text(uplink, "certificate_until"));
	}
	if (ctl_has(uplink, "own_certificate_until")) {
		soon = describe_end(&own, clock, ctl_text(uplink, "own_certificate_until"));
		if (soon || all)
			ctl_row_add(&row, "%s %s", row.text ? "; its own" : "  tls      its own",
				    own.text);
		free(own.text);
	}
	ctl_row_end(&row, page, CTL_INDENT);
}

/* Where it failed, or "". */
static const char *place(struct json_object *uplink)
{
	static const struct {
		const char *name, *words;
	} places[] = {
		{"resolve", " at the name"},	{"tcp", " at TCP"},
		{"proxy", " at the proxy"},	{"tls", " at TLS"},
		{"upgrade", " at the upgrade"}, {"hello", " at hello"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (strcmp(ctl_text(uplink, "failed_at"), places[i].name) == 0)
			return places[i].words;
	}
	return "";
}

static void print_error(const struct ctl_page *page, struct json_object *uplink, const char *said)
{
	const char *error = ctl_text(uplink, "error"), *advice = ctl_text(uplink, "advice");
	bool up = strcmp(ctl_text(uplink, "state"), "up") == 0;
	char t[CTL_SHORT];

	if (*error)
		ctl_line(page, CTL_INDENT, "  %s %s%s%s%s", up ? "was down" : "error   ",
			 ctl_ago(ctl_seconds(uplink, "error_s"), t), place(uplink),
			 ctl_is_said(said, error) ? ", as said above" : ": ",
			 ctl_is_said(said, error) ? "" : error);
	if (*advice && !ctl_is_said(said, advice))
		ctl_line(page, CTL_INDENT, "  do       %s", advice);
}

void ctl_part_uplink(const struct ctl_page *page, struct json_object *status, const char *said)
{
	struct json_object *uplink = ctl_get(status, "uplink");
	const char *address = ctl_text(uplink, "address");

	print_state(page, uplink);
	if (*ctl_text(uplink, "url"))
		ctl_line(page, CTL_INDENT, "  url      %s%s%s%s", ctl_text(uplink, "url"),
			 *address ? " (" : "", address, *address ? ")" : "");
	if (ctl_has(uplink, "proxy"))
		ctl_line(page, CTL_INDENT, "  proxy    %s", ctl_text(uplink, "proxy"));
	print_certificates(page, uplink, ctl_get(status, "clock"), !said);
	print_error(page, uplink, said);
}

/* Those that are not in use, where there is more than one, and how the one in use has failed. */
static void print_urls(const struct ctl_page *page, struct json_object *uplink)
{
	struct json_object *urls = ctl_get(uplink, "urls");
	char t[CTL_SHORT];

	for (size_t i = 0; i < ctl_length(urls); i++) {
		struct json_object *url = ctl_item(urls, i);
		int64_t failures = ctl_number(url, "failures");
		struct ctl_row row = {0};

		if (strcmp(ctl_text(url, "url"), ctl_text(uplink, "url")) == 0) {
			if (failures > 0)
				ctl_line(page, CTL_INDENT, "  failed   %lld time%s in a row",
					 (long long)failures, ctl_plural(failures));
			continue;
		}
		ctl_row_add(&row, "  other    %s", ctl_text(url, "url"));
		if (failures > 0)
			ctl_row_add(&row, ", failed %lld time%s", (long long)failures,
				    ctl_plural(failures));
		if (ctl_has(url, "retry_in_s"))
			ctl_row_add(&row, ", not before %s",
				    ctl_duration(ctl_seconds(url, "retry_in_s"), t));
		if (ctl_has(url, "error"))
			ctl_row_add(&row, "; %s: %s", ctl_ago(ctl_seconds(url, "error_s"), t),
				    ctl_text(url, "error"));
		ctl_row_end(&row, page, CTL_INDENT);
	}
}

static void print_bytes(const struct ctl_page *page, const char *heading, struct json_object *bytes,
			int64_t messages)
{
	struct ctl_row classes = {0};
	int64_t sum = 0;

	if (!bytes)
		return;
	json_object_object_foreach(bytes, class, value)
	{
		ctl_row_list(&classes, "%lld %s", (long long)json_object_get_int64(value), class);
		sum += json_object_get_int64(value);
	}
	ctl_line(page, CTL_INDENT, "  %-8s %lld bytes in %lld message%s: %s", heading,
		 (long long)sum, (long long)messages, ctl_plural(messages),
		 classes.text ? classes.text : "");
	free(classes.text);
}

/* What sightings may still take, where there is a limit. */
static void print_budget(const struct ctl_page *page, struct json_object *budget)
{
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	if (!budget)
		return;
	ctl_row_add(&row, "  budget   %.1f of %.0f kB in 24 h can go now",
		    (double)ctl_number(budget, "left_bytes") / 1000,
		    (double)ctl_number(budget, "per_day_bytes") / 1000);
	if (ctl_has(budget, "waits_s"))
		ctl_row_add(&row, "; the next report waits %s for it",
			    ctl_duration(ctl_seconds(budget, "waits_s"), t));
	ctl_row_end(&row, page, CTL_INDENT);
}

static void print_reports(const struct ctl_page *page, struct json_object *s)
{
	int64_t batches = ctl_number(s, "batches"), kept = ctl_number(s, "kept");
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "reports    %lld adverts in %lld batch%s",
		    (long long)ctl_number(s, "reported"), (long long)batches,
		    batches == 1 ? "" : "es");
	if (ctl_number(s, "resent") > 0)
		ctl_row_add(&row, ", %lld sent again", (long long)ctl_number(s, "resent"));
	if (ctl_has(s, "acknowledged_s"))
		ctl_row_add(&row, ", last acknowledged %s",
			    ctl_ago(ctl_seconds(s, "acknowledged_s"), t));
	if (ctl_has(s, "unacknowledged_s"))
		ctl_row_add(&row, ", one not acknowledged for %s",
			    ctl_duration(ctl_seconds(s, "unacknowledged_s"), t));
	ctl_row_end(&row, page, CTL_INDENT);
	print_budget(page, ctl_get(s, "budget"));
	if (kept > 0)
		ctl_line(page, CTL_INDENT, "  kept     %lld over the last restart",
			 (long long)kept);
}

void ctl_screen_uplink(const struct ctl_page *page, struct json_object *o)
{
	struct json_object *uplink = ctl_get(o, "uplink");
	int64_t attempts = ctl_number(uplink, "attempts");

	ctl_part_uplink(page, o, NULL);
	if (ctl_has(uplink, "hotspot_name"))
		ctl_line(page, CTL_INDENT, "  name     %s", ctl_text(uplink, "hotspot_name"));
	print_urls(page, uplink);
	ctl_line(page, CTL_INDENT, "  connects %lld of %lld attempt%s",
		 (long long)ctl_number(uplink, "connects"), (long long)attempts,
		 ctl_plural(attempts));
	print_bytes(page, "sent", ctl_get(uplink, "bytes_out"), ctl_number(uplink, "messages_out"));
	print_bytes(page, "received", ctl_get(uplink, "bytes_in"),
		    ctl_number(uplink, "messages_in"));
	print_reports(page, ctl_get(o, "sightings"));
}

enum exit_code ctl_uplink(const struct ctl *ctl)
{
	return ctl_show_part(ctl, "uplink", "up", ctl_screen_uplink);
}
