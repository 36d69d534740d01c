/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_watch_screen.h"

#include <stdarg.h>
#include <string.h>

#include "agent/ctl_screens.h"
#include "agent/ctl_text.h"
#include "agent/util.h"

#define SUMMARY_ROWS 4
/* dBm of an empty and of a full bar: as far as a device can be, and right beside the hub. */
#define BAR_LEAST -100
#define BAR_MOST  -30
#define BAR_MAX	  40 /* columns */

enum { UP, DOWN };

/* What is being printed: lines, as long as there are rows for them. */
struct sheet {
	FILE *out;
	size_t columns, rows;
};

static void _printf_(2, 3) put(struct sheet *sheet, const char *fmt, ...)
{
	va_list args;

	if (sheet->rows == 0)
		return;
	va_start(args, fmt);
	vfprintf(sheet->out, fmt, args);
	va_end(args);
	fputc('\n', sheet->out);
	sheet->rows--;
}

/* Wrapped, and no more than so many rows of it. */
static void put_wrapped(struct sheet *sheet, size_t most, const char *text)
{
	_cleanup_free_ char *lines = NULL;
	size_t len;
	FILE *out = open_memstream(&lines, &len);
	struct ctl_page page = {.out = out, .columns = sheet->columns};

	if (!out)
		return;
	ctl_line(&page, 2, "%s", text);
	fclose(out);
	for (char *line = lines; *line && most > 0; most--) {
		len = strcspn(line, "\n");
		put(sheet, "%.*s", (int)len, line);
		line += len + (line[len] == '\n');
	}
}

/* "120 B/s", "1.2 kB/s" */
static const char *rate(double per_s, char ret[CTL_SHORT])
{
	if (per_s < 1000)
		snprintf(ret, CTL_SHORT, "%.0f B/s", per_s);
	else
		snprintf(ret, CTL_SHORT, "%.1f kB/s", per_s / 1000);
	return ret;
}

static void put_hub(struct sheet *sheet, struct json_object *status)
{
	const char *time = ctl_text(ctl_get(status, "clock"), "time");
	char t[CTL_SHORT];

	put(sheet, "hub    %.8s up %s, %.1f MB, %.8s UTC", ctl_text(status, "hotspot_id"),
	    ctl_duration(ctl_seconds(status, "uptime_s"), t),
	    (double)ctl_number(ctl_get(status, "process"), "rss_kb") / 1024,
	    strlen(time) > 11 ? time + 11 : time);
}

static void put_adapters(struct sheet *sheet, struct json_object *adapters)
{
	char t[CTL_SHORT];

	for (size_t i = 0; i < ctl_length(adapters); i++) {
		struct json_object *a = ctl_item(adapters, i);

		if (!ctl_truth(a, "used"))
			continue;
		put(sheet, "%-6s %s %s, %.1f adverts/s%s%s", ctl_text(a, "name"),
		    ctl_text(a, "address"), ctl_text(a, "state"), ctl_seconds(a, "adverts_per_s"),
		    ctl_has(a, "last_advert_s") ? ", last " : "",
		    ctl_has(a, "last_advert_s") ? ctl_ago(ctl_seconds(a, "last_advert_s"), t) : "");
	}
}

static void put_cloud(struct sheet *sheet, const struct ctl_watch_screen *screen)
{
	struct json_object *uplink = ctl_get(screen->status, "uplink");
	char t[CTL_SHORT], up[CTL_SHORT], down[CTL_SHORT], ping[CTL_SHORT] = "";

	if (ctl_has(uplink, "rtt_us") && strcmp(ctl_text(uplink, "state"), "up") == 0)
		snprintf(ping, sizeof(ping), ", ping %.1f ms",
			 (double)ctl_number(uplink, "rtt_us") / 1000);
	put(sheet, "cloud  %s for %s%s; %s out, %s in; %lld to report", ctl_text(uplink, "state"),
	    ctl_duration(ctl_seconds(uplink, "since_s"), t), ping, rate(screen->cloud_rate[UP], up),
	    rate(screen->cloud_rate[DOWN], down),
	    (long long)ctl_number(ctl_get(screen->status, "sightings"), "pending"));
}

static void put_sessions(struct sheet *sheet, const struct ctl_watch_screen *screen)
{
	struct json_object *relay = ctl_get(screen->status, "relay");
	struct json_object *sessions = ctl_get(relay, "sessions");
	size_t n = ctl_length(sessions), shown = MIN(n, sheet->rows / 3);
	char t[CTL_SHORT], up[CTL_SHORT], down[CTL_SHORT];

	put(sheet, "links  %lld of %lld, %lld wait; %s up, %s down; %lld served, %lld failed",
	    (long long)ctl_number(relay, "links"), (long long)ctl_number(relay, "slots"),
	    (long long)ctl_number(relay, "queued"), rate(screen->radio_rate[UP], up),
	    rate(screen->radio_rate[DOWN], down), (long long)ctl_number(relay, "served"),
	    (long long)(ctl_number(relay, "failed") + ctl_number(relay, "broken")));
	for (size_t i = 0; i < shown; i++) {
		struct json_object *s = ctl_item(sessions, i);

		put(sheet, "       %.8s %s for %s on %s%s%s, %lld frames up, %lld down",
		    ctl_device_id(s), ctl_text(s, "state"),
		    ctl_duration(ctl_seconds(s, "since_s"), t), ctl_text(s, "adapter"),
		    ctl_has(s, "bearer") ? " " : "", ctl_text(s, "bearer"),
		    (long long)ctl_number(s, "frames_up"), (long long)ctl_number(s, "frames_down"));
	}
	if (shown < n && shown > 0)
		put(sheet, "       and %zu more", n - shown);
}

static void fill_bar(struct json_object *device, size_t width, char ret[BAR_MAX + 1])
{
	int64_t rssi = ctl_has(device, "rssi_dbm") ? ctl_number(device, "rssi_dbm") : BAR_LEAST;
	int64_t above = CLAMP(rssi, BAR_LEAST, BAR_MOST) - BAR_LEAST;
	size_t full = (size_t)above * width / (BAR_MOST - BAR_LEAST);

	memset(ret, ' ', width);
	memset(ret, '#', full);
	ret[width] = '\0';
}

static void put_device(struct sheet *sheet, struct json_object *d, size_t bar_width, bool with_url)
{
	char t[CTL_SHORT], count[CTL_SHORT], bar[BAR_MAX + 1], rssi[CTL_SHORT] = "-";

	fill_bar(d, bar_width, bar);
	if (ctl_has(d, "rssi_dbm"))
		snprintf(rssi, sizeof(rssi), "%lld", (long long)ctl_number(d, "rssi_dbm"));
	put(sheet, "%4s %s %-7s %5s %c%c%c %s", rssi, bar,
	    ctl_duration(ctl_seconds(d, "last_s"), t), ctl_count(ctl_number(d, "count"), count),
	    ctl_truth(d, "connected")			? 'c'
	    : strcmp(ctl_text(d, "state"), "lost") == 0 ? 'l'
							: '-',
	    ctl_truth(d, "asks") ? 'a' : '-', ctl_truth(d, "announces") ? 'n' : '-',
	    with_url ? ctl_text(d, "device_url") : ctl_device_id(d));
}

#define WITHOUT_BAR 60 /* columns of a device with its Device ID */
#define URL_MORE    19 /* columns of the rest of its Device URL */

static void put_devices(struct sheet *sheet, struct json_object *devices)
{
	bool with_url = sheet->columns >= WITHOUT_BAR + URL_MORE + BAR_MAX / 2;
	size_t fixed = WITHOUT_BAR + (with_url ? URL_MORE : 0), n = ctl_length(devices);
	size_t bar = sheet->columns > fixed ? MIN(sheet->columns - fixed, (size_t)BAR_MAX) : 0;

	if (n == 0) {
		put(sheet, "No device heard yet.");
		return;
	}
	put(sheet, "RSSI %-*s LAST    COUNT FLG DEVICE", (int)bar, "");
	for (size_t i = 0; i < n; i++) {
		/* The last row is theirs that have none. */
		if (sheet->rows == 1 && i + 1 < n)
			put(sheet, "     and %zu more", n - i);
		else
			put_device(sheet, ctl_item(devices, i), bar, with_url);
	}
}

static const char *const sort_names[] = {
	[CTL_SORT_RSSI] = "rssi", [CTL_SORT_SEEN] = "last seen", [CTL_SORT_ID] = "id"};

/* On the last row, whatever comes before it. */
static void put_foot(const struct ctl_watch_screen *screen, struct sheet *sheet)
{
	while (sheet->rows > 1)
		put(sheet, "%s", "");
	put(sheet, "q leaves, s sorts (by %s)  l lost, c connected, a asks, n announces itself",
	    sort_names[screen->sort]);
}

void ctl_watch_screen_print(const struct ctl_watch_screen *screen, FILE *out, size_t columns,
			    size_t rows)
{
	struct sheet sheet = {.out = out, .columns = columns, .rows = rows - 1};

	if (*screen->error)
		put_wrapped(&sheet, SUMMARY_ROWS, screen->error);
	else
		put_wrapped(&sheet, SUMMARY_ROWS, ctl_text(screen->status, "summary"));
	/* What was before is not what is. */
	if (screen->status && !*screen->error) {
		put_hub(&sheet, screen->status);
		put_adapters(&sheet, ctl_get(ctl_get(screen->status, "bluetooth"), "adapters"));
		put_cloud(&sheet, screen);
		put_sessions(&sheet, screen);
		ctl_sort_devices(screen->devices, screen->sort);
		put_devices(&sheet, ctl_get(screen->devices, "devices"));
	}
	sheet.rows++;
	put_foot(screen, &sheet);
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

/* Of sessions that ended, and of those that go on. */
static int64_t radio_bytes(struct json_object *relay, const char *key)
{
	struct json_object *sessions = ctl_get(relay, "sessions");
	int64_t n = ctl_number(relay, key);

	for (size_t i = 0; i < ctl_length(sessions); i++)
		n += ctl_number(ctl_item(sessions, i), key);
	return n;
}

static void take_bytes(int64_t *bytes, double *per_s, int64_t now, uint64_t elapsed_ms)
{
	*per_s = elapsed_ms > 0 && now >= *bytes
			 ? (double)(now - *bytes) * 1000 / (double)elapsed_ms
			 : 0;
	*bytes = now;
}

void ctl_watch_screen_take(struct ctl_watch_screen *screen, struct json_object *status,
			   struct json_object *devices, uint64_t now_ms)
{
	struct json_object *uplink = ctl_get(status, "uplink"), *relay = ctl_get(status, "relay");
	uint64_t elapsed_ms = screen->status && !*screen->error ? now_ms - screen->taken_ms : 0;

	take_bytes(&screen->radio_bytes[UP], &screen->radio_rate[UP],
		   radio_bytes(relay, "bytes_up"), elapsed_ms);
	take_bytes(&screen->radio_bytes[DOWN], &screen->radio_rate[DOWN],
		   radio_bytes(relay, "bytes_down"), elapsed_ms);
	take_bytes(&screen->cloud_bytes[UP], &screen->cloud_rate[UP],
		   sum(ctl_get(uplink, "bytes_out")), elapsed_ms);
	take_bytes(&screen->cloud_bytes[DOWN], &screen->cloud_rate[DOWN],
		   sum(ctl_get(uplink, "bytes_in")), elapsed_ms);
	ctl_watch_screen_done(screen);
	screen->status = status;
	screen->devices = devices;
	screen->taken_ms = now_ms;
	screen->error[0] = '\0';
}

void ctl_watch_screen_done(struct ctl_watch_screen *screen)
{
	json_object_put(screen->status);
	json_object_put(screen->devices);
	screen->status = screen->devices = NULL;
}
