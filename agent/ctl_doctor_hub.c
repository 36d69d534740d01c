/* SPDX-License-Identifier: Apache-2.0 */
/* What the doctor sees for itself: configuration, key, clock. */
#include "agent/ctl_doctor.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "agent/ctl_text.h"
#include "agent/identity.h"

/* --- Configuration --- */

static void refuse_settings(const struct doctor *doctor, struct doctor_finding *f)
{
	const char *advice = "correct it: blecon-hotspotd --check-config says when it is right";

	if (doctor->settings_result == -ENOENT)
		advice = "put it there, or say where it is: --config FILE";
	else if (doctor->settings_result == -EACCES)
		advice = "be root, or the daemon's user";
	doctor_fail(f, advice, "%s%s", doctor->settings_error,
		    doctor->daemon == DOCTOR_DAEMON_RUNS
			    ? "; the daemon runs with what it read before"
			    : "");
}

void doctor_configuration(struct doctor *doctor, struct doctor_finding *f)
{
	struct json_object *c = ctl_get(doctor->status, "configuration");
	const char *state = ctl_text(c, "state"), *restart = ctl_text(c, "needs_restart");
	bool other = doctor->config && strcmp(doctor->config, doctor->ctl->config) != 0;
	char t[24];

	if (doctor->settings_result < 0) {
		refuse_settings(doctor, f);
	} else if (strcmp(state, "refused") == 0 || strcmp(state, "reverted") == 0) {
		doctor_fail(f, "correct it, then: service blecon-hotspot reload (SIGHUP)",
			    "the daemon has %s a change of %s %s ago: %s", state, doctor->config,
			    ctl_duration(ctl_seconds(c, "since_s"), t), ctl_text(c, "error"));
	} else {
		doctor_ok(f, "%s%s%s%s%s%s", doctor->config,
			  other ? ", which the daemon uses, not " : "",
			  other ? doctor->ctl->config : "",
			  *restart ? "; after a restart alone: " : "", restart,
			  strcmp(state, "pending") == 0
				  ? "; a change is given up unless the cloud is reached with it"
				  : "");
	}
}

/* --- Key --- */

static void name_of(uid_t uid, char ret[32])
{
	const struct passwd *entry = getpwuid(uid);

	if (entry)
		snprintf(ret, 32, "%s", entry->pw_name);
	else
		snprintf(ret, 32, "uid %u", (unsigned)uid);
}

static void refuse_file(struct doctor_finding *f, const char *path, int error)
{
	if (error == ENOENT)
		doctor_fail(f, "start blecon-hotspotd, which makes it at its first start",
			    "no key yet: %s is not there", path);
	else
		doctor_fail(f, error == EACCES ? "be root, or the daemon's user" : "", "%s: %s",
			    path, strerror(error));
}

/* Whose it is and who else may read it, which a daemon refuses. user: the daemon's. */
static bool is_private(struct doctor_finding *f, const char *path, uid_t user)
{
	char owner[32], daemon[32], advice[DOCTOR_ADVICE];
	struct stat st;

	if (lstat(path, &st) < 0) {
		refuse_file(f, path, errno);
		return false;
	}
	name_of(st.st_uid, owner);
	name_of(user, daemon);
	if (st.st_uid != user) {
		snprintf(advice, sizeof(advice), "if it is the hotspot's own key: chown %s %s",
			 daemon, path);
		doctor_fail(f, advice, "%s belongs to %s, its directory to %s, the daemon's user",
			    path, owner, daemon);
	} else if (S_ISREG(st.st_mode) && st.st_mode & 077) {
		snprintf(advice, sizeof(advice),
			 "chmod 600 %s; if others may have read it, remove it for a new identity",
			 path);
		doctor_fail(f, advice, "%s can be read or written by others (owner %s, mode %04o)",
			    path, owner, (unsigned)st.st_mode & 07777);
	}
	return f->result == DOCTOR_NOT_CHECKED;
}

static bool is_writable(struct doctor_finding *f, const char *path, mode_t mode)
{
	struct statvfs fs;
	char advice[DOCTOR_ADVICE] = "make room there";

	if ((mode & 0300) != 0300) {
		snprintf(advice, sizeof(advice), "chmod 700 %s", path);
		doctor_fail(f, advice, "%s: its owner cannot write there (mode %04o)", path,
			    (unsigned)mode & 07777);
	} else if (statvfs(path, &fs) < 0) {
		refuse_file(f, path, errno);
	} else if (fs.f_flag & ST_RDONLY) {
		doctor_fail(f, "mount it writable, or set state_dir to where it is",
			    "%s is on a read-only file system", path);
	} else if (fs.f_blocks > 0 && fs.f_bavail == 0) {
		doctor_fail(f, advice, "%s is on a file system that is full", path);
	}
	return f->result == DOCTOR_NOT_CHECKED;
}

static void read_key(struct doctor_finding *f, const char *state_dir)
{
	char error[IDENTITY_ERROR], id[UTIL_UUID_TEXT];
	struct identity identity;
	int r = identity_read(state_dir, &identity, error);

	if (r < 0) {
		/* The text says what to do where that is not plain. */
		doctor_fail(f, r == -EACCES ? "be root, or the daemon's user" : "", "%s", error);
		return;
	}
	util_uuid_text(identity.hotspot_id, id);
	identity_done(&identity);
	doctor_ok(f, "hotspot %s", id);
}

/* Who may ask the daemon need not be who may look into its directory. */
static bool only_daemon_may_look(const struct doctor *doctor, const char *path)
{
	return doctor->daemon == DOCTOR_DAEMON_RUNS && doctor->status && access(path, F_OK) < 0 &&
	       errno == EACCES;
}

void doctor_key(struct doctor *doctor, struct doctor_finding *f)
{
	const char *state_dir = doctor->settings.state_dir;
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (!state_dir)
		return;
	if (asprintf(&path, "%s/" IDENTITY_FILE, state_dir) < 0) {
		path = NULL;
		return;
	}
	doctor->no_key = access(path, F_OK) < 0 && errno == ENOENT;
	if (only_daemon_may_look(doctor, path))
		doctor_ok(f, "hotspot %s, says the daemon, which alone may read it",
			  ctl_text(doctor->status, "hotspot_id"));
	else if (stat(state_dir, &st) < 0)
		refuse_file(f, state_dir, errno);
	else if (is_private(f, path, st.st_uid) && is_writable(f, state_dir, st.st_mode))
		read_key(f, state_dir);
}

/* --- Clock --- */

void doctor_clock(struct doctor *doctor, struct doctor_finding *f)
{
	time_t now = time(NULL);
	struct tm tm;
	char text[32];

	gmtime_r(&now, &tm);
	strftime(text, sizeof(text), "%F %H:%M UTC", &tm);
	if (now >= UTIL_CLOCK_SET_S)
		doctor_ok(f, "%s", text);
	else if (doctor->settings.uplink.pins.n > 0)
		doctor_ok(f, "never set: %s; uplink.pins works without", text);
	else
		doctor_fail(f,
			    "set it, or let NTP do so: until then no certificate can be checked; "
			    "uplink.pins works without",
			    "the clock was never set: it says %s", text);
}
