/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "agent/clock.h"
#include "agent/journal_file.h"
#include "agent/json.h"
#include "agent/log.h"
#include "agent/status_socket.h"
#include "agent/util.h"

struct events {
	struct status_socket *socket; /* not owned */
	struct journal journal;
	struct journal_file *file;
	struct recent recent;
	const char *last_end; /* not owned, NULL: there was no run before */
};

static void publish(struct events *events, const struct recent_line *line)
{
	struct json_object *o = json_object_new_object();

	json_add_time(o, "time", line->wall_ms);
	json_add_text(o, "event", log_event_name(line->event));
	json_add_text(o, "level", log_level_name(line->level));
	json_add_text(o, "text", line->text);
	status_socket_publish(events->socket,
			      json_object_to_json_string_ext(
				      o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

static void on_line(void *userdata, const struct log_line *line)
{
	struct events *events = userdata;
	char text[RECENT_TEXT + 1];
	const struct recent_line recent = {
		.wall_ms = (int64_t)clock_wall_ms(),
		.level = line->level,
		.event = line->event,
		.text = text,
	};
	struct kept_clock now;

	util_copy_utf8(text, sizeof(text), line->text);
	if (line->level <= log_get_level() || line->event != LOG_EVENT_NONE)
		recent_add(&events->recent, &recent);
	if (journal_wants(line)) {
		clock_read(&now);
		journal_add(&events->journal, line, &now);
		journal_file_changed(events->file);
	}
	if (line->event != LOG_EVENT_NONE && status_socket_has_listeners(events->socket))
		publish(events, &recent);
}

/* The directory it is in. Returns NULL without memory. */
static char *directory_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static int open_journal(struct events *events, struct loop *loop, const char *socket_path,
			const char *state_dir)
{
	_cleanup_free_ char *memory_dir = socket_path ? directory_of(socket_path) : NULL;
	struct kept_clock now;
	int r;

	if (socket_path && !memory_dir)
		return -ENOMEM;
	r = journal_file_new(loop, &events->journal, memory_dir, state_dir, &events->file);
	if (r < 0)
		return r;
	clock_read(&now);
	events->last_end = journal_begin(&events->journal, &now);
	return 0;
}

int events_new(struct loop *loop, struct status_socket *socket, const char *socket_path,
	       const char *state_dir, struct events **ret)
{
	struct events *events = calloc(1, sizeof(*events));
	int r;

	if (!events)
		return -ENOMEM;
	events->socket = socket;
	/* What is said of the journal's files is no event. */
	log_observe(on_line, events);
	r = open_journal(events, loop, socket_path, state_dir);
	if (r < 0) {
		events_free(events);
		return r;
	}
	if (events->last_end)
		log_event(LOG_LEVEL_INFO, LOG_EVENT_START,
			  "started, version " VERSION "; before: %s", events->last_end);
	else
		log_event(LOG_LEVEL_INFO, LOG_EVENT_START,
			  "started, version " VERSION "; nothing is known of a run before");
	*ret = events;
	return 0;
}

void events_stop(struct events *events)
{
	journal_end(&events->journal);
	journal_file_flush(events->file);
}

void events_free(struct events *events)
{
	if (!events)
		return;
	log_observe(NULL, NULL);
	journal_file_free(events->file);
	free(events);
}

const struct journal *events_journal(const struct events *events)
{
	return &events->journal;
}

const struct recent *events_recent(const struct events *events)
{
	return &events->recent;
}

const char *events_last_end(const struct events *events)
{
	return events->last_end;
}
