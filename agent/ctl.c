/* SPDX-License-Identifier: Apache-2.0 */
/* blecon-hotspotctl: asks the daemon's status socket, and prints the answer for people. */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <json-c/json.h>

#include "agent/util.h"

#define DEFAULT_SOCKET "/run/blecon-hotspot/status.sock"
#define TIMEOUT_S      5
#define ANSWER_MAX     (64u << 20)
/* Of a screen of 24 lines. */
#define SESSIONS_SHOWN 4
#define QUEUE_SHOWN    3

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
	if (has(uplink, "hotspot_name"))
		print_line(INDENT, "  name     %s", text(uplink, "hotspot_name"));
	if (has(uplink, "rtt_us"))
		printf("  ping     %.1f ms\n", (double)number(uplink, "rtt_us") / 1000);
	if (has(uplink, "error"))
		print_line(INDENT, "  %s %s ago: %s", up ? "was down" : "error   ",
			   duration(seconds(uplink, "error_s"), t), text(uplink, "error"));
	printf("  connects %lld of %lld attempt%s\n", (long long)number(uplink, "connects"),
	       (long long)number(uplink, "attempts"), plural(number(uplink, "attempts")));
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

static int print_status(struct json_object *o)
{
	char t[24];

	print_line(2, "%s", text(o, "summary"));
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

static char presence(struct json_object *device)
{
	if (truth(device, "connected"))
		return 'c';
	return strcmp(text(device, "state"), "lost") == 0 ? 'l' : '-';
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
		       (long long)number(d, "count"), presence(d), truth(d, "asks") ? 'a' : '-',
		       truth(d, "announces") ? 'n' : '-', text(d, "device_url"));
		if (number(d, "failures") > 0)
			print_line(5, "     failed %s ago: %s",
				   duration(seconds(d, "failure_s"), t), text(d, "failure"));
	}
	puts("FLG: l lost, c connected, a asks for a connection, n announces itself");
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
