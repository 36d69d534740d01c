/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/ctl_text.h"

#define PROGRESS_WIDTH 60

/* --- Asking --- */

static enum doctor_daemon daemon_of(int open_error)
{
	if (open_error == -ENOENT || open_error == -ECONNREFUSED)
		return DOCTOR_DAEMON_DOWN;
	return open_error == -EAGAIN ? DOCTOR_DAEMON_HANGS : DOCTOR_DAEMON_DENIED;
}

/* Replaces the status by that of who answers at the path. */
static enum doctor_daemon ask(struct doctor *doctor, const char *path)
{
	char error[CTL_CLIENT_ERROR];
	struct ctl_client client;
	const char *line = NULL;
	struct json_object *o = NULL;
	int r = ctl_client_open(&client, path, error);

	if (r == 0)
		line = ctl_client_ask(&client, "status", error);
	if (line)
		o = json_tokener_parse(line);
	ctl_client_close(&client);
	if (json_object_is_type(o, json_type_object)) {
		json_object_put(doctor->status);
		doctor->status = o;
		doctor->daemon_error[0] = '\0';
		return DOCTOR_DAEMON_RUNS;
	}
	json_object_put(o);
	if (r == 0)
		snprintf(doctor->daemon_error, sizeof(doctor->daemon_error), "%s: %s", path,
			 line ? "the answer is no JSON" : error);
	else
		snprintf(doctor->daemon_error, sizeof(doctor->daemon_error), "%s", error);
	return r < 0 ? daemon_of(r) : DOCTOR_DAEMON_HANGS;
}

/* --- Which daemon, and which file --- */

static void load(struct doctor *doctor, const char *path)
{
	settings_done(&doctor->settings);
	free(doctor->config);
	doctor->config = strdup(path);
	doctor->settings_result = settings_load(path, &doctor->settings, doctor->settings_error);
}

static bool is_same_file(const char *a, const char *b)
{
	struct stat x, y;

	return strcmp(a, b) == 0 || (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
				     x.st_ino == y.st_ino);
}

static void set_socket(struct doctor *doctor, const char *path)
{
	snprintf(doctor->socket, sizeof(doctor->socket), "%s", path);
}

static void block_signals(struct doctor *doctor)
{
	sigemptyset(&doctor->signals);
	sigaddset(&doctor->signals, SIGINT);
	sigaddset(&doctor->signals, SIGTERM);
	sigaddset(&doctor->signals, SIGHUP);
	sigaddset(&doctor->signals, SIGQUIT);
	sigprocmask(SIG_BLOCK, &doctor->signals, &doctor->mask);
}

void doctor_find_daemon(struct doctor *doctor)
{
	const char *used;

	block_signals(doctor);
	load(doctor, doctor->ctl->config);
	set_socket(doctor, doctor->ctl->socket);
	doctor->daemon = ask(doctor, doctor->socket);
	used = ctl_text(ctl_get(doctor->status, "configuration"), "file");
	if (*used && !is_same_file(used, doctor->ctl->config))
		load(doctor, used);
}

/* --- The probe --- */

static bool is_ok(const struct doctor *doctor, enum doctor_check check)
{
	return doctor->findings[check].result == DOCTOR_OK;
}

/* Returns whether it was long enough, and no signal came. */
static bool pass_time(struct doctor *doctor, unsigned ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	siginfo_t info;

	if (sigtimedwait(&doctor->signals, &info, &time) <= 0)
		return true;
	doctor->signal = info.si_signo;
	return false;
}

/* On a terminal alone: in one line that is written anew, and empty for nothing. */
static void show_progress(const char *text)
{
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%-*s\r%s", PROGRESS_WIDTH, "", text);
}

uint64_t doctor_waited_ms(const struct doctor *doctor)
{
	return util_now_ms() - doctor->began_ms;
}

static void show_check(const struct doctor *doctor)
{
	char text[PROGRESS_WIDTH];

	snprintf(text, sizeof(text), "%d of %d: %s, %llu s", doctor->check + 1, DOCTOR_CHECKS,
		 doctor_check_name(doctor->check),
		 (unsigned long long)doctor_waited_ms(doctor) / 1000);
	show_progress(text);
}

static void await_probe(struct doctor *doctor)
{
	uint64_t until_ms = util_now_ms() + DOCTOR_START_MS;
	char error[DOCTOR_FOUND - 64];

	while (ask(doctor, doctor->probe.socket) != DOCTOR_DAEMON_RUNS) {
		show_check(doctor);
		if (doctor_probe_ended(&doctor->probe, error, sizeof(error))) {
			snprintf(doctor->daemon_error, sizeof(doctor->daemon_error),
				 "blecon-hotspotd cannot start: %s", error);
			return;
		}
		if (util_now_ms() > until_ms) {
			snprintf(doctor->daemon_error, sizeof(doctor->daemon_error),
				 "blecon-hotspotd does not answer %d s after its start",
				 DOCTOR_START_MS / 1000);
			return;
		}
		if (!pass_time(doctor, DOCTOR_POLL_MS / 4))
			return;
	}
	set_socket(doctor, doctor->probe.socket);
	doctor->probe_failed = false;
}

void doctor_start_probe(struct doctor *doctor)
{
	if (doctor->daemon != DOCTOR_DAEMON_DOWN || !is_ok(doctor, DOCTOR_CONFIGURATION) ||
	    (!is_ok(doctor, DOCTOR_KEY) && !doctor->no_key))
		return;
	doctor->probe_failed = true;
	if (doctor_probe_start(doctor->config, doctor->settings.state_dir, &doctor->probe,
			       doctor->daemon_error, sizeof(doctor->daemon_error)) == 0)
		await_probe(doctor);
	/* What it needs besides the key: certificates, a token. */
	if (doctor->probe_failed && is_ok(doctor, DOCTOR_KEY))
		doctor_fail(&doctor->findings[DOCTOR_KEY], "correct what it names", "%s",
			    doctor->daemon_error);
}

bool doctor_wait(struct doctor *doctor)
{
	show_check(doctor);
	return pass_time(doctor, DOCTOR_POLL_MS) &&
	       ask(doctor, doctor->socket) == DOCTOR_DAEMON_RUNS;
}

void doctor_leave_daemon(struct doctor *doctor)
{
	if (doctor->probe.pid > 0)
		show_progress("ending");
	doctor->works = doctor->probe.pid <= 0 && ctl_truth(doctor->status, "working");
	doctor_probe_stop(&doctor->probe);
	show_progress("");
	json_object_put(TAKE_PTR(doctor->status));
	settings_done(&doctor->settings);
	free(TAKE_PTR(doctor->config));
	sigprocmask(SIG_SETMASK, &doctor->mask, NULL);
}

/* --- The check --- */

#define START	"blecon-hotspotd, or as a service: service blecon-hotspot start"
#define RESTART "service blecon-hotspot restart"

static bool is_well(const struct doctor *doctor)
{
	for (int i = 0; i < DOCTOR_DAEMON; i++) {
		if (!is_ok(doctor, (enum doctor_check)i))
			return false;
	}
	return true;
}

void doctor_daemon(struct doctor *doctor, struct doctor_finding *f)
{
	char t[24];

	switch (doctor->daemon) {
	case DOCTOR_DAEMON_RUNS:
		if (*doctor->daemon_error)
			doctor_fail(f, "see its journal: blecon-hotspotctl journal",
				    "it does not answer any more: %s", doctor->daemon_error);
		else
			doctor_ok(f, "version %s, up %s", ctl_text(doctor->status, "version"),
				  ctl_duration(ctl_seconds(doctor->status, "uptime_s"), t));
		return;
	case DOCTOR_DAEMON_HANGS:
		doctor_fail(f, "restart it: " RESTART, "blecon-hotspotd hangs: %s",
			    doctor->daemon_error);
		return;
	case DOCTOR_DAEMON_DENIED:
		doctor_fail(f, "be root, or in the group of its status socket",
			    "blecon-hotspotd cannot be asked: %s", doctor->daemon_error);
		return;
	case DOCTOR_DAEMON_DOWN:
		break;
	}
	if (is_well(doctor))
		doctor_fail(f, "start it: " START,
			    "blecon-hotspotd is not running, though it could");
	else
		doctor_fail(f, "start it when the rest is well: " START,
			    "blecon-hotspotd is not running");
}
