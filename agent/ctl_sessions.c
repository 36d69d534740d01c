/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/ctl_client.h"
#include "agent/ctl_commands.h"
#include "agent/ctl_screens.h"
#include "agent/ctl_text.h"
#include "agent/util.h"

#define INDENT 8 /* what belongs to a session or an asker */

void ctl_part_session_head(const struct ctl_page *page)
{
	ctl_line(page, INDENT, "%-7s %-10s %-36s %s", "AGE", "STATE", "DEVICE", "ON");
	ctl_line(page, INDENT, "%*s%7s %8s %7s %7s %7s %14s %13s", INDENT, "", "CONNECT",
		 "DISCOVER", "FRAME", "ANSWER", "TOTAL", "FRAMES UP/DOWN", "BYTES UP/DOWN");
}

void ctl_part_session_legend(const struct ctl_page *page)
{
	ctl_line(page, 0,
		 "FRAME (the first), ANSWER (the cloud's first), TOTAL: since the attempt began");
}

static const char *milliseconds(struct json_object *s, const char *key, char ret[CTL_SHORT])
{
	int64_t ms = ctl_number(s, key);

	if (!ctl_has(s, key))
		snprintf(ret, CTL_SHORT, "-");
	else if (ms < 10000)
		snprintf(ret, CTL_SHORT, "%lld ms", (long long)ms);
	else
		ctl_duration((double)ms / 1000, ret);
	return ret;
}

static void print_figures(const struct ctl_page *page, struct json_object *s)
{
	static const struct {
		const char *key;
		int width;
	} times[] = {{"connect_ms", 7},
		     {"discover_ms", 8},
		     {"first_frame_ms", 7},
		     {"first_answer_ms", 7},
		     {"total_ms", 7}};
	char up[CTL_SHORT], down[CTL_SHORT], frames[2 * CTL_SHORT], bytes[2 * CTL_SHORT];
	struct ctl_row row = {0};

	ctl_row_add(&row, "%*s", INDENT, "");
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		ctl_row_add(&row, "%*s ", times[i].width, milliseconds(s, times[i].key, up));
	snprintf(frames, sizeof(frames), "%s/%s", ctl_count(ctl_number(s, "frames_up"), up),
		 ctl_count(ctl_number(s, "frames_down"), down));
	snprintf(bytes, sizeof(bytes), "%s/%s", ctl_count(ctl_number(s, "bytes_up"), up),
		 ctl_count(ctl_number(s, "bytes_down"), down));
	ctl_row_add(&row, "%14s %13s", frames, bytes);
	ctl_row_end(&row, page, INDENT);
}

/* What cannot be expected of every session. */
static void print_remarks(const struct ctl_page *page, struct json_object *s)
{
	bool open = strcmp(ctl_text(s, "state"), "open") == 0;
	int64_t resumed = ctl_number(s, "resumed");
	int64_t up = ctl_number(s, "waiting_up"), down = ctl_number(s, "waiting_down");
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "%*s", INDENT, "");
	if (open && !ctl_truth(s, "accepted"))
		ctl_row_list(&row, "the cloud has not taken it yet");
	if (ctl_truth(s, "suspended"))
		ctl_row_list(&row, "kept %s more without an uplink",
			     ctl_duration(ctl_seconds(s, "expires_in_s"), t));
	if (resumed > 0)
		ctl_row_list(&row, "resumed %lld time%s", (long long)resumed, ctl_plural(resumed));
	if (up > 0 || down > 0)
		ctl_row_list(&row, "bytes that wait: %lld up, %lld down", (long long)up,
			     (long long)down);
	if (ctl_truth(s, "held"))
		ctl_row_list(&row, "device held back as the cloud is slow");
	if (ctl_has(s, "reason") && strcmp(ctl_text(s, "result"), "served") != 0)
		ctl_row_list(&row, "%s", ctl_text(s, "reason"));
	ctl_row_end(&row, page, INDENT);
}

/* The first line of a session or an asker. */
static void print_head(const struct ctl_page *page, struct json_object *o, const char *age,
		       const char *state)
{
	struct ctl_row row = {0};
	char t[CTL_SHORT];

	ctl_row_add(&row, "%-7s %-10s %-36s %s", ctl_duration(ctl_seconds(o, age), t),
		    ctl_text(o, state), ctl_device_id(o), ctl_text(o, "adapter"));
	if (ctl_has(o, "bearer"))
		ctl_row_add(&row, " %s", ctl_text(o, "bearer"));
	if (ctl_has(o, "rssi_dbm"))
		ctl_row_add(&row, " %lld dBm", (long long)ctl_number(o, "rssi_dbm"));
	ctl_row_end(&row, page, INDENT);
}

void ctl_part_session(const struct ctl_page *page, struct json_object *s)
{
	bool ended = ctl_has(s, "result");

	print_head(page, s, ended ? "ended_s" : "since_s", ended ? "result" : "state");
	print_figures(page, s);
	print_remarks(page, s);
}

static const char *explain(const char *wait)
{
	static const struct {
		const char *wait, *words;
	} waits[] = {
		{"ready", "it is next"},
		{"attempt", "its adapter is connecting another device"},
		{"no-slot", "all links, or all of its adapters, are taken"},
		{"hold-off", "a nearer hub may take it"},
		{"silent", "not heard lately: gone, or another hub has it"},
		{"weak", "its signal is too weak"},
		{"no-uplink", "there is no connection to the cloud"},
		{"reconnect", "the cloud has asked the hub to reconnect first"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(waits); i++) {
		if (strcmp(wait, waits[i].wait) == 0)
			return waits[i].words;
	}
	return "";
}

void ctl_part_wait(struct ctl_row *row, struct json_object *a, int64_t floor_dbm, const char *said)
{
	bool weak = strcmp(ctl_text(a, "wait"), "weak") == 0;
	int64_t failures = ctl_number(a, "failures");
	const char *words = explain(ctl_text(a, "wait")), *failure = ctl_text(a, "failure");
	char t[CTL_SHORT];

	if (*words)
		ctl_row_list(row, "%s", words);
	if (weak && floor_dbm != 0)
		ctl_row_list(row, "relay.rssi_floor_dbm is %lld", (long long)floor_dbm);
	if (ctl_truth(a, "announces"))
		ctl_row_list(row, "announces itself");
	if (failures > 0)
		ctl_row_list(row, "failed %lld time%s", (long long)failures, ctl_plural(failures));
	if (ctl_has(a, "retry_in_s"))
		ctl_row_list(row, "again in %s", ctl_duration(ctl_seconds(a, "retry_in_s"), t));
	if (*failure && !ctl_is_said(said, failure))
		ctl_row_add(row, ": %s", failure);
}

static void print_asker(const struct ctl_page *page, struct json_object *a, int64_t floor_dbm)
{
	struct ctl_row row = {0};

	print_head(page, a, "since_s", "wait");
	ctl_row_add(&row, "%*s", INDENT, "");
	ctl_part_wait(&row, a, floor_dbm, NULL);
	ctl_row_end(&row, page, INDENT);
}

static void print_relay(const struct ctl_page *page, struct json_object *relay)
{
	struct ctl_row row = {0};

	if (!relay)
		return;
	ctl_row_add(&row, "sessions   %lld of %lld links", (long long)ctl_number(relay, "links"),
		    (long long)ctl_number(relay, "slots"));
	ctl_row_add(&row, "; %lld started: %lld served, %lld broken off, %lld failed",
		    (long long)ctl_number(relay, "started"), (long long)ctl_number(relay, "served"),
		    (long long)ctl_number(relay, "broken"), (long long)ctl_number(relay, "failed"));
	if (ctl_number(relay, "resumed") > 0)
		ctl_row_add(&row, "; %lld resumed", (long long)ctl_number(relay, "resumed"));
	ctl_row_end(&row, page, CTL_INDENT);
	ctl_line(page, CTL_INDENT, "  carried  %lld frames up, %lld down; %lld bytes up, %lld down",
		 (long long)ctl_number(relay, "frames_up"),
		 (long long)ctl_number(relay, "frames_down"),
		 (long long)ctl_number(relay, "bytes_up"),
		 (long long)ctl_number(relay, "bytes_down"));
}

static void print_queue(const struct ctl_page *page, struct json_object *relay)
{
	struct json_object *queue = ctl_get(relay, "queue");
	int64_t asking = ctl_number(relay, "queued"), turned = ctl_number(relay, "turned_away");
	size_t shown = ctl_length(queue);
	struct ctl_row row = {0};

	if (!relay)
		return;
	ctl_row_add(&row, "queue      %lld device%s ask%s", (long long)asking, ctl_plural(asking),
		    asking == 1 ? "s" : "");
	if (turned > 0)
		ctl_row_add(&row, "; %lld adverts of others, as it was full", (long long)turned);
	ctl_row_end(&row, page, CTL_INDENT);
	for (size_t i = 0; i < shown; i++)
		print_asker(page, ctl_item(queue, i), ctl_number(relay, "rssi_floor_dbm"));
	if (asking > (int64_t)shown)
		ctl_line(page, INDENT, "%*sand %lld more", INDENT, "",
			 (long long)asking - (int64_t)shown);
}

void ctl_screen_sessions(const struct ctl_page *page, struct json_object *o)
{
	struct json_object *relay = ctl_get(o, "relay");
	struct json_object *sessions = ctl_get(o, "sessions"), *last = ctl_get(o, "last");

	if (relay && ctl_number(relay, "max_links") == 0) {
		ctl_line(page, CTL_INDENT, "sessions   none: relay.max_links is 0");
		relay = NULL;
	}
	print_relay(page, relay);
	if (ctl_length(sessions) + ctl_length(last) > 0)
		ctl_part_session_head(page);
	for (size_t i = 0; i < ctl_length(sessions); i++)
		ctl_part_session(page, ctl_item(sessions, i));
	print_queue(page, relay);
	if (ctl_length(last) > 0)
		ctl_line(page, CTL_INDENT, "ended      the last %zu, newest first",
			 ctl_length(last));
	for (size_t i = 0; i < ctl_length(last); i++)
		ctl_part_session(page, ctl_item(last, i));
	if (ctl_length(sessions) + ctl_length(last) > 0)
		ctl_part_session_legend(page);
}

enum exit_code ctl_sessions(const struct ctl *ctl)
{
	struct json_object *o, *status;
	struct ctl_page page;
	bool good;

	if (ctl->json)
		return ctl_show(ctl, "sessions", ctl_screen_sessions);
	o = ctl_client_request(ctl, "sessions", NULL);
	status = o ? ctl_client_request(ctl, "status", NULL) : NULL;
	good = status != NULL;
	if (good) {
		json_object_object_add(o, "relay", json_object_get(ctl_get(status, "relay")));
		ctl_page_init(&page, stdout);
		ctl_screen_sessions(&page, o);
	}
	json_object_put(o);
	json_object_put(status);
	return good ? EXIT_OK : EXIT_FAILED;
}
