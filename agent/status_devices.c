/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_parts.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "agent/agent.h"
#include "agent/json.h"
#include "agent/util.h"

#define BEGIN_LEAST 4 /* letters of a Device ID that may stand for it */

static struct json_object *budget_json(const struct reporter_budget *budget, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();

	json_add_number(o, "per_day_bytes", budget->per_day);
	json_add_number(o, "left_bytes", budget->left);
	if (budget->until_ms != 0)
		json_add_seconds(o, "waits_s", now_ms, budget->until_ms);
	return o;
}

struct json_object *status_sightings(const struct agent *agent, const struct devices_counters *d,
				     uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();
	struct reporter_counters counters, *r = &counters;
	struct reporter_budget budget;

	reporter_get_counters(agent->reporter, &counters);
	reporter_get_budget(agent->reporter, &budget);

	json_add_number(o, "devices", d->known);
	json_add_number(o, "present", d->present);
	json_add_number(o, "pending", d->dirty);
	json_add_number(o, "adverts", d->adverts);
	json_add_number(o, "reported", r->adverts);
	json_add_number(o, "batches", r->batches);
	json_add_number(o, "resent", r->resent);
	json_add_number(o, "resent_sightings", r->resent_sightings);
	if (r->unacknowledged_ms != 0)
		json_add_seconds(o, "unacknowledged_s", r->unacknowledged_ms, now_ms);
	if (r->acknowledged_ms != 0)
		json_add_seconds(o, "acknowledged_s", r->acknowledged_ms, now_ms);
	json_add_number(o, "kept", d->kept);
	json_add_number(o, "merged", d->merged);
	json_add_number(o, "evicted", d->evicted);
	json_add_number(o, "evicted_adverts", d->evicted_adverts);
	if (budget.per_day > 0)
		json_object_object_add(o, "budget", budget_json(&budget, now_ms));
	return o;
}

static struct json_object *device_json(const struct device *d)
{
	struct json_object *o = json_object_new_object();
	uint64_t now_ms = util_now_ms();

	json_add_device_url(o, d->advert.device_id);
	json_add_text(o, "state", device_state_name(d->state));
	json_add_bool(o, "asks", d->advert.flags & ADVERT_FLAG_ASKS);
	json_add_bool(o, "announces", d->advert.flags & ADVERT_FLAG_ANNOUNCES);
	json_add_number(o, "flags", d->advert.flags);
	json_add_signed(o, "tx_power_dbm", d->advert.tx_power_dbm);
	json_add_dbm(o, "rssi_dbm", d->rssi.last);
	json_add_dbm(o, "rssi_min_dbm", d->rssi.min);
	json_add_dbm(o, "rssi_max_dbm", d->rssi.max);
	json_add_number(o, "count", d->count);
	json_add_seconds(o, "first_s", d->first_ms, now_ms);
	json_add_seconds(o, "last_s", d->last_ms, now_ms);
	json_add_adapter(o, d->adapter);
	json_add_bool(o, "connected", d->connected);
	if (d->failure) {
		json_add_number(o, "failures", d->failures);
		json_add_text(o, "failure", d->failure);
		json_add_seconds(o, "failure_s", d->failed_ms, now_ms);
		if (d->retry_ms > now_ms)
			json_add_seconds(o, "retry_in_s", now_ms, d->retry_ms);
	}
	return o;
}

static void add_device(void *userdata, const struct device *d)
{
	json_object_array_add(userdata, device_json(d));
}

struct json_object *status_devices(const struct agent *agent)
{
	struct json_object *o = json_object_new_object();
	struct json_object *list = json_object_new_array();

	devices_each(agent->devices, add_device, list);
	json_object_object_add(o, "devices", list);
	return o;
}

/* A Device ID, or a URL with one as the last part of its path. */
static bool parse_device(const char *text, uint8_t ret[16])
{
	const size_t id_len = UTIL_UUID_TEXT - 1;
	const char *host = strstr(text, "://");
	size_t len = strlen(text);

	if (!host)
		return util_uuid_parse(text, len, ret);
	host += strlen("://");
	if (text[len - 1] == '/')
		len--;
	return len > id_len && text + len - id_len - 1 > host && text[len - id_len - 1] == '/' &&
	       util_uuid_parse(text + len - id_len, id_len, ret);
}

struct search {
	const char *begin; /* of a Device ID */
	unsigned n; /* devices found */
	uint8_t device_id[16]; /* of the last of them */
};

static void compare(void *userdata, const struct device *device)
{
	struct search *search = userdata;
	char id[UTIL_UUID_TEXT];

	util_uuid_text(device->advert.device_id, id);
	if (strncasecmp(id, search->begin, strlen(search->begin)) != 0)
		return;
	search->n++;
	memcpy(search->device_id, device->advert.device_id, sizeof(search->device_id));
}

/* Whether it may be what a Device ID begins with, and is enough of one. */
static bool is_begin(const char *text)
{
	return strlen(text) >= BEGIN_LEAST &&
	       strspn(text, "0123456789abcdefABCDEF-") == strlen(text);
}

/* Returns whether there is one device that it means; else o says why not. */
static bool find_device(const struct agent *agent, const char *text, struct json_object *o,
			uint8_t ret[16])
{
	struct search search = {.begin = text};
	char error[160];

	if (parse_device(text, ret))
		return true;
	if (!is_begin(text)) {
		json_add_text(
			o, "error",
			"expected a Device ID, 4 or more of its first letters, or a Device URL");
		return false;
	}
	devices_each(agent->devices, compare, &search);
	if (search.n == 1) {
		memcpy(ret, search.device_id, sizeof(search.device_id));
		return true;
	}
	if (search.n == 0)
		snprintf(error, sizeof(error), "no device %s was heard", text);
	else
		snprintf(error, sizeof(error), "%u devices begin with %s", search.n, text);
	json_add_text(o, "error", error);
	return false;
}

struct json_object *status_device(const struct agent *agent, const char *text)
{
	struct json_object *o = json_object_new_object();
	char id[UTIL_UUID_TEXT], error[64];
	const struct device *device;
	uint8_t device_id[16];

	if (!find_device(agent, text, o, device_id))
		return o;
	device = devices_find(agent->devices, device_id);
	if (device)
		json_object_object_add(o, "device", device_json(device));
	/* The table may have had to let it go since. */
	if (!status_relay_device(agent, device_id, o) && !device) {
		json_object_object_del(o, "last");
		util_uuid_text(device_id, id);
		snprintf(error, sizeof(error), "no device %s was heard", id);
		json_add_text(o, "error", error);
	}
	return o;
}
