/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_doctor_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/identity.h"
#include "agent/util.h"

#define DAEMON	     "blecon-hotspotd"
#define THIS_PROGRAM "/proc/self/exe" /* which is the daemon, by that name */
#define POLL_US	     20000
#define LOG_MAX	     16384 /* bytes of its log that are looked at */

/* The user it runs as. */
struct user {
	uid_t uid;
	gid_t gid;
	const char *name; /* NULL: it has none; of getpwuid */
};

static int find_user(const char *state_dir, struct user *ret)
{
	struct passwd *entry;
	struct stat st;

	*ret = (struct user){geteuid(), getegid(), NULL};
	/* It may not be there before the daemon's first start. */
	if (geteuid() != 0 || stat(state_dir, &st) < 0 || st.st_uid == 0)
		return 0;
	entry = getpwuid(st.st_uid);
	ret->uid = st.st_uid;
	ret->gid = entry ? entry->pw_gid : st.st_gid;
	ret->name = entry ? entry->pw_name : NULL;
	return 0;
}

/* One that nobody but the user can reach, and whose name leaves room for a socket's. */
static int make_directory(const struct user *user, struct doctor_probe *probe)
{
	const char *runtime = user->uid == geteuid() ? getenv("XDG_RUNTIME_DIR") : NULL;
	const char *const places[] = {runtime, "/run", "/tmp"};
	int r = -ENOENT;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		if (!places[i] || strlen(places[i]) + 24 > sizeof(probe->directory))
			continue;
		snprintf(probe->directory, sizeof(probe->directory), "%s/blecon-doctor.XXXXXX",
			 places[i]);
		if (mkdtemp(probe->directory) && chown(probe->directory, user->uid, -1) == 0) {
			snprintf(probe->socket, sizeof(probe->socket), "%s/status.sock",
				 probe->directory);
			return 0;
		}
		r = -errno;
		rmdir(probe->directory);
		probe->directory[0] = '\0';
	}
	return r;
}

/* In the child: with what the user may, and no more. */
static int become(const struct user *user)
{
	if (user->uid == geteuid())
		return 0;
	if ((user->name ? initgroups(user->name, user->gid) : setgroups(0, NULL)) < 0 ||
	    setgid(user->gid) < 0 || setuid(user->uid) < 0)
		return -errno;
	return 0;
}

/* In the child; comes back only if it cannot. */
static void run(const char *config, const struct user *user, const struct doctor_probe *probe,
		int input)
{
	sigset_t none;
	int r;

	/* What tells others of a service is not for them. */
	unsetenv("NOTIFY_SOCKET");
	unsetenv("JOURNAL_STREAM");
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(input, STDIN_FILENO) < 0 || dup2(probe->log, STDOUT_FILENO) < 0 ||
	    dup2(probe->log, STDERR_FILENO) < 0)
		return;
	r = become(user);
	if (r < 0) {
		fprintf(stderr, "cannot become the owner of the state directory: %s\n",
			strerror(-r));
		return;
	}
	execl(THIS_PROGRAM, DAEMON, "--probe", probe->socket, "--config", config, NULL);
	fprintf(stderr, "cannot start " DAEMON ": %s\n", strerror(errno));
}

static int launch(const char *config, const struct user *user, struct doctor_probe *probe)
{
	_cleanup_close_ int input = -1;
	int fds[2];

	probe->log = memfd_create("log", MFD_CLOEXEC);
	if (probe->log < 0 || pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	input = fds[0];
	probe->input = fds[1];
	probe->pid = fork();
	if (probe->pid == 0) {
		run(config, user, probe, input);
		_exit(127);
	}
	if (probe->pid > 0)
		return 0;
	probe->pid = 0;
	return -errno;
}

int doctor_probe_start(const char *config, const char *state_dir, struct doctor_probe *ret,
		       char *ret_error, size_t size)
{
	struct user user = {0};
	int r = find_user(state_dir, &user);

	*ret = (struct doctor_probe){.input = -1, .log = -1};
	if (r == 0)
		r = make_directory(&user, ret);
	if (r == 0)
		r = launch(config, &user, ret);
	if (r < 0)
		snprintf(ret_error, size, "cannot start " DAEMON ": %s", strerror(-r));
	return r;
}

/* The words of the last error there, or of the last line. Writes into text. */
static const char *last_error(char *text)
{
	static const char mark[] = "Z error   ";
	const char *found = "", *found_error = NULL;
	char *rest = NULL;

	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *error = strstr(line, mark);

		if (error)
			found_error = error + sizeof(mark) - 1;
		found = line;
	}
	return found_error ? found_error : found;
}

bool doctor_probe_ended(struct doctor_probe *probe, char *ret_error, size_t size)
{
	char text[LOG_MAX + 1];
	off_t len;
	ssize_t n;
	int status;

	if (waitpid(probe->pid, &status, WNOHANG) != probe->pid)
		return false;
	probe->pid = 0;
	len = lseek(probe->log, 0, SEEK_END);
	n = pread(probe->log, text, LOG_MAX, MAX(len - LOG_MAX, 0));
	text[MAX(n, 0)] = '\0';
	snprintf(ret_error, size, "%s", last_error(text));
	if (!*ret_error)
		snprintf(ret_error, size, DAEMON " ended without a word, wait status %d", status);
	return true;
}

static void wait_for_end(pid_t pid)
{
	uint64_t until_ms = util_now_ms() + DOCTOR_PROBE_STOP_MS;

	while (waitpid(pid, NULL, WNOHANG) == 0) {
		if (util_now_ms() > until_ms)
			kill(pid, SIGKILL);
		usleep(POLL_US);
	}
}

/* One that was killed leaves its socket, and one without a key of the hotspot's has its own there. */
static void remove_directory(const struct doctor_probe *probe)
{
	char key[sizeof(probe->directory) + sizeof("/" IDENTITY_FILE)];

	if (!*probe->directory)
		return;
	snprintf(key, sizeof(key), "%s/" IDENTITY_FILE, probe->directory);
	unlink(key);
	unlink(probe->socket);
	rmdir(probe->directory);
}

void doctor_probe_stop(struct doctor_probe *probe)
{
	util_closep(&probe->input);
	if (probe->pid > 0)
		wait_for_end(probe->pid);
	util_closep(&probe->log);
	remove_directory(probe);
	*probe = (struct doctor_probe){.input = -1, .log = -1};
}
