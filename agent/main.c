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

#include <mbedtls/x509_crt.h>

#include "agent/agent.h"
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

/* libwebsockets only logs that it could not read them, and then trusts nobody. */
static int check_ca_file(const char *path)
{
	mbedtls_x509_crt chain;
	FILE *f = fopen(path, "re");
	int n;

	if (!f) {
		log_error("uplink.ca_file %s: %s", path, strerror(errno));
		return -errno;
	}
	fclose(f);
	mbedtls_x509_crt_init(&chain);
	n = mbedtls_x509_crt_parse_file(&chain, path);
	/* A positive number counts those it could not read: a bundle may hold such. */
	if (n >= 0 && chain.version == 0)
		n = -1;
	mbedtls_x509_crt_free(&chain);
	if (n >= 0)
		return 0;
	log_error("uplink.ca_file %s: no certificate in PEM in it", path);
	return -EINVAL;
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
		log_warning("SIGHUP: the configuration is read at the start alone; restart to "
			    "change it");
		return;
	}
	log_info("%s: stopping", info.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT");
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

static int run(const struct settings *settings, const struct identity *identity, int ready)
{
	struct daemon daemon = {.signal_fd = -1};
	int r = loop_new(&daemon.loop);

	if (r == 0)
		r = watch_signals(&daemon);
	if (r == 0)
		r = agent_new(daemon.loop, settings, identity, &daemon.agent);
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

static int start(const struct settings *settings, int ready)
{
	char id[UTIL_UUID_TEXT], error[IDENTITY_ERROR];
	struct identity identity;
	int r;

	if (*settings->uplink.url && check_ca_file(settings->uplink.ca_file) < 0)
		return EXIT_FAILED;
	if (identity_load(settings->state_dir, &identity, error) < 0) {
		log_error("%s", error);
		return EXIT_FAILED;
	}
	util_uuid_text(identity.hotspot_id, id);
	log_info("blecon-hotspotd " VERSION " starting, hotspot %s", id);
	if (!*settings->uplink.url)
		log_error("no uplink.url is configured: devices are heard, nobody is told");
	r = run(settings, &identity, ready);
	identity_done(&identity);
	return r;
}

/* Goes on in a child. The parent ends when the child has started, or with its exit code. */
static int start_in_background(const struct settings *settings)
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
		return start(settings, fds[1]);
	}
	close(fds[1]);
	if (read(fds[0], &byte, 1) == 1)
		return EXIT_OK;
	if (waitpid(child, &status, 0) == child && WIFEXITED(status))
		return WEXITSTATUS(status);
	return EXIT_FAILED;
}

int main(int argc, char **argv)
{
	struct arguments arguments;
	struct settings settings;
	char error[SETTINGS_ERROR];
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
		       *settings.uplink.url ? "" : ", but uplink.url is empty: nobody is told");
		settings_done(&settings);
		return EXIT_OK;
	}
	if (log_level_parse(arguments.log_level ? arguments.log_level : settings.log_level,
			    &level) == 0)
		log_set_level(level);
	r = arguments.foreground ? start(&settings, -1) : start_in_background(&settings);
	settings_done(&settings);
	return r;
}
