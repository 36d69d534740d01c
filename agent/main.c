/* SPDX-License-Identifier: Apache-2.0 */
/* blecon-hotspotd: command line, start and end of the daemon. By its other name the same program is
 * blecon-hotspotctl: most of what that needs is there already, and flash is short. */
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
#include "agent/ctl_main.h"
#include "agent/identity.h"
#include "agent/log.h"
#include "agent/loop.h"
#include "agent/probe.h"
#include "agent/service.h"
#include "agent/settings.h"
#include "agent/summary.h"
#include "agent/util.h"

#define DEFAULT_CONFIG "/etc/blecon-hotspot.conf"
#define NAME	       "blecon-hotspotd" /* in syslog */
#define CTL_NAME       "blecon-hotspotctl"

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
	const char *probe; /* NULL: the daemon itself */
	unsigned watchdog_s; /* 0: none */
};

static const char usage[] =
	"Usage: blecon-hotspotd [OPTION]...\n"
	"Relays Blecon Bluetooth LE devices to the cloud.\n"
	"\n"
	"  -c, --config FILE        configuration (default " DEFAULT_CONFIG ")\n"
	"      --check-config FILE  say whether FILE is valid, and end\n"
	"  -f, --foreground         stay in the foreground; the log goes to standard error,\n"
	"                           or to syslog where that is /dev/null\n"
	"      --log-level LEVEL    error, warning, info or debug, over the configured one\n"
	"      --probe SOCKET       for blecon-hotspotctl doctor: try the configuration, without\n"
	"                           connecting devices or writing anything, until standard\n"
	"                           input ends; SOCKET is asked for the status\n"
	"      --watchdog SECONDS   end by SIGALRM if it hangs for as long (10 to 600), so\n"
	"                           that whoever started it starts it again\n"
	"      --version            print the version, and end\n"
	"  -h, --help               print this, and end\n"
	"\n"
	"Exit codes: 0 ended as asked, 1 cannot start or go on, 2 bad usage or configuration.\n";

enum { OPTION_CHECK = 256, OPTION_LEVEL, OPTION_PROBE, OPTION_WATCHDOG, OPTION_VERSION };

static const struct option long_options[] = {
	{"config", required_argument, NULL, 'c'},
	{"check-config", required_argument, NULL, OPTION_CHECK},
	{"foreground", no_argument, NULL, 'f'},
	{"log-level", required_argument, NULL, OPTION_LEVEL},
	{"probe", required_argument, NULL, OPTION_PROBE},
	{"watchdog", required_argument, NULL, OPTION_WATCHDOG},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int parse_watchdog(const char *text, unsigned *ret)
{
	char *end;
	long seconds = strtol(text, &end, 10);

	if (end == text || *end || seconds < SERVICE_WATCHDOG_MIN ||
	    seconds > SERVICE_WATCHDOG_MAX) {
		fprintf(stderr, "blecon-hotspotd: --watchdog: expected %d to %d seconds, not %s\n",
			SERVICE_WATCHDOG_MIN, SERVICE_WATCHDOG_MAX, text);
		return -EINVAL;
	}
	*ret = (unsigned)seconds;
	return 0;
}

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
		case OPTION_PROBE:
			ret->probe = optarg;
			ret->foreground = true;
			break;
		case OPTION_WATCHDOG:
			if (parse_watchdog(optarg, &ret->watchdog_s) < 0)
				return EXIT_USAGE;
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
	struct service *service;
	struct loop_timer log_timer; /* for repeated lines */
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
		service_reloading(daemon->service);
		reload_run(daemon->agent->reload);
		service_ready(daemon->service);
		return;
	}
	log_event(LOG_LEVEL_INFO, LOG_EVENT_STOP, "%s: stopping",
		  info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
	service_stopping(daemon->service);
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
	log_to_syslog(NAME);
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

static void on_log_timer(void *userdata)
{
	(void)userdata;
	log_flush();
}

static void on_log_due(void *userdata, uint64_t due_ms)
{
	struct daemon *daemon = userdata;
	uint64_t now_ms = util_now_ms();

	loop_timer_start(&daemon->log_timer, due_ms > now_ms ? due_ms - now_ms : 0);
}

static void describe(void *userdata, char *ret, size_t size)
{
	const struct agent *agent = ((struct daemon *)userdata)->agent;
	struct summary_facts facts;

	summary_gather(agent, &facts);
	summary_write(agent, &facts, ret, size);
}

/* What takes part in the loop besides the agent. Returns 0 or -errno. */
static int prepare_loop(struct daemon *daemon, unsigned watchdog_s)
{
	const struct service_config config = {
		.watchdog_s = watchdog_s,
		.describe = describe,
		.userdata = daemon,
	};
	int r = loop_new(&daemon->loop);

	if (r < 0)
		return r;
	loop_timer_init(daemon->loop, &daemon->log_timer, on_log_timer, daemon);
	log_on_due(on_log_due, daemon);
	r = service_new(daemon->loop, &config, &daemon->service);
	return r < 0 ? r : watch_signals(daemon);
}

static void finish_loop(struct daemon *daemon)
{
	log_on_due(NULL, NULL);
	loop_timer_stop(&daemon->log_timer);
	loop_fd_remove(&daemon->signal_watch);
	util_closep(&daemon->signal_fd);
	service_free(daemon->service);
	loop_free(daemon->loop);
}

static int run(struct settings *settings, const struct arguments *arguments,
	       const struct identity *identity, int ready)
{
	struct daemon daemon = {.signal_fd = -1};
	int r = prepare_loop(&daemon, arguments->watchdog_s);

	if (r < 0)
		log_error("cannot start: event loop: %s", strerror(-r));
	else
		r = agent_new(daemon.loop, settings, arguments->config, identity, &daemon.agent);
	if (r == 0) {
		detach(ready);
		service_ready(daemon.service);
		r = loop_run(daemon.loop);
		log_info("stopped");
	}
	agent_free(daemon.agent);
	finish_loop(&daemon);
	return r < 0 ? EXIT_FAILED : EXIT_OK;
}

/* A probe makes none where the daemon would: without one it has another, beside its socket. */
static int load_identity(const struct settings *settings, struct identity *ret,
			 char error[IDENTITY_ERROR])
{
	_cleanup_free_ char *directory = NULL;
	int r;

	if (!settings->probe)
		return identity_load(settings->state_dir, ret, error);
	r = identity_read(settings->state_dir, ret, error);
	if (r != -ENOENT)
		return r;
	directory = strdup(settings->status_socket);
	if (!directory)
		return -ENOMEM;
	*strrchr(directory, '/') = '\0';
	return identity_load(directory, ret, error);
}

/* Returns 0 with an identity for identity_done, or -errno with the reason in the log. */
static int prepare(const struct settings *settings, struct identity *ret)
{
	char error[MAX(IDENTITY_ERROR, CREDENTIALS_ERROR)];
	int r = load_identity(settings, ret, error);

	if (r == 0) {
		r = credentials_check(settings, ret, error);
		if (r < 0)
			identity_done(ret);
	}
	if (r < 0)
		log_error("%s", error);
	return r;
}

static int start(struct settings *settings, const struct arguments *arguments, int ready)
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
	r = run(settings, arguments, &identity, ready);
	identity_done(&identity);
	return r;
}

/* Goes on in a child. The parent ends when the child has started, or with its exit code. */
static int start_in_background(struct settings *settings, const struct arguments *arguments)
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
		return start(settings, arguments, fds[1]);
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

/* So that no descriptor that is opened later takes the place of one of these. */
static void fill_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* Nothing but the words, where people read them. */
static int refuse(const char *error)
{
	if (log_is_plain())
		fprintf(stderr, "%s\n", error);
	else
		log_error("%s", error);
	return EXIT_USAGE;
}

static void check(const struct arguments *arguments, const struct settings *settings)
{
	printf("%s: valid%s\n", arguments->config,
	       settings->uplink.urls.n > 0 ? "" : ", but uplink.url is empty: nobody is told");
}

static int go(struct arguments *arguments, struct settings *settings)
{
	_cleanup_free_ char *config = absolute(arguments->config);
	char error[SETTINGS_ERROR];
	enum log_level level;
	int r = arguments->probe ? probe_configure(settings, arguments->probe) : 0;

	if (r < 0) {
		snprintf(error, sizeof(error), "--probe: %s: %s", arguments->probe,
			 r == -EINVAL ? "the path is not absolute" : strerror(-r));
		return refuse(error);
	}
	if (!config) {
		log_error("%s: %s", arguments->config, strerror(errno));
		return EXIT_FAILED;
	}
	if (log_level_parse(arguments->log_level ? arguments->log_level : settings->log_level,
			    &level) == 0)
		log_set_level(level);
	arguments->config = config;
	return arguments->foreground ? start(settings, arguments, -1)
				     : start_in_background(settings, arguments);
}

static int daemon_main(int argc, char **argv)
{
	struct arguments arguments;
	struct settings settings;
	char error[SETTINGS_ERROR];
	int r;

	fill_standard_streams();
	r = parse_arguments(argc, argv, &arguments);
	if (r >= 0)
		return r;
	if (!arguments.check)
		log_as_found(NAME);
	if (settings_load(arguments.config, &settings, error) < 0)
		return refuse(error);
	r = EXIT_OK;
	if (arguments.check)
		check(&arguments, &settings);
	else
		r = go(&arguments, &settings);
	settings_done(&settings);
	log_flush_all();
	return r;
}

int main(int argc, char **argv)
{
	bool is_ctl = strcmp(program_invocation_short_name, CTL_NAME) == 0;

	return is_ctl ? ctl_main(argc, argv) : daemon_main(argc, argv);
}
