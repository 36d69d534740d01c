/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/ctl_commands.h"
#include "agent/ctl_screens.h"
#include "agent/ctl_text.h"

void ctl_part_supervisor(const struct ctl_page *page, struct json_object *s, const char *said)
{
	int64_t restarts = ctl_number(s, "restarts"), cycles = ctl_number(s, "power_cycles");
	const char *cause = ctl_text(s, "cause");
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	if (!s || strcmp(ctl_text(s, "step"), "watching") == 0)
		return;
	if (*cause && !ctl_is_said(said, cause))
		ctl_line(page, CTL_INDENT, "%*s%s", CTL_INDENT, "", cause);
	ctl_row_add(&row, "%*s%s %s", CTL_INDENT, "", ctl_text(s, "step"),
		    ctl_ago(ctl_seconds(s, "step_s"), t));
	if (ctl_seconds(s, "next_in_s") > 0)
		ctl_row_add(&row, ", next step in %s",
			    ctl_duration(ctl_seconds(s, "next_in_s"), t));
	ctl_row_add(&row, "; %lld restart%s, %lld power cycle%s", (long long)restarts,
		    ctl_plural(restarts), (long long)cycles, ctl_plural(cycles));
	ctl_row_end(&row, page, CTL_INDENT);
}

static void print_scanning(const struct ctl_page *page, struct json_object *a)
{
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "  state    %s for %s", ctl_text(a, "state"),
		    ctl_duration(ctl_seconds(a, "since_s"), t));
	if (ctl_has(a, "powered"))
		ctl_row_add(&row, ", %spowered", ctl_truth(a, "powered") ? "" : "not ");
	if (ctl_has(a, "discovering"))
		ctl_row_add(&row, ", %sdiscovering", ctl_truth(a, "discovering") ? "" : "not ");
	ctl_row_add(&row, ", %s advertisement monitor", ctl_truth(a, "monitor") ? "with" : "no");
	ctl_row_end(&row, page, CTL_INDENT);
	if (ctl_has(a, "reason"))
		ctl_line(page, CTL_INDENT, "  reason   %s", ctl_text(a, "reason"));
}

static void print_heard(const struct ctl_page *page, struct json_object *a)
{
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "  adverts  %lld heard", (long long)ctl_number(a, "adverts"));
	if (ctl_has(a, "adverts_per_s"))
		ctl_row_add(&row, ", %.1f a second", ctl_seconds(a, "adverts_per_s"));
	if (ctl_has(a, "last_advert_s"))
		ctl_row_add(&row, ", last %s", ctl_ago(ctl_seconds(a, "last_advert_s"), t));
	ctl_row_add(&row, "; %lld not understood", (long long)ctl_number(a, "dropped"));
	ctl_row_end(&row, page, CTL_INDENT);
	if (ctl_has(a, "others"))
		ctl_row_add(&row, "  others   %lld signals of other devices",
			    (long long)ctl_number(a, "others"));
	if (ctl_has(a, "last_heard_s"))
		ctl_row_add(&row, "%s %s", row.text ? "; last of any" : "  heard    any device",
			    ctl_ago(ctl_seconds(a, "last_heard_s"), t));
	ctl_row_end(&row, page, CTL_INDENT);
}

/* All it has done, also where there is nothing to do now. */
static void print_supervisor(const struct ctl_page *page, struct json_object *s)
{
	int64_t restarts = ctl_number(s, "restarts"), cycles = ctl_number(s, "power_cycles");
	int64_t reports = ctl_number(s, "reports");
	bool watching = strcmp(ctl_text(s, "step"), "watching") == 0;
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	if (!s)
		return;
	ctl_row_add(&row, "  silence  %s", watching ? "none" : ctl_text(s, "step"));
	if (ctl_has(s, "step_s"))
		ctl_row_add(&row, ", last step %s", ctl_ago(ctl_seconds(s, "step_s"), t));
	if (ctl_seconds(s, "next_in_s") > 0)
		ctl_row_add(&row, ", next step in %s if nothing is heard",
			    ctl_duration(ctl_seconds(s, "next_in_s"), t));
	if (ctl_has(s, "cause"))
		ctl_row_add(&row, ": %s", ctl_text(s, "cause"));
	ctl_row_end(&row, page, CTL_INDENT);
	ctl_line(page, CTL_INDENT,
		 "  so far   %lld restart%s of discovery, %lld power cycle%s, %lld report%s of it",
		 (long long)restarts, ctl_plural(restarts), (long long)cycles, ctl_plural(cycles),
		 (long long)reports, ctl_plural(reports));
}

static void print_adapter(const struct ctl_page *page, struct json_object *a)
{
	ctl_line(page, CTL_INDENT, "%-10s %s%s", ctl_text(a, "name"), ctl_text(a, "address"),
		 ctl_truth(a, "used") ? "" : ", not used (bluetooth.adapters)");
	if (!ctl_truth(a, "used"))
		return;
	print_scanning(page, a);
	print_heard(page, a);
	print_supervisor(page, ctl_get(a, "supervisor"));
}

void ctl_screen_adapters(const struct ctl_page *page, struct json_object *o)
{
	struct json_object *bluetooth = ctl_get(o, "bluetooth");
	struct json_object *adapters = ctl_get(bluetooth, "adapters");
	int64_t generation = ctl_number(bluetooth, "generation");
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "bluetooth  %s for %s", ctl_text(bluetooth, "state"),
		    ctl_duration(ctl_seconds(bluetooth, "since_s"), t));
	if (ctl_has(bluetooth, "reason"))
		ctl_row_add(&row, ": %s", ctl_text(bluetooth, "reason"));
	ctl_row_end(&row, page, CTL_INDENT);
	if (ctl_has(bluetooth, "advice"))
		ctl_line(page, CTL_INDENT, "  do       %s", ctl_text(bluetooth, "advice"));
	ctl_line(page, CTL_INDENT, "  BlueZ    %s%sfound %lld time%s since the start",
		 ctl_text(bluetooth, "version"), ctl_has(bluetooth, "version") ? ", " : "",
		 (long long)generation, ctl_plural(generation));
	for (size_t i = 0; i < ctl_length(adapters); i++)
		print_adapter(page, ctl_item(adapters, i));
}

enum exit_code ctl_adapters(const struct ctl *ctl)
{
	return ctl_show_part(ctl, "bluetooth", "scanning", ctl_screen_adapters);
}
