/* SPDX-License-Identifier: Apache-2.0 */
/* JSON objects as the status socket gives them (json-c): one function a kind of value. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>

void json_add_text(struct json_object *o, const char *key, const char *value);
void json_add_number(struct json_object *o, const char *key, uint64_t value);
void json_add_signed(struct json_object *o, const char *key, int64_t value);
void json_add_bool(struct json_object *o, const char *key, bool value);
/* Seconds between two monotonic times, to the millisecond. */
void json_add_seconds(struct json_object *o, const char *key, uint64_t from_ms, uint64_t to_ms);
/* Nothing for BLE_RSSI_NONE. */
void json_add_dbm(struct json_object *o, const char *key, int dbm);
void json_add_uuid(struct json_object *o, const char *key, const uint8_t uuid[16]);
/* "device_url" */
void json_add_device_url(struct json_object *o, const uint8_t device_id[16]);
/* "adapter": "hciN" */
void json_add_adapter(struct json_object *o, unsigned index);
/* Unix time, in UTC; nothing for 0. */
void json_add_date(struct json_object *o, const char *key, int64_t unix_s);
/* Milliseconds of Unix time, in UTC. */
void json_add_time(struct json_object *o, const char *key, int64_t unix_ms);
