/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_parts.h"

#include "agent/advice.h"
#include "agent/json.h"

static struct json_object *bytes_json(const uint64_t bytes[TRAFFIC_CLASSES])
{
	struct json_object *o = json_object_new_object();

	for (unsigned i = 0; i < TRAFFIC_CLASSES; i++)
		json_add_number(o, traffic_class_name(i), bytes[i]);
	return o;
}

static struct json_object *urls_json(const struct urls *urls, uint64_t now_ms)
{
	struct json_object *list = json_object_new_array();

	for (size_t i = 0; i < urls->n; i++) {
		const struct url *url = &urls->urls[i];
		struct json_object *o = json_object_new_object();

		json_add_text(o, "url", url->text);
		json_add_number(o, "failures", url->failures);
		if (url->retry_ms > now_ms)
			json_add_seconds(o, "retry_in_s", now_ms, url->retry_ms);
		if (*url->error) {
			json_add_text(o, "error", url->error);
			json_add_text(o, "failed_at", failure_at_name(url->failure.at));
			json_add_seconds(o, "error_s", url->error_ms, now_ms);
		}
		json_object_array_add(list, o);
	}
	return list;
}

struct json_object *status_uplink(const struct advice_uplink_facts *facts, uint64_t now_ms)
{
	struct json_object *o = json_object_new_object();
	const struct uplink_status *s = facts->uplink;
	char advice[ADVICE_MAX];

	json_add_text(o, "state", uplink_state_name(s->state));
	json_add_seconds(o, "since_s", s->since_ms, now_ms);
	json_add_text(o, "url", s->url);
	if (*s->address)
		json_add_text(o, "address", s->address);
	if (*s->proxy)
		json_add_text(o, "proxy", s->proxy);
	if (s->retry_ms != 0)
		json_add_seconds(o, "retry_in_s", now_ms, s->retry_ms);
	if (s->reconnect_ms != 0)
		json_add_seconds(o, "reconnect_in_s", now_ms, s->reconnect_ms);
	if (*s->error) {
		json_add_text(o, "error", s->error);
		json_add_text(o, "failed_at", failure_at_name(s->failure.at));
		json_add_seconds(o, "error_s", s->error_ms, now_ms);
	}
	advice_uplink(facts, advice, sizeof(advice));
	if (*advice)
		json_add_text(o, "advice", advice);
	json_add_date(o, "certificate_until", s->certificate_end);
	json_add_date(o, "own_certificate_until", facts->own_certificate_end);
	if (*s->hotspot_name)
		json_add_text(o, "hotspot_name", s->hotspot_name);
	if (s->rtt_us != 0)
		json_add_number(o, "rtt_us", s->rtt_us);
	json_add_number(o, "attempts", s->attempts);
	json_add_number(o, "connects", s->connects);
	json_add_number(o, "messages_out", s->traffic.messages_out);
	json_add_number(o, "messages_in", s->traffic.messages_in);
	json_object_object_add(o, "bytes_out", bytes_json(s->traffic.bytes_out));
	json_object_object_add(o, "bytes_in", bytes_json(s->traffic.bytes_in));
	json_object_object_add(o, "urls", urls_json(s->urls, now_ms));
	return o;
}
