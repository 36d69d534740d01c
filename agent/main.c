/* SPDX-License-Identifier: Apache-2.0 */
/* blecon-hotspotd: command line, start and end of the daemon. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/credentials.h"
#include "agent/identity.h"
#include "agent/log.h"
#include "agent/loop.h"
#include "agent/settings.h"
#include "agent/util.h"

#define DEFAULT_CONFIG "/etc/blecon-hotspot.conf"

enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* could not start, or could not go on */
	EXIT_USAGE = 2, /* command line or configuration */
};

struct arguments {
	const char *config;
	bool check;
	bool foreground;
	const char *log_level; /* NULL: as configured */
};

static const char usage[] =
	"Usage: blecon-hotspotd [OPTION]...\n"
	"Relays Blecon Bluetooth LE devices to the cloud.\n"
	"\n"
	"  -c, --config FILE        configuration (default " DEFAULT_CONFIG ")\n"
	"      --check-config FILE  say whether FILE is valid, and end\n"
	"  -f, --foreground         stay in the foreground, log to standard error\n"
	"      --log-level LEVEL    error, warning, info or debug, over the configured one\n"
	"      --version            print the version, and end\n"
	"  -h, --help               print this, and end\n"
	"\n"
	"Exit codes: 0 ended as asked, 1 cannot start or go on, 2 bad usage or configuration.\n";

enum { OPTION_CHECK = 256, OPTION_LEVEL, OPTION_VERSION };

static const struct option long_options[] = {
	{"config", required_argument, NULL, 'c'},
	{"check-config", required_argument, NULL, OPTION_CHECK},
	{"foreground", no_argument, NULL, 'f'},
	{"log-level", required_argument, NULL, OPTION_LEVEL},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, 'h'},
	{0},
};

/* Returns -1 to go on, or the exit code to end with. */
static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
	enum log_level level;
	int option;

	*ret = (struct arguments){.config = DEFAULT_CONFIG};
	while ((option = getopt_long(argc, argv, "c:fh", long_options, NULL)) != -1) {
		switch (option) {
		case OPTION_CHECK:
			ret->check = true;
			ret->config = optarg;
			break;
		case 'c':
			ret->config = optarg;
			break;
		case 'f':
			ret->foreground = true;
			break;
		case OPTION_LEVEL:
			if (log_level_parse(optarg, &level) < 0) {
				fprintf(stderr,
					"blecon-hotspotd: --log-level: expected error, warning, "
					"info or debug, not %s\n",
					optarg);
				return EXIT_USAGE;
			}
			ret->log_level = optarg;
			break;
		case OPTION_VERSION:
			puts("blecon-hotspotd " VERSION);
			return EXIT_OK;
		case 'h':
			fputs(usage, stdout);
			return EXIT_OK;
		default:
			fputs("Try blecon-hotspotd --help.\n", stderr);
			return EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "blecon-hotspotd: unexpected argument %s\n", argv[optind]);
		return EXIT_USAGE;
	}
	return -1;
}

struct daemon {
	struct loop *loop;
	struct agent *agent;
	struct loop_fd signal_watch;
	int signal_fd;
};

static void on_signal(void *userdata, uint32_t revents)
{
	struct daemon *daemon = userdata;
	struct signalfd_siginfo info = {0};
	ssize_t n = read(daemon->signal_fd, &info, sizeof(info));

	(void)revents;
	if (n != sizeof(info))
		return;
	if (info.ssi_signo == SIGHUP) {
		log_info("SIGHUP: reading the configuration again");
		reload_run(daemon->agent->reload);
		return;
	}
	log_event(LOG_LEVEL_INFO, LOG_EVENT_STOP, "%s: stopping",
		  info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
	agent_stop(daemon->agent);
}

static int watch_signals(struct daemon *daemon)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	daemon->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (daemon->signal_fd < 0)
		return -errno;
	return loop_fd_add(daemon->loop, &daemon->signal_watch, daemon->signal_fd, EPOLLIN,
			   on_signal, daemon);
}

/* Tells whoever started us that we run, and lets go of the terminal. ready: -1 in the foreground. */
static void detach(int ready)
{
	int null;

	if (ready < 0)
		return;
	log_to_syslog("blecon-hotspotd");
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		for (int fd = 0; fd < 3; fd++)
			dup2(null, fd);
		close(null);
	}
	if (write(ready, "", 1) < 0)
		log_debug("nobody waited for the start");
	close(ready);
}

static int run(struct settings *settings, const char *config, const struct identity *identity,
	       int ready)
{
	struct daemon daemon = {.signal_fd = -1};
	int r = loop_new(&daemon.loop);

	if (r == 0)
		r = watch_signals(&daemon);
	if (r == 0)
		r = agent_new(daemon.loop, settings, config, identity, &daemon.agent);
	if (r == 0) {
		detach(ready);
		r = loop_run(daemon.loop);
		log_info("stopped");
	}
	agent_free(daemon.agent);
	loop_fd_remove(&daemon.signal_watch);
	util_closep(&daemon.signal_fd);
	loop_free(daemon.loop);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}

/* Returns 0 with an identity for identity_done, or -errno with the reason in the log. */
static int prepare(const struct settings *settings, struct identity *ret)
{
	char error[MAX(IDENTITY_ERROR, CREDENTIALS_ERROR)];
	int r = identity_load(settings->state_dir, ret, error);

	if (r == 0) {
		r = credentials_check(settings, ret, error);
		if (r < 0)
			identity_done(ret);
	}
	if (r < 0)
		log_error("%s", error);
	return r;
}

static int start(struct settings *settings, const char *config, int ready)
{
	struct identity identity;
	char id[UTIL_UUID_TEXT];
	int r;

	if (prepare(settings, &identity) < 0)
		return EXIT_FAILED;
	util_uuid_text(identity.hotspot_id, id);
	log_info("blecon-hotspotd " VERSION " starting, hotspot %s", id);
	if (settings->uplink.urls.n == 0)
		log_error("no uplink.url is configured: devices are heard, nobody is told");
	r = run(settings, config, &identity, ready);
	identity_done(&identity);
	return r;
}

/* Goes on in a child. The parent ends when the child has started, or with its exit code. */
static int start_in_background(struct settings *settings, const char *config)
{
	int fds[2], status;
	pid_t child;
	char byte;

	if (pipe2(fds, O_CLOEXEC) < 0 || (child = fork()) < 0) {
		log_error("cannot go to the background: %s", strerror(errno));
		return EXIT_FAILED;
	}
	if (child == 0) {
		close(fds[0]);
		if (setsid() < 0 || chdir("/") < 0)
			return EXIT_FAILED;
		return start(settings, config, fds[1]);
	}
	close(fds[1]);
	if (read(fds[0], &byte, 1) == 1)
		return EXIT_OK;
	if (waitpid(child, &status, 0) == child && WIFEXITED(status))
		return WEXITSTATUS(status);
	return EXIT_FAILED;
}

/* For a reload, in another directory. A link stays one: the next configuration may lie elsewhere.
 * Returns NULL with errno set. */
static char *absolute(const char *path)
{
	_cleanup_free_ char *directory = NULL;
	char *ret;

	if (*path == '/')
		return strdup(path);
	directory = getcwd(NULL, 0);
	if (!directory || asprintf(&ret, "%s/%s", directory, path) < 0)
		return NULL;
	return ret;
}

int main(int argc, char **argv)
{
	struct arguments arguments;
	struct settings settings;
	char error[SETTINGS_ERROR];
	_cleanup_free_ char *config = NULL;
	enum log_level level;
	int r = parse_arguments(argc, argv, &arguments);

	if (r >= 0)
		return r;
	if (settings_load(arguments.config, &settings, error) < 0) {
		fprintf(stderr, "%s\n", error);
		return EXIT_USAGE;
	}
	if (arguments.check) {
		printf("%s: valid%s\n", arguments.config,
		       settings.uplink.urls.n > 0 ? ""
						  : ", but uplink.url is empty: nobody is told");
		settings_done(&settings);
		return EXIT_OK;
	}
	if (log_level_parse(arguments.log_level ? arguments.log_level : settings.log_level,
			    &level) == 0)
		log_set_level(level);
	config = absolute(arguments.config);
	if (!config) {
		fprintf(stderr, "%s: %s\n", arguments.config, strerror(errno));
		return EXIT_FAILED;
	}
	r = arguments.foreground ? start(&settings, config, -1)
				 : start_in_background(&settings, config);
	settings_done(&settings);
	return r;
}
