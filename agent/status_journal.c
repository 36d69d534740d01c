/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/agent.h"
#include "agent/events.h"
#include "agent/journal_json.h"
#include "agent/json.h"
#include "agent/log.h"
#include "agent/status_parts.h"
#include "agent/util.h"

struct json_object *status_journal(const struct agent *agent)
{
	return journal_json(events_journal(agent->events));
}

static void add_line(void *userdata, const struct recent_line *line)
{
	struct json_object *lines = userdata, *o = json_object_new_object();

	json_add_time(o, "time", line->wall_ms);
	if (line->event != LOG_EVENT_NONE)
		json_add_text(o, "event", log_event_name(line->event));
	json_add_text(o, "level", log_level_name(line->level));
	json_add_text(o, "text", line->text);
	json_object_array_add(lines, o);
}

struct json_object *status_log(const struct agent *agent)
{
	struct json_object *o = json_object_new_object(), *lines = json_object_new_array();

	recent_each(events_recent(agent->events), add_line, lines);
	json_object_object_add(o, "log", lines);
	return o;
}

/* The line comes through whichever of the two levels lets it. */
static void set_log_level(enum log_level level)
{
	enum log_level before = log_get_level();

	if (level == before)
		return;
	log_set_level(MAX(level, before));
	log_event(LOG_LEVEL_INFO, LOG_EVENT_CONFIGURATION,
		  "log level %s -> %s, as asked for on the status socket", log_level_name(before),
		  log_level_name(level));
	log_set_level(level);
}

struct json_object *status_log_level(const struct agent *agent, const char *level)
{
	struct json_object *o = json_object_new_object();
	enum log_level wanted;

	(void)agent;
	if (*level && log_level_parse(level, &wanted) < 0) {
		json_add_text(o, "error", "expected error, warning, info or debug");
		return o;
	}
	if (*level)
		set_log_level(wanted);
	json_add_text(o, "log_level", log_level_name(log_get_level()));
	return o;
}

void status_add_starts(const struct agent *agent, struct json_object *o)
{
	const char *last_end = events_last_end(agent->events);

	json_add_number(o, "starts", events_journal(agent->events)->starts);
	if (last_end)
		json_add_text(o, "last_end", last_end);
}
