/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_parts.h"

#include <string.h>

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/util.h"

#define QUEUE_SHOWN 32 /* devices of the queue, whose number is told as well */

static void add_time(void *userdata, const char *name, uint64_t ms)
{
	json_add_number(userdata, name, ms);
}

/* What a session there is and one that has ended have in common. */
static struct json_object *session_json(const struct session_status *s)
{
	struct json_object *o = json_object_new_object();

	json_add_number(o, "session", s->id);
	json_add_device_url(o, s->device_id);
	json_add_adapter(o, s->adapter);
	if (s->was_up)
		json_add_text(o, "bearer", ble_bearer_name(s->bearer));
	json_add_dbm(o, "rssi_dbm", s->rssi_dbm);
	json_add_number(o, "resumed", s->resumed);
	json_add_number(o, "frames_up", s->frames_up);
	json_add_number(o, "frames_down", s->frames_down);
	json_add_number(o, "bytes_up", s->bytes_up);
	json_add_number(o, "bytes_down", s->bytes_down);
	timing_each(&s->timing, add_time, o);
	if (*s->reason)
		json_add_text(o, "reason", s->reason);
	return o;
}

static struct json_object *live_json(const struct session_status *s)
{
	struct json_object *o = session_json(s);

	json_add_text(o, "state", session_state_name(s->state));
	json_add_seconds(o, "since_s", s->since_ms, util_now_ms());
	json_add_bool(o, "accepted", s->accepted);
	json_add_bool(o, "suspended", s->suspended);
	if (s->suspended)
		json_add_seconds(o, "expires_in_s", util_now_ms(), s->expires_ms);
	if (s->was_up) {
		json_add_number(o, "channels", s->channels);
		json_add_number(o, "max_frame", s->max_frame);
	}
	/* Until the cloud has said that it has them. */
	json_add_number(o, "waiting_up", s->waiting_up);
	json_add_number(o, "waiting_down", s->waiting_down);
	json_add_bool(o, "held", s->held);
	return o;
}

static struct json_object *ended_json(const struct session_status *s)
{
	struct json_object *o = session_json(s);

	json_add_text(o, "result", session_result_name(session_get_result(s)));
	json_add_seconds(o, "ended_s", s->timing.ended_ms, util_now_ms());
	return o;
}

static void add_live(void *userdata, const struct session_status *s)
{
	json_object_array_add(userdata, live_json(s));
}

static void add_ended(void *userdata, const struct session_status *s)
{
	json_object_array_add(userdata, ended_json(s));
}

/* up: the uplink is. */
static struct json_object *asker_json(const struct agent *agent, bool up,
				      const struct scheduler_asker *asker, enum scheduler_wait wait,
				      const struct scheduler_hearing *on)
{
	const struct device *device = devices_find(agent->devices, asker->device_id);
	struct json_object *o = json_object_new_object();
	uint64_t now_ms = util_now_ms();

	json_add_device_url(o, asker->device_id);
	json_add_text(o, "wait",
		      wait == SCHEDULER_CLOSED && up ? "reconnect" : scheduler_wait_name(wait));
	/* In back-off it has not lined up again yet. */
	json_add_seconds(o, "since_s",
			 wait == SCHEDULER_BACKOFF && device ? device->failed_ms : asker->since_ms,
			 now_ms);
	if (wait == SCHEDULER_BACKOFF)
		json_add_seconds(o, "retry_in_s", now_ms, asker->retry_ms);
	if (device && device->failures > 0 && device->failure) {
		json_add_number(o, "failures", device->failures);
		json_add_text(o, "failure", device->failure);
	}
	json_add_bool(o, "announces", asker->announces);
	if (on) {
		json_add_adapter(o, on->adapter);
		json_add_dbm(o, "rssi_dbm", on->rssi_dbm);
	}
	return o;
}

struct queue {
	const struct agent *agent;
	bool up; /* the uplink is */
	struct json_object *array;
};

static void add_asker(void *userdata, const struct scheduler_asker *asker, enum scheduler_wait wait,
		      const struct scheduler_hearing *on)
{
	const struct queue *queue = userdata;

	if (json_object_array_length(queue->array) < QUEUE_SHOWN)
		json_object_array_add(queue->array,
				      asker_json(queue->agent, queue->up, asker, wait, on));
}

/* Links there can be with the adapters there are. */
static unsigned slots(const struct ble_status *ble, const struct scheduler_config *config)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ble->n_adapters; i++)
		n += ble->adapters[i].used ? config->max_links_per_adapter : 0;
	return MIN(n, config->max_links);
}

struct json_object *status_relay(const struct agent *agent, const struct ble_status *ble, bool up)
{
	struct json_object *o = json_object_new_object();
	struct json_object *sessions = json_object_new_array();
	struct queue queue = {agent, up, json_object_new_array()};
	const struct scheduler *scheduler = relay_scheduler(agent->relay);
	struct scheduler_load load;
	struct relay_counters c;

	relay_get_counters(agent->relay, &c);
	relay_get_load(agent->relay, &load);
	relay_each(agent->relay, add_live, sessions);
	scheduler_each(scheduler, util_now_ms(), &load, add_asker, &queue);
	json_add_number(o, "links", load.links);
	json_add_number(o, "slots", slots(ble, &scheduler->config));
	json_add_number(o, "max_links", scheduler->config.max_links);
	json_add_number(o, "max_links_per_adapter", scheduler->config.max_links_per_adapter);
	json_add_signed(o, "rssi_floor_dbm", scheduler->config.rssi_floor_dbm);
	json_add_number(o, "queued", scheduler->n);
	json_add_number(o, "turned_away", c.turned_away);
	json_add_number(o, "started", c.started);
	json_add_number(o, "served", c.served);
	json_add_number(o, "failed", c.failed);
	json_add_number(o, "broken", c.broken);
	json_add_number(o, "resumed", c.resumed);
	json_add_number(o, "frames_up", c.frames_up);
	json_add_number(o, "frames_down", c.frames_down);
	json_add_number(o, "bytes_up", c.bytes_up);
	json_add_number(o, "bytes_down", c.bytes_down);
	json_object_object_add(o, "sessions", sessions);
	json_object_object_add(o, "queue", queue.array);
	return o;
}

struct json_object *status_sessions(const struct agent *agent)
{
	struct json_object *o = json_object_new_object();
	struct json_object *sessions = json_object_new_array();
	struct json_object *last = json_object_new_array();

	relay_each(agent->relay, add_live, sessions);
	past_each(relay_past(agent->relay), add_ended, last);
	json_object_object_add(o, "sessions", sessions);
	json_object_object_add(o, "last", last);
	return o;
}

/* --- One device --- */

struct one {
	const struct agent *agent;
	bool up; /* the uplink is */
	const uint8_t *device_id;
	struct json_object *o;
	struct json_object *last;
	bool found;
};

static bool is_it(struct one *one, const uint8_t device_id[16])
{
	bool is = memcmp(one->device_id, device_id, 16) == 0;

	one->found |= is;
	return is;
}

static void add_its_session(void *userdata, const struct session_status *s)
{
	struct one *one = userdata;

	if (is_it(one, s->device_id))
		json_object_object_add(one->o, "session", live_json(s));
}

static void add_its_place(void *userdata, const struct scheduler_asker *asker,
			  enum scheduler_wait wait, const struct scheduler_hearing *on)
{
	struct one *one = userdata;

	if (is_it(one, asker->device_id))
		json_object_object_add(one->o, "queue",
				       asker_json(one->agent, one->up, asker, wait, on));
}

static void add_its_past(void *userdata, const struct session_status *s)
{
	struct one *one = userdata;

	if (is_it(one, s->device_id))
		json_object_array_add(one->last, ended_json(s));
}

bool status_relay_device(const struct agent *agent, const uint8_t device_id[16],
			 struct json_object *o)
{
	struct one one = {.agent = agent, .device_id = device_id, .o = o};
	struct uplink_status uplink;
	struct scheduler_load load;

	uplink_get_status(agent->uplink, &uplink);
	one.up = uplink.state == UPLINK_STATE_UP;
	one.last = json_object_new_array();
	relay_get_load(agent->relay, &load);
	relay_each(agent->relay, add_its_session, &one);
	scheduler_each(relay_scheduler(agent->relay), util_now_ms(), &load, add_its_place, &one);
	past_each(relay_past(agent->relay), add_its_past, &one);
	json_object_object_add(o, "last", one.last);
	return one.found;
}
