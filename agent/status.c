/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status.h"

#include <string.h>

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/status_parts.h"
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
	if (*s.text)
		json_add_text(o,
			      s.state == RELOAD_REFUSED || s.state == RELOAD_REVERTED ? "error"
										      : "changed",
			      s.text);
	if (*s.restart)
		json_add_text(o, "needs_restart", s.restart);
	if (s.revert_ms != 0)
		json_add_seconds(o, "revert_in_s", now_ms, s.revert_ms);
	return o;
}

static struct json_object *answer_status(struct agent *agent, struct status_client *client,
					 const char *argument)
{
	struct json_object *o = json_object_new_object();
	uint64_t now_ms = util_now_ms();
	struct ble_status ble;
	struct uplink_status uplink;
	struct devices_counters devices;
	char summary[SUMMARY_MAX];
	bool working;

	(void)client;
	(void)argument;
	ble_get_status(agent->ble, &ble);
	uplink_get_status(agent->uplink, &uplink);
	devices_get_counters(agent->devices, &devices);
	working = summary_write(agent, &ble, &uplink, &devices, summary, sizeof(summary));
	json_add_text(o, "summary", summary);
	json_add_bool(o, "working", working);
	json_add_text(o, "version", VERSION);
	json_add_seconds(o, "uptime_s", agent->started_ms, now_ms);
	json_add_uuid(o, "hotspot_id", agent->identity->hotspot_id);
	json_object_object_add(o, "configuration", configuration_json(agent, now_ms));
	json_object_object_add(o, "bluetooth", status_bluetooth(&ble, now_ms));
	json_object_object_add(o, "uplink", status_uplink(&uplink, now_ms));
	json_object_object_add(o, "sightings", status_sightings(agent, &devices, now_ms));
	json_object_object_add(o, "relay",
			       status_relay(agent, &ble, uplink.state == UPLINK_STATE_UP));
	return o;
}

static struct json_object *answer_devices(struct agent *agent, struct status_client *client,
					  const char *argument)
{
	(void)client;
	(void)argument;
	return status_devices(agent);
}

static struct json_object *answer_device(struct agent *agent, struct status_client *client,
					 const char *argument)
{
	(void)client;
	return status_device(agent, argument);
}

static struct json_object *answer_sessions(struct agent *agent, struct status_client *client,
					   const char *argument)
{
	(void)client;
	(void)argument;
	return status_sessions(agent);
}

static struct json_object *error_json(const char *text)
{
	struct json_object *o = json_object_new_object();

	json_add_text(o, "error", text);
	return o;
}

/* argument: what follows the name and a space, "" for nothing. */
static const struct request {
	const char *name;
	struct json_object *(*answer)(struct agent *agent, struct status_client *client,
				      const char *argument);
	bool takes_argument;
} requests[] = {
	{"status", answer_status, false},
	{"devices", answer_devices, false},
	{"device", answer_device, true},
	{"sessions", answer_sessions, false},
};

static struct json_object *answer(struct agent *agent, struct status_client *client,
				  const char *line)
{
	size_t len = strcspn(line, " ");
	const char *argument = line[len] ? line + len + 1 : "";

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		if (strlen(requests[i].name) == len && memcmp(requests[i].name, line, len) == 0 &&
		    (requests[i].takes_argument || !*argument))
			return requests[i].answer(agent, client, argument);
	}
	return error_json("unknown request; there are: status, devices");
}

char *status_answer(void *userdata, struct status_client *client, const char *request)
{
	struct json_object *o = answer(userdata, client, request);
	char *line = strdup(json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));

	json_object_put(o);
	return line;
}
