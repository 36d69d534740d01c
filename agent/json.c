/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/json.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/util.h"
#include "ble/ble.h"

#define DEVICE_URL "https://blecon.dev/"

void json_add_text(struct json_object *o, const char *key, const char *value)
{
	json_object_object_add(o, key, json_object_new_string(value));
}

void json_add_number(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_int64((int64_t)value));
}

void json_add_signed(struct json_object *o, const char *key, int64_t value)
{
	json_object_object_add(o, key, json_object_new_int64(value));
}

void json_add_bool(struct json_object *o, const char *key, bool value)
{
	json_object_object_add(o, key, json_object_new_boolean(value));
}

/* Seconds between two monotonic times, to the millisecond. */
void json_add_seconds(struct json_object *o, const char *key, uint64_t from_ms, uint64_t to_ms)
{
	char text[32];
	double s = (double)(to_ms - MIN(from_ms, to_ms)) / 1000;

	snprintf(text, sizeof(text), "%.3f", s);
	json_object_object_add(o, key, json_object_new_double_s(s, text));
}

void json_add_dbm(struct json_object *o, const char *key, int dbm)
{
	if (dbm != BLE_RSSI_NONE)
		json_add_signed(o, key, dbm);
}

void json_add_uuid(struct json_object *o, const char *key, const uint8_t uuid[16])
{
	char text[UTIL_UUID_TEXT];

	util_uuid_text(uuid, text);
	json_add_text(o, key, text);
}

void json_add_device_url(struct json_object *o, const uint8_t device_id[16])
{
	char text[sizeof(DEVICE_URL) + UTIL_UUID_TEXT] = DEVICE_URL;

	util_uuid_text(device_id, text + strlen(DEVICE_URL));
	json_add_text(o, "device_url", text);
}

void json_add_adapter(struct json_object *o, unsigned index)
{
	char name[16];

	snprintf(name, sizeof(name), "hci%u", index);
	json_add_text(o, "adapter", name);
}

/* Unix time, UTC. */
void json_add_date(struct json_object *o, const char *key, int64_t unix_s)
{
	time_t t = (time_t)unix_s;
	char text[32];
	struct tm tm;

	if (unix_s != 0 && gmtime_r(&t, &tm) &&
	    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) > 0)
		json_add_text(o, key, text);
}

void json_add_time(struct json_object *o, const char *key, int64_t unix_ms)
{
	time_t t = (time_t)(unix_ms / 1000);
	char date[32], text[48];
	struct tm tm;

	if (!gmtime_r(&t, &tm) || strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
		return;
	snprintf(text, sizeof(text), "%s.%03uZ", date, (unsigned)(unix_ms % 1000));
	json_add_text(o, key, text);
}
