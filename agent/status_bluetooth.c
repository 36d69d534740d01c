/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_parts.h"

#include <stdio.h>

#include "agent/advice.h"
#include "agent/json.h"

static struct json_object *supervisor_json(const struct ble_supervisor_status *s, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();

	json_add_text(o, "step", ble_supervisor_step_name(s->step));
	if (*s->cause)
		json_add_text(o, "cause", s->cause);
	if (s->step_ms != 0)
		json_add_seconds(o, "step_s", s->step_ms, now_ms);
	if (s->next_ms != 0)
		json_add_seconds(o, "next_in_s", now_ms, s->next_ms);
	json_add_number(o, "restarts", s->restarts);
	json_add_number(o, "power_cycles", s->power_cycles);
	json_add_number(o, "reports", s->reports);
	return o;
}

static void add_tenths(struct json_object *o, const char *key, uint32_t tenths)
{
	char text[16];

	snprintf(text, sizeof(text), "%u.%u", tenths / 10, tenths % 10);
	json_object_object_add(o, key, json_object_new_double_s(tenths / 10.0, text));
}

static struct json_object *adapter_json(const struct ble_adapter_status *a, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();
	char name[16];

	snprintf(name, sizeof(name), "hci%u", a->index);
	json_add_text(o, "name", name);
	json_add_text(o, "address", a->address);
	json_add_bool(o, "used", a->used);
	if (!a->used)
		return o;
	json_add_text(o, "state", ble_adapter_state_name(a->state));
	if (*a->reason)
		json_add_text(o, "reason", a->reason);
	json_add_seconds(o, "since_s", a->since_ms, now_ms);
	json_add_bool(o, "powered", a->powered);
	json_add_bool(o, "discovering", a->discovering);
	json_add_bool(o, "monitor", a->monitor);
	json_add_number(o, "adverts", a->adverts);
	add_tenths(o, "adverts_per_s", a->adverts_per_10s);
	json_add_number(o, "dropped", a->dropped);
	if (a->last_advert_ms != 0)
		json_add_seconds(o, "last_advert_s", a->last_advert_ms, now_ms);
	json_add_number(o, "others", a->others);
	if (a->last_heard_ms != 0)
		json_add_seconds(o, "last_heard_s", a->last_heard_ms, now_ms);
	if (a->supervisor.silence_ms > 0)
		json_object_object_add(o, "supervisor", supervisor_json(&a->supervisor, now_ms));
	return o;
}

struct json_object *status_bluetooth(const struct ble_status *s, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();
	struct json_object *adapters = json_object_new_array();
	char advice[ADVICE_MAX];

	advice_bluetooth(s, advice, sizeof(advice));
	json_add_text(o, "state", ble_state_name(s->state));
	if (*s->reason)
		json_add_text(o, "reason", s->reason);
	if (*advice)
		json_add_text(o, "advice", advice);
	json_add_seconds(o, "since_s", s->since_ms, now_ms);
	json_add_number(o, "generation", s->generation);
	if (*s->version)
		json_add_text(o, "version", s->version);
	for (unsigned i = 0; i < s->n_adapters; i++)
		json_object_array_add(adapters, adapter_json(&s->adapters[i], now_ms));
	json_object_object_add(o, "adapters", adapters);
	return o;
}
