/* SPDX-License-Identifier: Apache-2.0 */
/* The status as metrics, in the text format of Prometheus (version 0.0.4). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "agent/ctl_client.h"
#include "agent/ctl_commands.h"
#include "agent/ctl_text.h"
#include "agent/util.h"

#define PREFIX	  "blecon_hotspot_"
#define FILE_MODE 0644 /* for node_exporter, another user */

/* One sample: a field of an object of the status. An absent field is no sample. */
struct sample {
	const char *name;
	const char *type; /* NULL: it belongs to the same metric as the one before */
	const char *help;
	const char *object; /* in the status, members of members with dots; "" for itself */
	const char *key;
	const char *labels; /* without braces, "" for none */
	const char *is; /* 1 where the field is this text, else 0; NULL: the field's own value */
	double scale;
};

#define COUNTER "counter"
#define GAUGE	"gauge"
#define SAME	NULL, NULL

/* clang-format off */
static const struct sample samples[] = {
	{"working", GAUGE, "Whether the hotspot does its job.", "", "working", "", NULL, 1},
	{"uptime_seconds", GAUGE, "Since the daemon's start.", "", "uptime_s", "", NULL, 1},
	{"starts_total", COUNTER, "Starts of the daemon on this hub.", "process", "starts", "", NULL, 1},
	{"resident_memory_bytes", GAUGE, "Memory in use.", "process", "rss_kb", "", NULL, 1024},
	{"clock_set", GAUGE, "Whether the hub's clock was ever set.", "clock", "set", "", NULL, 1},
	{"bluetooth_scanning", GAUGE, "Whether an adapter scans.", "bluetooth", "state", "", "scanning", 1},
	{"uplink_up", GAUGE, "Whether the cloud is connected.", "uplink", "state", "", "up", 1},
	{"uplink_state_seconds", GAUGE, "In the uplink's state.", "uplink", "since_s", "", NULL, 1},
	{"uplink_attempts_total", COUNTER, "Attempts to connect.", "uplink", "attempts", "", NULL, 1},
	{"uplink_connects_total", COUNTER, "Attempts the cloud welcomed.", "uplink", "connects", "", NULL, 1},
	{"uplink_rtt_seconds", GAUGE, "Of the last ping.", "uplink", "rtt_us", "", NULL, 1e-6},
	{"uplink_messages_total", COUNTER, "Messages of the protocol.", "uplink", "messages_out", "direction=\"out\"", NULL, 1},
	{"uplink_messages_total", SAME, "uplink", "messages_in", "direction=\"in\"", NULL, 1},
	{"uplink_bytes_total", COUNTER, "WebSocket frames, by what is in them.", "uplink.bytes_out", "sightings", "direction=\"out\",class=\"sightings\"", NULL, 1},
	{"uplink_bytes_total", SAME, "uplink.bytes_out", "relay", "direction=\"out\",class=\"relay\"", NULL, 1},
	{"uplink_bytes_total", SAME, "uplink.bytes_out", "control", "direction=\"out\",class=\"control\"", NULL, 1},
	{"uplink_bytes_total", SAME, "uplink.bytes_out", "keepalive", "direction=\"out\",class=\"keepalive\"", NULL, 1},
	{"uplink_bytes_total", SAME, "uplink.bytes_in", "sightings", "direction=\"in\",class=\"sightings\"", NULL, 1},
	{"uplink_bytes_total", SAME, "uplink.bytes_in", "relay", "direction=\"in\",class=\"relay\"", NULL, 1},
	{"uplink_bytes_total", SAME, "uplink.bytes_in", "control", "direction=\"in\",class=\"control\"", NULL, 1},
	{"uplink_bytes_total", SAME, "uplink.bytes_in", "keepalive", "direction=\"in\",class=\"keepalive\"", NULL, 1},
	{"devices_known", GAUGE, "Devices remembered.", "sightings", "devices", "", NULL, 1},
	{"devices_present", GAUGE, "Devices heard and not lost.", "sightings", "present", "", NULL, 1},
	{"devices_evicted_total", COUNTER, "Devices forgotten for others (devices.max).", "sightings", "evicted", "", NULL, 1},
	{"sightings_pending", GAUGE, "Devices with something to report.", "sightings", "pending", "", NULL, 1},
	{"sightings_unacknowledged_seconds", GAUGE, "Since the batch that is out was sent.", "sightings", "unacknowledged_s", "", NULL, 1},
	{"adverts_total", COUNTER, "Adverts heard of Blecon devices.", "sightings", "adverts", "", NULL, 1},
	{"adverts_reported_total", COUNTER, "Adverts the cloud has acknowledged.", "sightings", "reported", "", NULL, 1},
	{"adverts_evicted_total", COUNTER, "Adverts of devices forgotten before they were reported.", "sightings", "evicted_adverts", "", NULL, 1},
	{"batches_total", COUNTER, "Batches of sightings acknowledged.", "sightings", "batches", "", NULL, 1},
	{"batches_resent_total", COUNTER, "Batches sent again after a lost connection.", "sightings", "resent", "", NULL, 1},
	{"links", GAUGE, "Devices connected or being connected.", "relay", "links", "", NULL, 1},
	{"slots", GAUGE, "Links there may be at once.", "relay", "slots", "", NULL, 1},
	{"queued", GAUGE, "Devices that ask for a connection.", "relay", "queued", "", NULL, 1},
	{"sessions_started_total", COUNTER, "Device sessions.", "relay", "started", "", NULL, 1},
	{"sessions_total", COUNTER, "Device sessions that ended.", "relay", "served", "result=\"served\"", NULL, 1},
	{"sessions_total", SAME, "relay", "broken", "result=\"broken\"", NULL, 1},
	{"sessions_total", SAME, "relay", "failed", "result=\"failed\"", NULL, 1},
	{"sessions_resumed_total", COUNTER, "Times a session went on over a new uplink.", "relay", "resumed", "", NULL, 1},
	{"frames_total", COUNTER, "Frames of ended sessions.", "relay", "frames_up", "direction=\"up\"", NULL, 1},
	{"frames_total", SAME, "relay", "frames_down", "direction=\"down\"", NULL, 1},
	{"frame_bytes_total", COUNTER, "Bytes in frames of ended sessions.", "relay", "bytes_up", "direction=\"up\"", NULL, 1},
	{"frame_bytes_total", SAME, "relay", "bytes_down", "direction=\"down\"", NULL, 1},
};

/* Of each adapter in use. */
static const struct sample adapter_samples[] = {
	{"adapter_powered", GAUGE, "Whether it is switched on.", "", "powered", "", NULL, 1},
	{"adapter_scanning", GAUGE, "Whether it scans.", "", "state", "", "scanning", 1},
	{"adapter_adverts_total", COUNTER, "Adverts it heard of Blecon devices.", "", "adverts", "", NULL, 1},
	{"adapter_others_total", COUNTER, "Signals it heard of other devices.", "", "others", "", NULL, 1},
	{"adapter_dropped_total", COUNTER, "Adverts that did not decode.", "", "dropped", "", NULL, 1},
	{"adapter_last_advert_seconds", GAUGE, "Since the last advert.", "", "last_advert_s", "", NULL, 1},
	{"adapter_restarts_total", COUNTER, "Scans restarted as nothing was heard.", "supervisor", "restarts", "", NULL, 1},
	{"adapter_power_cycles_total", COUNTER, "Power cycles as nothing was heard.", "supervisor", "power_cycles", "", NULL, 1},
};
/* clang-format on */

/* A member of a member of ...; path: their names with dots, "" for o itself. */
static struct json_object *find(struct json_object *o, const char *path)
{
	char name[32];

	while (*path && o) {
		size_t len = strcspn(path, ".");

		snprintf(name, sizeof(name), "%.*s", (int)len, path);
		o = ctl_get(o, name);
		path += len + (path[len] == '.');
	}
	return o;
}

static void print_sample(FILE *out, const struct sample *s, const char *labels, double value)
{
	fprintf(out, PREFIX "%s%s%s%s %.15g\n", s->name, *labels ? "{" : "", labels,
		*labels ? "}" : "", value);
}

static void print_header(FILE *out, const struct sample *s)
{
	fprintf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", s->name, s->help, s->name,
		s->type);
}

/* Returns whether o has the field. */
static bool print_field(FILE *out, const struct sample *s, struct json_object *o,
			const char *labels, bool with_header)
{
	struct json_object *value = ctl_get(find(o, s->object), s->key);

	if (!value)
		return false;
	if (with_header)
		print_header(out, s);
	if (s->is)
		print_sample(out, s, labels, strcmp(json_object_get_string(value), s->is) == 0);
	else
		print_sample(out, s, labels, json_object_get_double(value) * s->scale);
	return true;
}

static void print_adapters(FILE *out, struct json_object *adapters)
{
	for (size_t i = 0; i < ARRAY_SIZE(adapter_samples); i++) {
		bool headed = false;

		for (size_t j = 0; j < json_object_array_length(adapters); j++) {
			struct json_object *a = json_object_array_get_idx(adapters, j);
			char labels[64];

			snprintf(labels, sizeof(labels), "adapter=\"%s\"", ctl_text(a, "name"));
			if (ctl_truth(a, "used"))
				headed |= print_field(out, &adapter_samples[i], a, labels, !headed);
		}
	}
}

/* Until when the certificate of the cloud is valid. */
static void print_certificate(FILE *out, struct json_object *uplink)
{
	static const struct sample end = {"uplink_certificate_end_timestamp_seconds",
					  GAUGE,
					  "When the cloud's certificate ends, Unix time.",
					  "",
					  "",
					  "",
					  NULL,
					  1};
	struct tm tm = {0};

	if (!strptime(ctl_text(uplink, "certificate_until"), "%Y-%m-%dT%H:%M:%SZ", &tm))
		return;
	print_header(out, &end);
	print_sample(out, &end, "", (double)timegm(&tm));
}

static void print_up(FILE *out, bool up)
{
	static const struct sample sample = {"up", GAUGE, "Whether the daemon answers.", "", "", "",
					     NULL, 1};

	print_header(out, &sample);
	print_sample(out, &sample, "", up);
}

/* Neither text has anything in it that would have to be escaped. */
static void print_info(FILE *out, struct json_object *status)
{
	static const struct sample info = {"info", GAUGE, "Who and what it is.", "", "", "",
					   NULL,   1};
	char labels[160];

	snprintf(labels, sizeof(labels), "hotspot_id=\"%s\",version=\"%s\"",
		 ctl_text(status, "hotspot_id"), ctl_text(status, "version"));
	print_header(out, &info);
	print_sample(out, &info, labels, 1);
}

static void print_status(FILE *out, struct json_object *status)
{
	print_info(out, status);
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++)
		print_field(out, &samples[i], status, samples[i].labels, samples[i].type);
	print_adapters(out, find(status, "bluetooth.adapters"));
	print_certificate(out, ctl_get(status, "uplink"));
}

/* Into a pipe, a device, or what a link leads to. */
static int write_through(const char *path, const char *text, size_t len)
{
	FILE *f = fopen(path, "we");
	bool bad;

	if (!f)
		return -errno;
	bad = fwrite(text, 1, len, f) != len;
	return fclose(f) != 0 || bad ? -errno : 0;
}

/* A file is replaced at once: a collector never sees half of it. */
static int write_out(const char *path, const char *text, size_t len)
{
	struct stat st;
	int r;

	if (!path || strcmp(path, "-") == 0) {
		fwrite(text, 1, len, stdout);
		return 0;
	}
	if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
		r = write_through(path, text, len);
	else
		r = util_replace_file(path, FILE_MODE, text, len);
	if (r < 0)
		fprintf(stderr, "blecon-hotspotctl: %s: %s\n", path, strerror(-r));
	return r;
}

enum exit_code ctl_metrics(const struct ctl *ctl)
{
	_cleanup_free_ char *line = NULL, *text = NULL;
	struct json_object *o = ctl_client_request(ctl, "status", &line);
	bool up = o != NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out) {
		json_object_put(o);
		return EXIT_FAILED;
	}
	if (ctl->json && up) {
		fprintf(out, "%s\n", line);
	} else if (!ctl->json) {
		print_up(out, up);
		if (up)
			print_status(out, o);
	}
	json_object_put(o);
	fclose(out);
	return write_out(ctl->output, text, len) == 0 && up ? EXIT_OK : EXIT_FAILED;
}
