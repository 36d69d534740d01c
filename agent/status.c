/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/agent.h"
#include "agent/log.h"
#include "agent/summary.h"
#include "agent/util.h"

#define DEVICE_URL  "https://blecon.dev/"
#define QUEUE_SHOWN 32 /* devices of the queue, whose number is told as well */

static void add_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

static void add_number(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_int64((int64_t)value));
}

static void add_signed(struct json_object *o, const char *key, int64_t value)
{
	json_object_object_add(o, key, json_object_new_int64(value));
}

static void add_bool(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

/* Seconds between two monotonic times, to the millisecond. */
static void add_seconds(struct json_object *o, const char *key, uint64_t from_ms, uint64_t to_ms)
{
	char text[32];
	double s = (double)(to_ms - MIN(from_ms, to_ms)) / 1000;

	snprintf(text, sizeof(text), "%.3f", s);
	json_object_object_add(o, key, json_object_new_double_s(s, text));
}

static void add_dbm(struct json_object *o, const char *key, int dbm)
{
	if (dbm != BLE_RSSI_NONE)
		add_signed(o, key, dbm);
}

static void add_uuid(struct json_object *o, const char *key, const uint8_t uuid[16])
{
	char text[UTIL_UUID_TEXT];

	util_uuid_text(uuid, text);
	add_text(o, key, text);
}

static void add_device_url(struct json_object *o, const uint8_t device_id[16])
{
	char text[sizeof(DEVICE_URL) + UTIL_UUID_TEXT] = DEVICE_URL;

	util_uuid_text(device_id, text + strlen(DEVICE_URL));
	add_text(o, "device_url", text);
}

static struct json_object *supervisor_json(const struct ble_supervisor_status *s, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "step", ble_supervisor_step_name(s->step));
	if (*s->cause)
		add_text(o, "cause", s->cause);
	if (s->step_ms != 0)
		add_seconds(o, "step_s", s->step_ms, now_ms);
	if (s->next_ms != 0)
		add_seconds(o, "next_in_s", now_ms, s->next_ms);
	add_number(o, "restarts", s->restarts);
	add_number(o, "power_cycles", s->power_cycles);
	add_number(o, "reports", s->reports);
	return o;
}

static struct json_object *adapter_json(const struct ble_adapter_status *a, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();
	char name[16];

	snprintf(name, sizeof(name), "hci%u", a->index);
	add_text(o, "name", name);
	add_text(o, "address", a->address);
	add_bool(o, "used", a->used);
	if (!a->used)
		return o;
	add_text(o, "state", ble_adapter_state_name(a->state));
	if (*a->reason)
		add_text(o, "reason", a->reason);
	add_seconds(o, "since_s", a->since_ms, now_ms);
	add_bool(o, "monitor", a->monitor);
	add_number(o, "adverts", a->adverts);
	add_number(o, "dropped", a->dropped);
	if (a->last_advert_ms != 0)
		add_seconds(o, "last_advert_s", a->last_advert_ms, now_ms);
	if (a->supervisor.on)
		json_object_object_add(o, "supervisor", supervisor_json(&a->supervisor, now_ms));
	return o;
}

static struct json_object *bluetooth_json(const struct ble_status *s, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();
	struct json_object *adapters = json_object_new_array();

	add_text(o, "state", ble_state_name(s->state));
	if (*s->reason)
		add_text(o, "reason", s->reason);
	add_seconds(o, "since_s", s->since_ms, now_ms);
	add_number(o, "generation", s->generation);
	for (unsigned i = 0; i < s->n_adapters; i++)
		json_object_array_add(adapters, adapter_json(&s->adapters[i], now_ms));
	json_object_object_add(o, "adapters", adapters);
	return o;
}

static struct json_object *bytes_json(const uint64_t bytes[TRAFFIC_CLASSES])
{
	struct json_object *o = json_object_new_object();

	for (unsigned i = 0; i < TRAFFIC_CLASSES; i++)
		add_number(o, traffic_class_name(i), bytes[i]);
	return o;
}

static struct json_object *urls_json(const struct urls *urls, uint64_t now_ms)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < urls->n; i++) {
		const struct url *url = &urls->urls[i];
		struct json_object *o = json_object_new_object();

		add_text(o, "url", url->text);
		add_number(o, "failures", url->failures);
		if (url->retry_ms > now_ms)
			add_seconds(o, "retry_in_s", now_ms, url->retry_ms);
		if (*url->error) {
			add_text(o, "error", url->error);
			add_seconds(o, "error_s", url->error_ms, now_ms);
		}
		json_object_array_add(list, o);
	}
	return list;
}

/* Unix time, UTC. */
static void add_date(struct json_object *o, const char *key, int64_t unix_s)
{
	time_t t = (time_t)unix_s;
	char text[32];
	struct tm tm;

	if (unix_s != 0 && gmtime_r(&t, &tm) &&
	    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
		add_text(o, key, text);
}

static struct json_object *uplink_json(const struct uplink_status *s, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "state", uplink_state_name(s->state));
	add_seconds(o, "since_s", s->since_ms, now_ms);
	add_text(o, "url", s->url);
	if (*s->address)
		add_text(o, "address", s->address);
	if (*s->proxy)
		add_text(o, "proxy", s->proxy);
	if (s->retry_ms != 0)
		add_seconds(o, "retry_in_s", now_ms, s->retry_ms);
	if (s->reconnect_ms != 0)
		add_seconds(o, "reconnect_in_s", now_ms, s->reconnect_ms);
	if (*s->error) {
		add_text(o, "error", s->error);
		add_seconds(o, "error_s", s->error_ms, now_ms);
	}
	add_date(o, "certificate_until", s->certificate_end);
	if (*s->hotspot_name)
		add_text(o, "hotspot_name", s->hotspot_name);
	if (s->rtt_us != 0)
		add_number(o, "rtt_us", s->rtt_us);
	add_number(o, "attempts", s->attempts);
	add_number(o, "connects", s->connects);
	add_number(o, "messages_out", s->traffic.messages_out);
	add_number(o, "messages_in", s->traffic.messages_in);
	json_object_object_add(o, "bytes_out", bytes_json(s->traffic.bytes_out));
	json_object_object_add(o, "bytes_in", bytes_json(s->traffic.bytes_in));
	json_object_object_add(o, "urls", urls_json(s->urls, now_ms));
	return o;
}

static struct json_object *configuration_json(const struct agent *agent, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();
	struct reload_status s;

	reload_get_status(agent->reload, &s);
	add_text(o, "file", agent->config_file);
	add_text(o, "state", reload_state_name(s.state));
	if (s.state == RELOAD_NONE)
		return o;
	add_seconds(o, "since_s", s.since_ms, now_ms);
	if (*s.text)
		add_text(o,
			 s.state == RELOAD_REFUSED || s.state == RELOAD_REVERTED ? "error"
										 : "changed",
			 s.text);
	if (*s.restart)
		add_text(o, "needs_restart", s.restart);
	if (s.revert_ms != 0)
		add_seconds(o, "revert_in_s", now_ms, s.revert_ms);
	return o;
}

static struct json_object *budget_json(const struct reporter_budget *budget, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "per_day_bytes", budget->per_day);
	add_number(o, "left_bytes", budget->left);
	if (budget->until_ms != 0)
		add_seconds(o, "waits_s", now_ms, budget->until_ms);
	return o;
}

static struct json_object *sightings_json(const struct agent *agent,
					  const struct devices_counters *d, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();
	struct reporter_counters counters, *r = &counters;
	struct reporter_budget budget;

	reporter_get_counters(agent->reporter, &counters);
	reporter_get_budget(agent->reporter, &budget);

	add_number(o, "devices", d->known);
	add_number(o, "present", d->present);
	add_number(o, "pending", d->dirty);
	add_number(o, "adverts", d->adverts);
	add_number(o, "reported", r->adverts);
	add_number(o, "batches", r->batches);
	add_number(o, "resent", r->resent);
	add_number(o, "resent_sightings", r->resent_sightings);
	if (r->unacknowledged_ms != 0)
		add_seconds(o, "unacknowledged_s", r->unacknowledged_ms, now_ms);
	add_number(o, "kept", d->kept);
	add_number(o, "merged", d->merged);
	add_number(o, "evicted", d->evicted);
	add_number(o, "evicted_adverts", d->evicted_adverts);
	if (budget.per_day > 0)
		json_object_object_add(o, "budget", budget_json(&budget, now_ms));
	return o;
}

static void add_adapter(struct json_object *o, unsigned index)
{
	char name[16];

	snprintf(name, sizeof(name), "hci%u", index);
	add_text(o, "adapter", name);
}

static void add_session(void *userdata, const struct session_status *s)
{
	struct json_object *o = json_object_new_object();

	add_number(o, "session", s->id);
	add_device_url(o, s->device_id);
	add_text(o, "state", session_state_name(s->state));
	add_seconds(o, "since_s", s->since_ms, util_now_ms());
	add_adapter(o, s->adapter);
	add_bool(o, "accepted", s->accepted);
	add_bool(o, "suspended", s->suspended);
	if (s->suspended)
		add_seconds(o, "expires_in_s", util_now_ms(), s->expires_ms);
	add_number(o, "resumed", s->resumed);
	if (s->was_up) {
		add_text(o, "bearer", ble_bearer_name(s->bearer));
		add_number(o, "channels", s->channels);
		add_number(o, "max_frame", s->max_frame);
	}
	add_dbm(o, "rssi_dbm", s->rssi_dbm);
	add_number(o, "frames_up", s->frames_up);
	add_number(o, "frames_down", s->frames_down);
	add_number(o, "bytes_up", s->bytes_up);
	add_number(o, "bytes_down", s->bytes_down);
	/* Until the cloud has said that it has them. */
	add_number(o, "waiting_up", s->waiting_up);
	add_number(o, "waiting_down", s->waiting_down);
	add_bool(o, "held", s->held);
	if (*s->reason)
		add_text(o, "reason", s->reason);
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
	add_device_url(o, asker->device_id);
	add_text(o, "wait",
		 wait == SCHEDULER_CLOSED && queue->up ? "reconnect" : scheduler_wait_name(wait));
	/* In back-off it has not lined up again yet. */
	add_seconds(o, "since_s",
		    wait == SCHEDULER_BACKOFF && device ? device->failed_ms : asker->since_ms,
		    now_ms);
	if (wait == SCHEDULER_BACKOFF)
		add_seconds(o, "retry_in_s", now_ms, asker->retry_ms);
	if (device && device->failures > 0 && device->failure) {
		add_number(o, "failures", device->failures);
		add_text(o, "failure", device->failure);
	}
	add_bool(o, "announces", asker->announces);
	if (on) {
		add_adapter(o, on->adapter);
		add_dbm(o, "rssi_dbm", on->rssi_dbm);
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

static struct json_object *relay_json(const struct agent *agent, const struct ble_status *ble,
				      bool up)
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
	add_number(o, "links", load.links);
	add_number(o, "slots", slots(ble, &scheduler->config));
	add_number(o, "max_links", scheduler->config.max_links);
	add_number(o, "max_links_per_adapter", scheduler->config.max_links_per_adapter);
	add_signed(o, "rssi_floor_dbm", scheduler->config.rssi_floor_dbm);
	add_number(o, "queued", scheduler->n);
	add_number(o, "turned_away", c.turned_away);
	add_number(o, "started", c.started);
	add_number(o, "served", c.served);
	add_number(o, "failed", c.failed);
	add_number(o, "broken", c.broken);
	add_number(o, "resumed", c.resumed);
	add_number(o, "frames_up", c.frames_up);
	add_number(o, "frames_down", c.frames_down);
	add_number(o, "bytes_up", c.bytes_up);
	add_number(o, "bytes_down", c.bytes_down);
	json_object_object_add(o, "sessions", sessions);
	json_object_object_add(o, "queue", queue.array);
	return o;
}

static struct json_object *status_json(const struct agent *agent)
{
	struct json_object *o = json_object_new_object();
	uint64_t now_ms = util_now_ms();
	struct ble_status ble;
	struct uplink_status uplink;
	struct devices_counters devices;
	char summary[SUMMARY_MAX];
	bool working;

	ble_get_status(agent->ble, &ble);
	uplink_get_status(agent->uplink, &uplink);
	devices_get_counters(agent->devices, &devices);
	working = summary_write(agent, &ble, &uplink, &devices, summary, sizeof(summary));
	add_text(o, "summary", summary);
	add_bool(o, "working", working);
	add_text(o, "version", VERSION);
	add_seconds(o, "uptime_s", agent->started_ms, now_ms);
	add_uuid(o, "hotspot_id", agent->identity->hotspot_id);
	json_object_object_add(o, "configuration", configuration_json(agent, now_ms));
	json_object_object_add(o, "bluetooth", bluetooth_json(&ble, now_ms));
	json_object_object_add(o, "uplink", uplink_json(&uplink, now_ms));
	json_object_object_add(o, "sightings", sightings_json(agent, &devices, now_ms));
	json_object_object_add(o, "relay",
			       relay_json(agent, &ble, uplink.state == UPLINK_STATE_UP));
	return o;
}

static void add_device(void *userdata, const struct device *d)
{
	struct json_object *o = json_object_new_object();
	uint64_t now_ms = util_now_ms();

	add_device_url(o, d->advert.device_id);
	add_text(o, "state", device_state_name(d->state));
	add_bool(o, "asks", d->advert.flags & ADVERT_FLAG_ASKS);
	add_bool(o, "announces", d->advert.flags & ADVERT_FLAG_ANNOUNCES);
	add_number(o, "flags", d->advert.flags);
	add_signed(o, "tx_power_dbm", d->advert.tx_power_dbm);
	add_dbm(o, "rssi_dbm", d->rssi.last);
	add_dbm(o, "rssi_min_dbm", d->rssi.min);
	add_dbm(o, "rssi_max_dbm", d->rssi.max);
	add_number(o, "count", d->count);
	add_seconds(o, "first_s", d->first_ms, now_ms);
	add_seconds(o, "last_s", d->last_ms, now_ms);
	add_adapter(o, d->adapter);
	add_bool(o, "connected", d->connected);
	if (d->failure) {
		add_number(o, "failures", d->failures);
		add_text(o, "failure", d->failure);
		add_seconds(o, "failure_s", d->failed_ms, now_ms);
		if (d->retry_ms > now_ms)
			add_seconds(o, "retry_in_s", now_ms, d->retry_ms);
	}
	json_object_array_add(userdata, o);
}

static struct json_object *devices_json(const struct agent *agent)
{
	struct json_object *o = json_object_new_object();
	struct json_object *list = json_object_new_array();

	devices_each(agent->devices, add_device, list);
	json_object_object_add(o, "devices", list);
	return o;
}

static struct json_object *error_json(const char *text)
{
	struct json_object *o = json_object_new_object();

	add_text(o, "error", text);
	return o;
}

char *status_answer(void *userdata, const char *request)
{
	const struct agent *agent = userdata;
	struct json_object *o;
	char *line;

	if (strcmp(request, "status") == 0)
		o = status_json(agent);
	else if (strcmp(request, "devices") == 0)
		o = devices_json(agent);
	else
		o = error_json("unknown request; there are: status, devices");
	line = strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
								JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return line;
}
