/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_parts.h"

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/util.h"

#define QUEUE_SHOWN 32 /* devices of the queue, whose number is told as well */

static void add_session(void *userdata, const struct session_status *s)
{
	struct json_object *o = json_object_new_object();

	json_add_number(o, "session", s->id);
	json_add_device_url(o, s->device_id);
	json_add_text(o, "state", session_state_name(s->state));
	json_add_seconds(o, "since_s", s->since_ms, util_now_ms());
	json_add_adapter(o, s->adapter);
	json_add_bool(o, "accepted", s->accepted);
	json_add_bool(o, "suspended", s->suspended);
	if (s->suspended)
		json_add_seconds(o, "expires_in_s", util_now_ms(), s->expires_ms);
	json_add_number(o, "resumed", s->resumed);
	if (s->was_up) {
		json_add_text(o, "bearer", ble_bearer_name(s->bearer));
		json_add_number(o, "channels", s->channels);
		json_add_number(o, "max_frame", s->max_frame);
	}
	json_add_dbm(o, "rssi_dbm", s->rssi_dbm);
	json_add_number(o, "frames_up", s->frames_up);
	json_add_number(o, "frames_down", s->frames_down);
	json_add_number(o, "bytes_up", s->bytes_up);
	json_add_number(o, "bytes_down", s->bytes_down);
	/* Until the cloud has said that it has them. */
	json_add_number(o, "waiting_up", s->waiting_up);
	json_add_number(o, "waiting_down", s->waiting_down);
	json_add_bool(o, "held", s->held);
	if (*s->reason)
		json_add_text(o, "reason", s->reason);
	json_object_array_add(userdata, o);
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
	const struct device *device = devices_find(queue->agent->devices, asker->device_id);
	uint64_t now_ms = util_now_ms();
	struct json_object *o;

	if (json_object_array_length(queue->array) >= QUEUE_SHOWN)
		return;
	o = json_object_new_object();
	json_add_device_url(o, asker->device_id);
	json_add_text(o, "wait",
		      wait == SCHEDULER_CLOSED && queue->up ? "reconnect"
							    : scheduler_wait_name(wait));
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
	json_object_array_add(queue->array, o);
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
	relay_each(agent->relay, add_session, sessions);
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
