/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status.h"

#include <string.h>
#include <time.h>

#include "agent/advice.h"
#include "agent/agent.h"
#include "agent/json.h"
#include "agent/log.h"
#include "agent/process.h"
#include "agent/status_parts.h"
#include "agent/status_socket.h"
#include "agent/summary.h"
#include "agent/util.h"

static struct json_object *configuration_json(const struct agent *agent, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();
	struct reload_status s;

	reload_get_status(agent->reload, &s);
	json_add_text(o, "file", agent->config_file);
	json_add_text(o, "state", reload_state_name(s.state));
	if (s.state == RELOAD_NONE)
		return o;
	json_add_seconds(o, "since_s", s.since_ms, now_ms);
	if (s.state == RELOAD_REFUSED || s.state == RELOAD_REVERTED)
		json_add_text(o, "error", s.text);
	else if (*s.text)
		json_add_text(o, "changed", s.text);
	if (*s.restart)
		json_add_text(o, "needs_restart", s.restart);
	if (s.revert_ms != 0)
		json_add_seconds(o, "revert_in_s", now_ms, s.revert_ms);
	return o;
}

static struct json_object *clock_json(const struct timespec *now)
{
	struct json_object *o = json_object_new_object();

	json_add_time(o, "time", (int64_t)now->tv_sec * 1000 + now->tv_nsec / 1000000);
	json_add_bool(o, "set", now->tv_sec >= UTIL_CLOCK_SET_S);
	return o;
}

static struct json_object *process_json(const struct agent *agent)
{
	struct json_object *o = json_object_new_object();
	struct process_memory memory;

	process_get_memory(&memory);
	json_add_number(o, "rss_kb", memory.rss_kb);
	json_add_number(o, "peak_rss_kb", memory.peak_rss_kb);
	status_add_starts(agent, o);
	return o;
}

static struct json_object *answer_status(const struct agent *agent)
{
	struct json_object *o = json_object_new_object();
	struct summary_facts facts;
	char summary[SUMMARY_MAX];
	bool working, up;

	summary_gather(agent, &facts);
	working = summary_write(agent, &facts, summary, sizeof(summary));
	up = facts.uplink.state == UPLINK_STATE_UP;
	json_add_text(o, "summary", summary);
	json_add_bool(o, "working", working);
	json_add_text(o, "version", VERSION);
	json_add_seconds(o, "uptime_s", agent->started_ms, facts.now_ms);
	json_add_text(o, "log_level", log_level_name(log_get_level()));
	json_object_object_add(o, "clock", clock_json(&facts.clock));
	json_object_object_add(o, "process", process_json(agent));
	json_add_uuid(o, "hotspot_id", agent->identity->hotspot_id);
	json_object_object_add(o, "configuration", configuration_json(agent, facts.now_ms));
	json_object_object_add(o, "bluetooth", status_bluetooth(&facts.ble, facts.now_ms));
	json_object_object_add(o, "uplink", status_uplink(&facts.advice, facts.now_ms));
	json_object_object_add(o, "sightings",
			       status_sightings(agent, &facts.devices, facts.now_ms));
	json_object_object_add(o, "relay", status_relay(agent, &facts.ble, up));
	return o;
}

static struct json_object *error_json(const char *text)
{
	struct json_object *o = json_object_new_object();

	json_add_text(o, "error", text);
	return o;
}

/* The first of a stream; the others come as they happen. */
static struct json_object *answer_events(struct status_client *client)
{
	struct json_object *o;
	struct timespec now;

	if (status_socket_listen(client) < 0)
		return error_json("too many listeners");
	o = json_object_new_object();
	clock_gettime(CLOCK_REALTIME, &now);
	json_add_time(o, "time", (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
	json_add_text(o, "event", "listening");
	json_add_text(o, "text", "events from now on");
	return o;
}

/* Each has one of the functions. argument: what follows the name and a space, "" for nothing. */
static const struct request {
	const char *name;
	struct json_object *(*plain)(const struct agent *agent);
	struct json_object *(*with)(const struct agent *agent, const char *argument);
	struct json_object *(*stream)(struct status_client *client);
} requests[] = {
	{"status", .plain = answer_status},   {"devices", .plain = status_devices},
	{"device", .with = status_device},    {"sessions", .plain = status_sessions},
	{"journal", .plain = status_journal}, {"log", .plain = status_log},
	{"events", .stream = answer_events},  {"log-level", .with = status_log_level},
};

static struct json_object *answer(const struct agent *agent, struct status_client *client,
				  const char *line)
{
	size_t len = strcspn(line, " ");
	const char *argument = line[len] ? line + len + 1 : "";

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		const struct request *r = &requests[i];

		if (strlen(r->name) != len || memcmp(r->name, line, len) != 0)
			continue;
		if (r->with)
			return r->with(agent, argument);
		if (!*argument)
			return r->plain ? r->plain(agent) : r->stream(client);
	}
	return error_json(
		"unknown request; there are: status, devices, device ID, sessions, journal, "
		"log, events, log-level [LEVEL]");
}

char *status_answer(void *userdata, struct status_client *client, const char *request)
{
	struct json_object *o = answer(userdata, client, request);
	char *line = strdup(json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));

	json_object_put(o);
	return line;
}
