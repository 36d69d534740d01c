/* SPDX-License-Identifier: Apache-2.0 */
/* One archive for support: what the daemon says, what the doctor finds, the configuration without
 * its secrets, versions, the log. tar and gzip do the packing. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/ctl_client.h"
#include "agent/ctl_commands.h"
#include "agent/ctl_journal.h"
#include "agent/ctl_text.h"
#include "agent/settings.h"
#include "agent/settings_text.h"
#include "agent/util.h"

#define LOG_LINES "500"
#define COPY_MAX  65536 /* bytes of a file of the system */

struct report {
	const struct ctl *ctl;
	char name[64]; /* of the folder in the archive */
	char *folder; /* where it is made; owned */
	char *parent; /* of folder, ours; owned */
	bool failed; /* something could not be written */
};

static const char *const requests[] = {"status", "devices", "sessions", "journal", "log"};

static FILE *open_file(struct report *report, const char *name)
{
	_cleanup_free_ char *path = NULL;
	FILE *f = NULL;

	if (asprintf(&path, "%s/%s", report->folder, name) < 0)
		path = NULL;
	else
		f = fopen(path, "wxe");
	if (!f) {
		fprintf(stderr, "blecon-hotspotctl: %s/%s: %s\n", report->folder, name,
			strerror(errno));
		report->failed = true;
	}
	return f;
}

static void close_file(struct report *report, FILE *f)
{
	bool bad = ferror(f);

	if (fclose(f) == 0 && !bad)
		return;
	fprintf(stderr, "blecon-hotspotctl: %s: %s\n", report->folder, strerror(errno));
	report->failed = true;
}

static void _printf_(3, 4) put(struct report *report, const char *name, const char *fmt, ...)
{
	FILE *f = open_file(report, name);
	va_list args;

	if (!f)
		return;
	va_start(args, fmt);
	vfprintf(f, fmt, args);
	va_end(args);
	close_file(report, f);
}

/* The one that was left. */
static void put_journal(struct report *report)
{
	struct json_object *o = ctl_journal_left(report->ctl);

	if (o)
		put(report, "journal.json", "%s\n",
		    json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
							      JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}

/* What the daemon says, or why it says nothing. */
static void put_answers(struct report *report)
{
	char error[CTL_CLIENT_ERROR], name[32];
	struct ctl_client client;

	if (ctl_client_open(&client, report->ctl->socket, error) < 0) {
		fprintf(stderr, "blecon-hotspotctl: the report goes without the daemon: %s\n",
			error);
		put(report, "no-daemon.txt", "%s\n", error);
		put_journal(report);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		const char *line = ctl_client_ask(&client, requests[i], error);

		if (!line) {
			put(report, "no-daemon.txt", "%s: %s\n", requests[i], error);
			break;
		}
		snprintf(name, sizeof(name), "%s.json", requests[i]);
		put(report, name, "%s\n", line);
	}
	ctl_client_close(&client);
}

static void put_configuration(struct report *report)
{
	char error[SETTINGS_ERROR];
	struct settings settings;
	FILE *f;

	if (settings_load(report->ctl->config, &settings, error) < 0) {
		put(report, "configuration-error.txt", "%s\n", error);
		return;
	}
	f = open_file(report, "configuration.conf");
	if (f) {
		fprintf(f, "# %s, all options as they are in effect\n", report->ctl->config);
		settings_write(f, &settings);
		close_file(report, f);
	}
	settings_done(&settings);
}

static void copy(FILE *to, const char *path)
{
	char data[4096];
	size_t left = COPY_MAX, n;
	FILE *from = fopen(path, "re");

	if (!from)
		return;
	fprintf(to, "\n%s:\n", path);
	while (left > 0 && (n = fread(data, 1, MIN(left, sizeof(data)), from)) > 0) {
		fwrite(data, 1, n, to);
		left -= n;
	}
	fclose(from);
}

static void put_system(struct report *report)
{
	static const char *const files[] = {"/etc/os-release", "/etc/openwrt_release",
					    "/proc/uptime", "/proc/loadavg", "/proc/meminfo"};
	FILE *f = open_file(report, "system.txt");
	struct utsname u;

	if (!f)
		return;
	fputs("blecon-hotspotctl " VERSION "\n", f);
	if (uname(&u) == 0)
		fprintf(f, "%s %s %s %s\n", u.sysname, u.release, u.version, u.machine);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		copy(f, files[i]);
	close_file(report, f);
}

/* Runs a program with its output into a file of the report, or standard output for NULL. Returns
 * its exit code, -1 where it could not be run. */
static int run(struct report *report, const char *name, const char *program,
	       const char *const *argv)
{
	_cleanup_free_ char *path = NULL;
	int status, fd;
	pid_t child;

	if (name && asprintf(&path, "%s/%s", report->folder, name) < 0)
		return -1;
	child = fork();
	if (child == 0) {
		fd = name ? open(path, O_WRONLY | O_CREAT | O_EXCL, 0600) : STDOUT_FILENO;
		if (fd < 0 || (name && dup2(fd, STDOUT_FILENO) < 0))
			_exit(127);
		execvp(program, (char *const *)argv);
		_exit(127);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status) == 127 ? -1 : WEXITSTATUS(status);
}

static void put_doctor(struct report *report)
{
	const char *const argv[] = {"blecon-hotspotctl",
				    "--socket",
				    report->ctl->socket,
				    "--config",
				    report->ctl->config,
				    "doctor",
				    NULL};

	run(report, "doctor.txt", "/proc/self/exe", argv);
}

/* What was logged before the daemon's last start, as the system keeps it. */
static void put_system_log(struct report *report)
{
	static const char *const journalctl[] = {"journalctl",	    "--no-pager", "-q",	     "-o",
						 "short-iso",	    "-n",	  LOG_LINES, "-t",
						 "blecon-hotspotd", NULL};
	static const char *const logread[] = {"logread",	 "-l", LOG_LINES, "-e",
					      "blecon-hotspotd", NULL};

	if (access("/run/systemd/journal", F_OK) == 0)
		run(report, "system-log.txt", journalctl[0], journalctl);
	else if (access("/sbin/logread", X_OK) == 0)
		run(report, "system-log.txt", logread[0], logread);
}

/* Returns 0, or -errno after saying why. */
static int make_folder(struct report *report)
{
	const char *temp = getenv("TMPDIR");
	char when[32];
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y%m%dT%H%M%SZ", &tm);
	snprintf(report->name, sizeof(report->name), "blecon-hotspot-report-%s", when);
	if (asprintf(&report->parent, "%s/blecon-hotspot.XXXXXX", temp ? temp : "/tmp") < 0) {
		report->parent = NULL;
		return -ENOMEM;
	}
	if (!mkdtemp(report->parent) ||
	    asprintf(&report->folder, "%s/%s", report->parent, report->name) < 0 ||
	    mkdir(report->folder, 0700) < 0) {
		fprintf(stderr, "blecon-hotspotctl: %s: %s\n", report->parent, strerror(errno));
		return -errno;
	}
	return 0;
}

static void remove_folder(struct report *report)
{
	const char *const argv[] = {"rm", "-rf", report->parent, NULL};

	if (report->folder)
		run(report, NULL, argv[0], argv);
	free(report->folder);
	free(report->parent);
}

static void print_path(const char *path, bool json)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "file", json_object_new_string(path));
	if (json)
		ctl_print_json(o);
	else
		puts(path);
	json_object_put(o);
}

static enum exit_code pack(struct report *report)
{
	_cleanup_free_ char *own = NULL;
	const char *output = report->ctl->output;
	int r;

	if (!output && asprintf(&own, "%s.tar.gz", report->name) < 0)
		own = NULL;
	output = output ? output : own;
	if (!output)
		return EXIT_FAILED;
	if (strcmp(output, "-") == 0 && isatty(STDOUT_FILENO)) {
		fputs("blecon-hotspotctl: an archive is nothing for a terminal: > FILE\n", stderr);
		return EXIT_USAGE;
	}

	const char *const argv[] = {"tar",	    "-czf",	  output, "-C",
				    report->parent, report->name, NULL};

	/* Device URLs and the like are for those alone who may ask the daemon. */
	umask(077);
	r = run(report, NULL, argv[0], argv);
	if (r != 0) {
		fprintf(stderr, "blecon-hotspotctl: %s: tar %s\n", output,
			r < 0 ? "cannot be run" : "failed");
		return EXIT_FAILED;
	}
	if (strcmp(output, "-") != 0)
		print_path(output, report->ctl->json);
	return EXIT_OK;
}

enum exit_code ctl_report(const struct ctl *ctl)
{
	struct report report = {.ctl = ctl};
	enum exit_code code = EXIT_FAILED;

	if (make_folder(&report) == 0) {
		put_answers(&report);
		put_configuration(&report);
		put_system(&report);
		put_doctor(&report);
		put_system_log(&report);
		code = pack(&report);
	}
	remove_folder(&report);
	return report.failed ? EXIT_FAILED : code;
}
