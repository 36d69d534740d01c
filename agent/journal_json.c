/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/journal_json.h"

#include "agent/clock.h"
#include "agent/json.h"
#include "agent/util.h"

static struct json_object *entry_json(const struct journal_entry *entry,
				      const struct kept_clock *now)
{
	struct json_object *o = json_object_new_object();

	json_add_text(o, "event", log_event_name(entry->event));
	json_add_text(o, "level", log_level_name(entry->level));
	json_add_number(o, "count", entry->count);
	json_add_text(o, "text", entry->text);
	if (entry->last.wall_ms >= UTIL_CLOCK_SET_S * UINT64_C(1000))
		json_add_time(o, "time", (int64_t)entry->last.wall_ms);
	json_add_seconds(o, "age_s", 0, kept_elapsed_ms(&entry->last, now));
	if (entry->count > 1)
		json_add_seconds(o, "first_age_s", 0, kept_elapsed_ms(&entry->first, now));
	return o;
}

struct json_object *journal_json(const struct journal *journal)
{
	struct json_object *o = json_object_new_object();
	struct json_object *entries = json_object_new_array();
	struct kept_clock now;

	clock_read(&now);
	for (size_t i = 0; i < journal->n; i++)
		json_object_array_add(entries, entry_json(&journal->entries[i], &now));
	json_object_object_add(o, "journal", entries);
	return o;
}
