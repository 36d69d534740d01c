/* SPDX-License-Identifier: Apache-2.0 */
/* The journal, the log and its level. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/ctl_client.h"
#include "agent/ctl_commands.h"
#include "agent/ctl_screens.h"
#include "agent/ctl_text.h"
#include "agent/log.h"
#include "agent/util.h"

#define INDENT 2 /* of a line that goes on */

/* Most texts begin with what they are about: "uplink: ...", "Bluetooth: ...", "started, ...". */
static void add_subject(struct ctl_row *row, const char *event, const char *text)
{
	if (strncasecmp(text, event, strlen(event)) != 0)
		ctl_row_add(row, "%s: ", event);
}

void ctl_print_event(const struct ctl_page *page, struct json_object *event)
{
	const char *name = ctl_text(event, "event"), *level = ctl_text(event, "level");
	const char *text = ctl_text(event, "text");
	struct ctl_row row = {0};

	if (ctl_has(event, "count")) {
		ctl_line(page, INDENT, "%lld events are missing: this came too slowly through",
			 (long long)ctl_number(event, "count"));
		return;
	}
	ctl_row_add(&row, "%s ", ctl_text(event, "time"));
	if (strcmp(level, "warning") == 0 || strcmp(level, "error") == 0)
		ctl_row_add(&row, "%s: ", level);
	add_subject(&row, name, text);
	ctl_row_add(&row, "%s", text);
	ctl_row_end(&row, page, INDENT);
}

static void print_entry(const struct ctl_page *page, struct json_object *entry)
{
	const char *time = ctl_text(entry, "time"), *text = ctl_text(entry, "text");
	int64_t count = ctl_number(entry, "count");
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	/* To the second: "2026-11-23T20:45:10Z", or as wide. */
	if (strlen(time) > 20)
		ctl_row_add(&row, "%.19sZ ", time);
	else
		ctl_row_add(&row, "%-20s ", *time ? time : ctl_ago(ctl_seconds(entry, "age_s"), t));
	if (count > 1)
		ctl_row_add(&row, "%lldx ", (long long)count);
	if (strcmp(ctl_text(entry, "level"), "error") == 0)
		ctl_row_add(&row, "error: ");
	add_subject(&row, ctl_text(entry, "event"), text);
	ctl_row_add(&row, "%s", text);
	if (ctl_has(entry, "first_age_s"))
		ctl_row_add(&row, " (first %s)", ctl_ago(ctl_seconds(entry, "first_age_s"), t));
	ctl_row_end(&row, page, INDENT);
}

void ctl_screen_journal(const struct ctl_page *page, struct json_object *o)
{
	struct json_object *list = ctl_get(o, "journal");

	if (ctl_length(list) == 0)
		ctl_line(page, 0, "Nothing in the journal yet.");
	for (size_t i = 0; i < ctl_length(list); i++)
		print_entry(page, ctl_item(list, i));
}

void ctl_screen_log(const struct ctl_page *page, struct json_object *o)
{
	struct json_object *list = ctl_get(o, "log");

	if (ctl_length(list) == 0)
		ctl_line(page, 0, "Nothing in the log yet.");
	for (size_t i = 0; i < ctl_length(list); i++) {
		struct json_object *line = ctl_item(list, i);

		ctl_line(page, INDENT, "%s %-7s %s", ctl_text(line, "time"),
			 ctl_text(line, "level"), ctl_text(line, "text"));
	}
}

enum exit_code ctl_log(const struct ctl *ctl)
{
	return ctl_show(ctl, "log", ctl_screen_log);
}

void ctl_screen_log_level(const struct ctl_page *page, struct json_object *o)
{
	ctl_line(page, 0, "%s", ctl_text(o, "log_level"));
}

enum exit_code ctl_log_level(const struct ctl *ctl)
{
	_cleanup_free_ char *request = NULL;
	enum exit_code code;
	enum log_level level;

	if (!ctl->argument)
		return ctl_show(ctl, "log-level", ctl_screen_log_level);
	if (asprintf(&request, "log-level %s", ctl->argument) < 0) {
		request = NULL;
		fputs("blecon-hotspotctl: out of memory\n", stderr);
		return EXIT_FAILED;
	}
	code = ctl_show(ctl, request, ctl_screen_log_level);
	/* The daemon has said what is wrong with it. */
	return code != EXIT_OK && log_level_parse(ctl->argument, &level) < 0 ? EXIT_USAGE : code;
}
