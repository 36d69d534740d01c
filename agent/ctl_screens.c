/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_screens.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <json-c/json.h>

#include "agent/util.h"

/* Of a screen of 24 lines. */
#define SESSIONS_SHOWN 4
#define QUEUE_SHOWN    3

static struct json_object *get(struct json_object *o, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(o, key, &value);
	return value;
}

static bool has(struct json_object *o, const char *key)
{
	return get(o, key) != NULL;
}

static int64_t number(struct json_object *o, const char *key)
{
	return json_object_get_int64(get(o, key));
}

static double seconds(struct json_object *o, const char *key)
{
	return json_object_get_double(get(o, key));
}

static bool truth(struct json_object *o, const char *key)
{
	return json_object_get_boolean(get(o, key));
}

/* Some of it comes from the cloud: a terminal gets nothing it would act on. */
static const char *text(struct json_object *o, const char *key)
{
	struct json_object *value = get(o, key);
	char *s = (char *)json_object_get_string(value);

	if (!s)
		return "";
	for (unsigned char *p = (unsigned char *)s; *p; p++) {
		if (*p < ' ' || *p == 127)
			*p = '?';
	}
	return s;
}

/* "12 s", "5 min", "3 h", "2 d": ret has 24 bytes. */
static const char *duration(double s, char ret[24])
{
	if (s < 100)
		snprintf(ret, 24, "%.*f s", s < 10 ? 1 : 0, s);
	else if (s < 6000)
		snprintf(ret, 24, "%.0f min", s / 60);
	else if (s < 48 * 3600)
		snprintf(ret, 24, "%.0f h", s / 3600);
	else
		snprintf(ret, 24, "%.0f d", s / 86400);
	return ret;
}

static const char *plural(int64_t n)
{
	return n == 1 ? "" : "s";
}

/* Columns of the terminal; without one lines are as long as they are. */
static size_t columns(void)
{
	struct winsize size = {0};

	if (!isatty(STDOUT_FILENO))
		return SIZE_MAX;
	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	return size.ws_col > 40 ? size.ws_col : 80;
}

/* One line, continued where it is too long on lines that are indented. */
static void print_line(int indent, const char *fmt, ...) _printf_(2, 3);

static void print_line(int indent, const char *fmt, ...)
{
	_cleanup_free_ char *line = NULL;
	size_t width = columns(), used = 0;
	char *rest = NULL;
	va_list args;
	int r;

	va_start(args, fmt);
	r = vasprintf(&line, fmt, args);
	va_end(args);
	if (r < 0) {
		line = NULL;
		return;
	}
	rest = line;
	while (strlen(rest) + used > width) {
		size_t n = width - used;

		while (n > 0 && rest[n] != ' ')
			n--;
		if (n == 0)
			n = strcspn(rest, " ");
		printf("%.*s\n", (int)n, rest);
		rest += n + strspn(rest + n, " ");
		used = *rest ? (size_t)printf("%*s", indent, "") : 0;
	}
	puts(rest);
}

#define INDENT 11 /* of what belongs to a line with a heading */

/* What is done about an adapter that hears nothing. */
static void print_supervisor(struct json_object *s)
{
	int64_t restarts = number(s, "restarts"), cycles = number(s, "power_cycles");
	char t[24], u[24];

	if (!s || strcmp(text(s, "step"), "watching") == 0)
		return;
	print_line(INDENT, "%*s%s", INDENT, "", text(s, "cause"));
	duration(seconds(s, "next_in_s"), u);
	print_line(INDENT, "%*s%s %s ago%s%s; %lld restart%s, %lld power cycle%s", INDENT, "",
		   text(s, "step"), duration(seconds(s, "step_s"), t),
		   seconds(s, "next_in_s") > 0 ? ", next step in " : "",
		   seconds(s, "next_in_s") > 0 ? u : "", (long long)restarts, plural(restarts),
		   (long long)cycles, plural(cycles));
}

static void print_adapter(struct json_object *a)
{
	char t[24], u[32] = "";

	if (!truth(a, "used")) {
		printf("  %-8s %s  not used\n", text(a, "name"), text(a, "address"));
		return;
	}
	if (has(a, "last_advert_s"))
		snprintf(u, sizeof(u), ", last %s ago", duration(seconds(a, "last_advert_s"), t));
	print_line(INDENT, "  %-8s %s  %s%s; %lld advert%s%s", text(a, "name"), text(a, "address"),
		   text(a, "state"), truth(a, "monitor") ? " with monitor" : "",
		   (long long)number(a, "adverts"), plural(number(a, "adverts")), u);
	if (has(a, "reason"))
		print_line(INDENT, "%*s%s", INDENT, "", text(a, "reason"));
	print_supervisor(get(a, "supervisor"));
}

static void print_bluetooth(struct json_object *bluetooth)
{
	struct json_object *adapters = get(bluetooth, "adapters");
	size_t n = json_object_array_length(adapters);
	char t[24];

	/* The adapters say for themselves what is wrong with them. */
	print_line(INDENT, "bluetooth  %s for %s%s%s", text(bluetooth, "state"),
		   duration(seconds(bluetooth, "since_s"), t),
		   n == 0 && has(bluetooth, "reason") ? ": " : "",
		   n == 0 ? text(bluetooth, "reason") : "");
	for (size_t i = 0; i < n; i++)
		print_adapter(json_object_array_get_idx(adapters, i));
}

/* The URLs that are not in use, where there is more than one. */
static void print_other_urls(struct json_object *uplink)
{
	struct json_object *urls = get(uplink, "urls");

	for (size_t i = 0; i < json_object_array_length(urls); i++) {
		struct json_object *url = json_object_array_get_idx(urls, i);

		if (strcmp(text(url, "url"), text(uplink, "url")) == 0)
			continue;
		print_line(INDENT, "  other    %s%s%s", text(url, "url"),
			   has(url, "error") ? ": " : "", text(url, "error"));
	}
}

static int64_t sum(struct json_object *bytes)
{
	int64_t n = 0;

	json_object_object_foreach(bytes, class, value)
	{
		(void)class;
		n += json_object_get_int64(value);
	}
	return n;
}

static void print_bytes(const char *heading, struct json_object *bytes)
{
	print_line(INDENT,
		   "%s %lld bytes: %lld sightings, %lld relay, %lld control, %lld keepalive",
		   heading, (long long)sum(bytes), (long long)number(bytes, "sightings"),
		   (long long)number(bytes, "relay"), (long long)number(bytes, "control"),
		   (long long)number(bytes, "keepalive"));
}

static void print_uplink(struct json_object *uplink)
{
	bool up = strcmp(text(uplink, "state"), "up") == 0;
	char t[24];

	printf("uplink     %s for %s", text(uplink, "state"),
	       duration(seconds(uplink, "since_s"), t));
	if (has(uplink, "retry_in_s"))
		printf(", next attempt in %s", duration(seconds(uplink, "retry_in_s"), t));
	if (has(uplink, "reconnect_in_s"))
		printf(", reconnects in %s as the cloud asked",
		       duration(seconds(uplink, "reconnect_in_s"), t));
	putchar('\n');
	if (*text(uplink, "url"))
		print_line(INDENT, "  url      %s%s%s%s", text(uplink, "url"),
			   has(uplink, "address") ? " (" : "", text(uplink, "address"),
			   has(uplink, "address") ? ")" : "");
	if (has(uplink, "proxy"))
		print_line(INDENT, "  proxy    %s", text(uplink, "proxy"));
	print_other_urls(uplink);
	if (has(uplink, "certificate_until"))
		print_line(INDENT, "  tls      certificate until %s",
			   text(uplink, "certificate_until"));
	if (has(uplink, "hotspot_name"))
		print_line(INDENT, "  name     %s", text(uplink, "hotspot_name"));
	if (has(uplink, "rtt_us"))
		printf("  ping     %.1f ms\n", (double)number(uplink, "rtt_us") / 1000);
	if (has(uplink, "error"))
		print_line(INDENT, "  %s %s ago: %s", up ? "was down" : "error   ",
			   duration(seconds(uplink, "error_s"), t), text(uplink, "error"));
	printf("  connects %lld of %lld attempt%s\n", (long long)number(uplink, "connects"),
	       (long long)number(uplink, "attempts"), plural(number(uplink, "attempts")));
	print_bytes("  sent    ", get(uplink, "bytes_out"));
	print_bytes("  received", get(uplink, "bytes_in"));
}

/* Where it is not as it was started. */
static void print_configuration(struct json_object *c)
{
	char t[24], u[24], revert[64] = "";

	if (!has(c, "since_s"))
		return;
	if (has(c, "revert_in_s"))
		snprintf(revert, sizeof(revert), ", given up in %s without the cloud",
			 duration(seconds(c, "revert_in_s"), u));
	print_line(INDENT, "config     %s %s ago%s%s%s", text(c, "state"),
		   duration(seconds(c, "since_s"), t), revert,
		   has(c, "error") || has(c, "changed") ? ": " : "",
		   has(c, "error") ? text(c, "error") : text(c, "changed"));
	if (has(c, "needs_restart"))
		print_line(INDENT, "  restart  needed for %s", text(c, "needs_restart"));
}

/* What sightings may still take, where there is a limit. */
static void print_budget(struct json_object *budget)
{
	char t[24], waits[64] = "";

	if (!budget)
		return;
	if (has(budget, "waits_s"))
		snprintf(waits, sizeof(waits), "; the next report waits %s for it",
			 duration(seconds(budget, "waits_s"), t));
	print_line(INDENT, "  budget   %.1f of %.0f kB in 24 h can go now%s",
		   (double)number(budget, "left_bytes") / 1000,
		   (double)number(budget, "per_day_bytes") / 1000, waits);
}

static void print_sightings(struct json_object *s)
{
	int64_t pending = number(s, "pending");
	char t[24];

	printf("sightings  %lld device%s present, %lld known; %lld adverts heard, %lld reported\n",
	       (long long)number(s, "present"), plural(number(s, "present")),
	       (long long)number(s, "devices"), (long long)number(s, "adverts"),
	       (long long)number(s, "reported"));
	printf("  pending  %lld device%s for the next report", (long long)pending, plural(pending));
	if (has(s, "unacknowledged_s"))
		printf(", one batch not acknowledged for %s",
		       duration(seconds(s, "unacknowledged_s"), t));
	putchar('\n');
	if (number(s, "kept") > 0)
		printf("  kept     %lld over the last restart\n", (long long)number(s, "kept"));
	print_budget(get(s, "budget"));
	if (number(s, "evicted") > 0)
		print_line(INDENT,
			   "  evicted  %lld devices (devices.max), with %lld adverts not reported",
			   (long long)number(s, "evicted"),
			   (long long)number(s, "evicted_adverts"));
}

static void print_session(struct json_object *s)
{
	char t[24], u[24], kept[64] = "";

	if (truth(s, "suspended"))
		snprintf(kept, sizeof(kept), ", kept %s more without an uplink",
			 duration(seconds(s, "expires_in_s"), u));
	printf("  %s\n", text(s, "device_url"));
	print_line(4, "    %s for %s on %s%s%s, frames %lld up %lld down%s%s", text(s, "state"),
		   duration(seconds(s, "since_s"), t), text(s, "adapter"),
		   has(s, "bearer") ? " over " : "", text(s, "bearer"),
		   (long long)number(s, "frames_up"), (long long)number(s, "frames_down"), kept,
		   truth(s, "held") ? ", device held back as the cloud is slow" : "");
	if (has(s, "reason"))
		print_line(4, "    %s", text(s, "reason"));
}

/* How it is heard, and what else keeps it waiting. */
static void print_asker(struct json_object *a, int64_t floor_dbm)
{
	char t[24], hearing[64] = "", weak[64] = "", again[64] = "";

	if (has(a, "rssi_dbm"))
		snprintf(hearing, sizeof(hearing), " %lld dBm", (long long)number(a, "rssi_dbm"));
	if (strcmp(text(a, "wait"), "weak") == 0)
		snprintf(weak, sizeof(weak), ", relay.rssi_floor_dbm is %lld",
			 (long long)floor_dbm);
	if (has(a, "retry_in_s"))
		snprintf(again, sizeof(again), ", failed %lld time%s, again in %s",
			 (long long)number(a, "failures"), plural(number(a, "failures")),
			 duration(seconds(a, "retry_in_s"), t));
	printf("  %s %s for %s\n", text(a, "device_url"), text(a, "wait"),
	       duration(seconds(a, "since_s"), t));
	print_line(4, "    %s%s%s%s%s", text(a, "adapter"), hearing,
		   truth(a, "announces") ? ", announces itself" : "", weak, again);
	if (has(a, "failure"))
		print_line(4, "    %s", text(a, "failure"));
}

static void print_relay(struct json_object *relay)
{
	struct json_object *sessions = get(relay, "sessions"), *queue = get(relay, "queue");
	size_t n_sessions = json_object_array_length(sessions);
	size_t n_queue = json_object_array_length(queue);
	int64_t asking = number(relay, "queued");

	if (number(relay, "max_links") == 0) {
		puts("sessions   none: relay.max_links is 0");
		return;
	}
	print_line(INDENT,
		   "sessions   %lld of %lld links; %lld started: %lld served, %lld broken off, "
		   "%lld failed",
		   (long long)number(relay, "links"), (long long)number(relay, "slots"),
		   (long long)number(relay, "started"), (long long)number(relay, "served"),
		   (long long)number(relay, "broken"), (long long)number(relay, "failed"));
	for (size_t i = 0; i < n_sessions && i < SESSIONS_SHOWN; i++)
		print_session(json_object_array_get_idx(sessions, i));
	if (n_sessions > SESSIONS_SHOWN)
		printf("  and %zu more: --json\n", n_sessions - SESSIONS_SHOWN);
	printf("queue      %lld device%s ask%s\n", (long long)asking, plural(asking),
	       asking == 1 ? "s" : "");
	for (size_t i = 0; i < n_queue && i < QUEUE_SHOWN; i++)
		print_asker(json_object_array_get_idx(queue, i), number(relay, "rssi_floor_dbm"));
	if (asking > QUEUE_SHOWN)
		printf("  and %lld more: --json\n", (long long)asking - QUEUE_SHOWN);
}

void ctl_screens_status(struct json_object *o)
{
	char t[24];

	print_line(2, "%s", text(o, "summary"));
	printf("hotspot    %s, version %s, up %s\n", text(o, "hotspot_id"), text(o, "version"),
	       duration(seconds(o, "uptime_s"), t));
	print_configuration(get(o, "configuration"));
	print_bluetooth(get(o, "bluetooth"));
	print_uplink(get(o, "uplink"));
	print_sightings(get(o, "sightings"));
	print_relay(get(o, "relay"));
}

static int64_t strength(struct json_object *device)
{
	return has(device, "rssi_dbm") ? number(device, "rssi_dbm") : INT8_MIN;
}

static int stronger_first(const void *a, const void *b)
{
	int64_t x = strength(*(struct json_object **)a), y = strength(*(struct json_object **)b);

	return x < y ? 1 : x > y ? -1 : 0;
}

static char presence(struct json_object *device)
{
	if (truth(device, "connected"))
		return 'c';
	return strcmp(text(device, "state"), "lost") == 0 ? 'l' : '-';
}

void ctl_screens_devices(struct json_object *o)
{
	struct json_object *list = get(o, "devices");
	char t[24];

	if (json_object_array_length(list) == 0) {
		puts("No device heard yet.");
		return;
	}
	json_object_array_sort(list, stronger_first);
	/* 78 columns, as a Device URL takes 55 of a terminal's 80. */
	puts("RSSI LAST    COUNT FLG DEVICE");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *d = json_object_array_get_idx(list, i);

		if (has(d, "rssi_dbm"))
			printf("%4lld", (long long)number(d, "rssi_dbm"));
		else
			fputs("   -", stdout);
		printf(" %-6s %6lld %c%c%c %s\n", duration(seconds(d, "last_s"), t),
		       (long long)number(d, "count"), presence(d), truth(d, "asks") ? 'a' : '-',
		       truth(d, "announces") ? 'n' : '-', text(d, "device_url"));
		if (number(d, "failures") > 0)
			print_line(5, "     failed %s ago: %s",
				   duration(seconds(d, "failure_s"), t), text(d, "failure"));
	}
	puts("FLG: l lost, c connected, a asks for a connection, n announces itself");
}

const char *ctl_screens_error(struct json_object *o)
{
	return has(o, "error") ? text(o, "error") : NULL;
}

enum exit_code ctl_screens_code(struct json_object *o)
{
	return has(o, "working") && !truth(o, "working") ? EXIT_NOT_WORKING : EXIT_OK;
}
