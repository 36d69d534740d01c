/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of what the status socket answers. Every value that a screen, a metric or a report shows
 * comes from here. The caller owns what is returned. now_ms: monotonic. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>

#include "ble/ble.h"
#include "uplink/uplink.h"

struct advice_uplink_facts;
struct agent;
struct devices_counters;

struct json_object *status_bluetooth(const struct ble_status *s, uint64_t now_ms);
struct json_object *status_uplink(const struct advice_uplink_facts *facts, uint64_t now_ms);
struct json_object *status_sightings(const struct agent *agent, const struct devices_counters *d,
				     uint64_t now_ms);
struct json_object *status_devices(const struct agent *agent);
/* One of them, with what the relay has of it. text: its Device ID or Device URL. */
struct json_object *status_device(const struct agent *agent, const char *text);
struct json_object *status_journal(const struct agent *agent);
struct json_object *status_log(const struct agent *agent);
/* Sets the log's level where one is named. level: "" for none. */
struct json_object *status_log_level(const struct agent *agent, const char *level);
/* Adds to o how often the agent started, and how it ended before. */
void status_add_starts(const struct agent *agent, struct json_object *o);
/* up: the uplink is. */
struct json_object *status_relay(const struct agent *agent, const struct ble_status *ble, bool up);
struct json_object *status_sessions(const struct agent *agent);
/* Adds to o what the relay has of one device: "session", "queue", "last". Returns whether it has
 * anything. */
bool status_relay_device(const struct agent *agent, const uint8_t device_id[16],
			 struct json_object *o);
