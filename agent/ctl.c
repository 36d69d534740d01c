/* SPDX-License-Identifier: Apache-2.0 */
/* blecon-hotspotctl: asks the daemon's status socket, and prints the answer for people. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <json-c/json.h>

#include "agent/util.h"

#define DEFAULT_SOCKET "/run/blecon-hotspot/status.sock"
#define TIMEOUT_S      5
#define ANSWER_MAX     (64u << 20)
#define QUEUE_SHOWN    5 /* devices that ask, of a screen of 24 lines */

enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* no answer */
	EXIT_USAGE = 2,
	EXIT_NOT_WORKING = 3, /* status: the daemon answers, and says it does not work */
};

static const char usage[] =
	"Usage: blecon-hotspotctl [OPTION]... COMMAND\n"
	"Asks the running blecon-hotspotd.\n"
	"\n"
	"  status    whether it works, and if not why\n"
	"  devices   the devices heard, strongest first\n"
	"\n"
	"  -s, --socket PATH  the daemon's status socket (default " DEFAULT_SOCKET ")\n"
	"      --json         the answer as the daemon gives it, one line\n"
	"      --version      print the version, and end\n"
	"  -h, --help         print this, and end\n"
	"\n"
	"Exit codes: 0 good, 1 no answer, 2 bad usage, 3 (status) answered, but not working.\n";

/* Connects, or says why not. Returns an fd or -1. */
static int connect_to(const char *path)
{
	const struct timeval timeout = {.tv_sec = TIMEOUT_S};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(address.sun_path)) {
		fprintf(stderr, "blecon-hotspotctl: %s: the path is too long\n", path);
		return -1;
	}
	strcpy(address.sun_path, path);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		const char *hint = "";

		if (errno == ENOENT || errno == ECONNREFUSED)
			hint = ": is blecon-hotspotd running?";
		else if (errno == EACCES)
			hint = ": you must be root or in the socket's group";
		fprintf(stderr, "blecon-hotspotctl: %s: %s%s\n", path, strerror(errno), hint);
		return -1;
	}
	return TAKE_FD(fd);
}

/* Returns the answer without its newline, to be freed, or NULL after saying why not. */
static char *ask(const char *path, const char *command)
{
	_cleanup_close_ int fd = connect_to(path);
	_cleanup_free_ char *answer = NULL;
	size_t len = 0, size = 0;

	if (fd < 0)
		return NULL;
	if (dprintf(fd, "%s\n", command) < 0) {
		fprintf(stderr, "blecon-hotspotctl: %s: %s\n", path, strerror(errno));
		return NULL;
	}
	while (len == 0 || answer[len - 1] != '\n') {
		ssize_t n;

		if (len == size) {
			char *larger = size < ANSWER_MAX ? realloc(answer, size * 2 + 4096) : NULL;

			if (!larger) {
				fputs("blecon-hotspotctl: the answer is too long\n", stderr);
				return NULL;
			}
			answer = larger;
			size = size * 2 + 4096;
		}
		n = read(fd, answer + len, size - len);
		if (n <= 0) {
			fprintf(stderr, "blecon-hotspotctl: %s: no whole answer: %s\n", path,
				n == 0		  ? "the daemon closed"
				: errno == EAGAIN ? "the daemon hangs"
						  : strerror(errno));
			return NULL;
		}
		len += (size_t)n;
	}
	answer[len - 1] = '\0';
	return TAKE_PTR(answer);
}

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

/* What is done about an adapter that hears nothing. */
static void print_supervisor(struct json_object *s)
{
	char t[24];

	if (!s || strcmp(text(s, "step"), "watching") == 0)
		return;
	printf("           %s\n", text(s, "cause"));
	printf("           %s %s ago", text(s, "step"), duration(seconds(s, "step_s"), t));
	if (seconds(s, "next_in_s") > 0)
		printf(", next in %s", duration(seconds(s, "next_in_s"), t));
	printf("; %lld restarts, %lld power cycles\n", (long long)number(s, "restarts"),
	       (long long)number(s, "power_cycles"));
}

static void print_bluetooth(struct json_object *bluetooth)
{
	struct json_object *adapters = get(bluetooth, "adapters");
	char t[24];

	printf("bluetooth  %s for %s", text(bluetooth, "state"),
	       duration(seconds(bluetooth, "since_s"), t));
	if (has(bluetooth, "reason"))
		printf(": %s", text(bluetooth, "reason"));
	putchar('\n');
	for (size_t i = 0; i < json_object_array_length(adapters); i++) {
		struct json_object *a = json_object_array_get_idx(adapters, i);

		printf("  %-8s %s  ", text(a, "name"), text(a, "address"));
		if (!truth(a, "used")) {
			puts("not used");
			continue;
		}
		printf("%s%s%s%s; %lld adverts", text(a, "state"),
		       truth(a, "monitor") ? " with monitor" : "", has(a, "reason") ? ": " : "",
		       text(a, "reason"), (long long)number(a, "adverts"));
		if (has(a, "last_advert_s"))
			printf(", last %s ago", duration(seconds(a, "last_advert_s"), t));
		putchar('\n');
		print_supervisor(get(a, "supervisor"));
	}
}

static void print_uplink(struct json_object *uplink)
{
	char t[24];

	printf("uplink     %s for %s", text(uplink, "state"),
	       duration(seconds(uplink, "since_s"), t));
	if (has(uplink, "retry_in_s"))
		printf(", next attempt in %s", duration(seconds(uplink, "retry_in_s"), t));
	putchar('\n');
	if (*text(uplink, "url"))
		printf("  url      %s%s%s%s\n", text(uplink, "url"),
		       has(uplink, "address") ? " (" : "", text(uplink, "address"),
		       has(uplink, "address") ? ")" : "");
	if (has(uplink, "hotspot_name"))
		printf("  name     %s\n", text(uplink, "hotspot_name"));
	if (has(uplink, "rtt_us"))
		printf("  ping     %.1f ms\n", (double)number(uplink, "rtt_us") / 1000);
	if (has(uplink, "error"))
		printf("  error    %s ago: %s\n", duration(seconds(uplink, "error_s"), t),
		       text(uplink, "error"));
	printf("  connects %lld of %lld attempts\n", (long long)number(uplink, "connects"),
	       (long long)number(uplink, "attempts"));
}

static void print_sightings(struct json_object *s)
{
	char t[24];

	printf("sightings  %lld devices present, %lld known; %lld adverts heard, %lld reported\n",
	       (long long)number(s, "present"), (long long)number(s, "devices"),
	       (long long)number(s, "adverts"), (long long)number(s, "reported"));
	printf("  pending  %lld devices wait for the next report", (long long)number(s, "pending"));
	if (has(s, "unacknowledged_s"))
		printf(", one batch not acknowledged for %s",
		       duration(seconds(s, "unacknowledged_s"), t));
	putchar('\n');
	if (number(s, "evicted") > 0)
		printf("  evicted  %lld devices (devices.max), with %lld adverts not reported\n",
		       (long long)number(s, "evicted"), (long long)number(s, "evicted_adverts"));
}

static void print_session(struct json_object *s)
{
	char t[24];

	printf("  %s\n", text(s, "device_url"));
	printf("    %s for %s on %s%s%s, frames %lld up %lld down%s%s\n", text(s, "state"),
	       duration(seconds(s, "since_s"), t), text(s, "adapter"),
	       has(s, "bearer") ? " over " : "", text(s, "bearer"),
	       (long long)number(s, "frames_up"), (long long)number(s, "frames_down"),
	       truth(s, "suspended") ? ", waits for the uplink" : "",
	       truth(s, "held") ? ", held back" : "");
	if (has(s, "reason"))
		printf("    %s\n", text(s, "reason"));
}

static void print_asker(struct json_object *a)
{
	char t[24];

	printf("  %s %s for %s\n", text(a, "device_url"), text(a, "wait"),
	       duration(seconds(a, "since_s"), t));
	if (has(a, "retry_in_s"))
		printf("    again in %s", duration(seconds(a, "retry_in_s"), t));
	if (has(a, "failure"))
		printf("%s%s", has(a, "retry_in_s") ? "; " : "    ", text(a, "failure"));
	if (has(a, "retry_in_s") || has(a, "failure"))
		putchar('\n');
}

static void print_relay(struct json_object *relay)
{
	struct json_object *sessions = get(relay, "sessions"), *queue = get(relay, "queue");
	size_t shown = json_object_array_length(queue);

	if (shown > QUEUE_SHOWN)
		shown = QUEUE_SHOWN;
	printf("sessions   %lld links of at most %lld; %lld started, %lld served, %lld failed\n",
	       (long long)number(relay, "links"), (long long)number(relay, "max_links"),
	       (long long)number(relay, "started"), (long long)number(relay, "served"),
	       (long long)number(relay, "failed"));
	for (size_t i = 0; i < json_object_array_length(sessions); i++)
		print_session(json_object_array_get_idx(sessions, i));
	printf("queue      %lld devices ask\n", (long long)number(relay, "queued"));
	for (size_t i = 0; i < shown; i++)
		print_asker(json_object_array_get_idx(queue, i));
	if ((size_t)number(relay, "queued") > shown)
		printf("  and %lld more\n", (long long)number(relay, "queued") - (long long)shown);
}

static int print_status(struct json_object *o)
{
	char t[24];

	printf("%s\n", text(o, "summary"));
	printf("hotspot    %s, version %s, up %s\n", text(o, "hotspot_id"), text(o, "version"),
	       duration(seconds(o, "uptime_s"), t));
	print_bluetooth(get(o, "bluetooth"));
	print_uplink(get(o, "uplink"));
	print_sightings(get(o, "sightings"));
	print_relay(get(o, "relay"));
	return truth(o, "working") ? EXIT_OK : EXIT_NOT_WORKING;
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

static int print_devices(struct json_object *o)
{
	struct json_object *list = get(o, "devices");
	char t[24];

	if (json_object_array_length(list) == 0) {
		puts("No device heard yet.");
		return EXIT_OK;
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
		       (long long)number(d, "count"),
		       strcmp(text(d, "state"), "lost") == 0 ? 'l' : '-',
		       truth(d, "asks") ? 'a' : '-', truth(d, "announces") ? 'n' : '-',
		       text(d, "device_url"));
	}
	puts("FLG: l lost, a asks for a connection, n announces itself");
	return EXIT_OK;
}

static const struct command {
	const char *name;
	int (*print)(struct json_object *o);
} commands[] = {
	{"status", print_status},
	{"devices", print_devices},
};

static int run(const struct command *command, const char *path, bool json)
{
	_cleanup_free_ char *answer = ask(path, command->name);
	struct json_object *o;
	int r = EXIT_FAILED;

	if (!answer)
		return EXIT_FAILED;
	o = json_tokener_parse(answer);
	if (!json_object_is_type(o, json_type_object))
		fputs("blecon-hotspotctl: the answer is no JSON object\n", stderr);
	else if (has(o, "error"))
		fprintf(stderr, "blecon-hotspotctl: %s\n", text(o, "error"));
	else if (!json)
		r = command->print(o);
	else
		r = puts(answer) < 0				? EXIT_FAILED
		    : has(o, "working") && !truth(o, "working") ? EXIT_NOT_WORKING
								: EXIT_OK;
	json_object_put(o);
	return r;
}

int main(int argc, char **argv)
{
	enum { OPTION_JSON = 256, OPTION_VERSION };
	static const struct option options[] = {
		{"socket", required_argument, NULL, 's'},
		{"json", no_argument, NULL, OPTION_JSON},
		{"version", no_argument, NULL, OPTION_VERSION},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	const char *path = DEFAULT_SOCKET;
	bool json = false;
	int option;

	while ((option = getopt_long(argc, argv, "s:h", options, NULL)) != -1) {
		if (option == 's') {
			path = optarg;
		} else if (option == OPTION_JSON) {
			json = true;
		} else if (option == OPTION_VERSION) {
			puts("blecon-hotspotctl " VERSION);
			return EXIT_OK;
		} else if (option == 'h') {
			fputs(usage, stdout);
			return EXIT_OK;
		} else {
			fputs("Try blecon-hotspotctl --help.\n", stderr);
			return EXIT_USAGE;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (optind == argc - 1 && strcmp(argv[optind], commands[i].name) == 0)
			return run(&commands[i], path, json);
	}
	if (optind >= argc)
		fputs("blecon-hotspotctl: which command? ", stderr);
	else
		fprintf(stderr, "blecon-hotspotctl: unknown command or too many arguments: %s. ",
			argv[optind]);
	fputs("Try blecon-hotspotctl --help.\n", stderr);
	return EXIT_USAGE;
}
