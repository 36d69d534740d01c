/* SPDX-License-Identifier: Apache-2.0 */
/* blecon-hotspotctl: the command line. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl.h"
#include "agent/ctl_commands.h"
#include "agent/ctl_main.h"
#include "agent/settings.h"
#include "agent/util.h"

static const char usage[] =
	"Usage: blecon-hotspotctl [OPTION]... COMMAND [ARGUMENT]\n"
	"\n"
	"Of the running blecon-hotspotd:\n"
	"  status             whether it works, and if not why and what to do\n"
	"  watch              the same, live, with the devices; q to leave\n"
	"  devices            the devices heard (--sort rssi, seen or id)\n"
	"  device ID          one of them: its Device ID or Device URL\n"
	"  sessions           device sessions, those that ended too, with what took how long\n"
	"  adapters, uplink   the radio; the connection to the cloud\n"
	"  events             what happened lately; -f, --follow: and what happens\n"
	"  log                the last lines of the log\n"
	"  log-level [LEVEL]  error, warning, info or debug, until the daemon restarts\n"
	"  metrics            for Prometheus, in its text format\n"
	"\n"
	"Whether it runs or not:\n"
	"  doctor             checks each step from the configuration to the cloud\n"
	"  journal            the last disconnects, restarts and radio faults\n"
	"  report             one .tar.gz for support, without secrets\n"
	"  identity           the hotspot's id, public key and its fingerprint\n"
	"                     (--csr: a certificate request for that key)\n"
	"\n"
	"  -c, --config FILE  the daemon's configuration\n"
	"                     (default " CTL_CONFIG ")\n"
	"  -s, --socket PATH  the daemon's status socket, if it is not the configuration's\n"
	"                     (" CTL_SOCKET " without one)\n"
	"  -o, --output FILE  where report or metrics goes; - is standard output\n"
	"      --json         JSON, as the daemon gives it\n"
	"      --version      print the version, and end\n"
	"  -h, --help         print this, and end\n"
	"\n"
	"Exit codes: 0 good, 1 no answer, 2 bad usage or configuration, 3 answered, but\n"
	"not working; of doctor 10 to 24: see blecon-hotspotctl(1).\n";

/* The options that only some commands take. */
enum {
	TAKES_SOCKET = 1u << 0,
	TAKES_CONFIG = 1u << 1,
	TAKES_OUTPUT = 1u << 2,
	TAKES_CSR = 1u << 3,
	TAKES_SORT = 1u << 4,
	TAKES_FOLLOW = 1u << 5,
	TELLS_CONFIG = 1u << 6, /* by itself what is wrong with it */
};

#define ARGUMENT_MAX 128 /* bytes, as a request has a limit */

enum argument { ARGUMENT_NONE, ARGUMENT_OPTIONAL, ARGUMENT_NEEDED };

static const struct command {
	const char *name;
	enum exit_code (*run)(const struct ctl *ctl);
	unsigned takes;
	enum argument argument;
} commands[] = {
	{"status", ctl_status, TAKES_SOCKET | TAKES_CONFIG, ARGUMENT_NONE},
	{"watch", ctl_watch, TAKES_SOCKET | TAKES_CONFIG | TAKES_SORT, ARGUMENT_NONE},
	{"devices", ctl_devices, TAKES_SOCKET | TAKES_CONFIG | TAKES_SORT, ARGUMENT_NONE},
	{"device", ctl_device, TAKES_SOCKET | TAKES_CONFIG, ARGUMENT_NEEDED},
	{"sessions", ctl_sessions, TAKES_SOCKET | TAKES_CONFIG, ARGUMENT_NONE},
	{"adapters", ctl_adapters, TAKES_SOCKET | TAKES_CONFIG, ARGUMENT_NONE},
	{"uplink", ctl_uplink, TAKES_SOCKET | TAKES_CONFIG, ARGUMENT_NONE},
	{"events", ctl_events, TAKES_SOCKET | TAKES_CONFIG | TAKES_FOLLOW, ARGUMENT_NONE},
	{"journal", ctl_journal, TAKES_SOCKET | TAKES_CONFIG | TELLS_CONFIG, ARGUMENT_NONE},
	{"log", ctl_log, TAKES_SOCKET | TAKES_CONFIG, ARGUMENT_NONE},
	{"log-level", ctl_log_level, TAKES_SOCKET | TAKES_CONFIG, ARGUMENT_OPTIONAL},
	{"metrics", ctl_metrics, TAKES_SOCKET | TAKES_CONFIG | TAKES_OUTPUT, ARGUMENT_NONE},
	{"doctor", ctl_doctor, TAKES_SOCKET | TAKES_CONFIG | TELLS_CONFIG, ARGUMENT_NONE},
	{"report", ctl_report, TAKES_SOCKET | TAKES_CONFIG | TELLS_CONFIG | TAKES_OUTPUT,
	 ARGUMENT_NONE},
	{"identity", ctl_identity, TAKES_CONFIG | TELLS_CONFIG | TAKES_CSR, ARGUMENT_NONE},
};

struct arguments {
	struct ctl ctl;
	unsigned given; /* TAKES_... */
};

enum { OPTION_JSON = 256, OPTION_CSR, OPTION_SORT, OPTION_VERSION };

static const struct option long_options[] = {
	{"socket", required_argument, NULL, 's'},
	{"config", required_argument, NULL, 'c'},
	{"output", required_argument, NULL, 'o'},
	{"follow", no_argument, NULL, 'f'},
	{"sort", required_argument, NULL, OPTION_SORT},
	{"csr", no_argument, NULL, OPTION_CSR},
	{"json", no_argument, NULL, OPTION_JSON},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, 'h'},
	{0},
};

static int parse_sort(const char *text, enum ctl_sort *ret)
{
	static const char *const names[] = {
		[CTL_SORT_RSSI] = "rssi", [CTL_SORT_SEEN] = "seen", [CTL_SORT_ID] = "id"};

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		if (strcmp(text, names[i]) != 0)
			continue;
		*ret = (enum ctl_sort)i;
		return 0;
	}
	fprintf(stderr, "blecon-hotspotctl: --sort: expected rssi, seen or id, not %s\n", text);
	return -EINVAL;
}

/* Returns -1 to go on, or the exit code to end with. */
static int take_option(int option, struct arguments *a)
{
	switch (option) {
	case 's':
		a->ctl.socket = optarg;
		a->given |= TAKES_SOCKET;
		break;
	case 'c':
		a->ctl.config = optarg;
		a->given |= TAKES_CONFIG;
		break;
	case 'o':
		a->ctl.output = optarg;
		a->given |= TAKES_OUTPUT;
		break;
	case 'f':
		a->ctl.follow = true;
		a->given |= TAKES_FOLLOW;
		break;
	case OPTION_SORT:
		a->given |= TAKES_SORT;
		return parse_sort(optarg, &a->ctl.sort) < 0 ? EXIT_USAGE : -1;
	case OPTION_CSR:
		a->ctl.csr = true;
		a->given |= TAKES_CSR;
		break;
	case OPTION_JSON:
		a->ctl.json = true;
		break;
	case OPTION_VERSION:
		puts("blecon-hotspotctl " VERSION);
		return EXIT_OK;
	case 'h':
		fputs(usage, stdout);
		return EXIT_OK;
	default:
		fputs("Try blecon-hotspotctl --help.\n", stderr);
		return EXIT_USAGE;
	}
	return -1;
}

/* Returns -1 to go on, or the exit code to end with. */
static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
	int option, r = -1;

	*ret = (struct arguments){.ctl = {.config = CTL_CONFIG}};
	while (r < 0 && (option = getopt_long(argc, argv, "s:c:o:fh", long_options, NULL)) != -1)
		r = take_option(option, ret);
	return r;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	}
	return NULL;
}

/* Returns the name of an option of these. */
static const char *option_name(unsigned flags)
{
	static const char *const names[] = {"--socket", "--config", "--output",
					    "--csr",	"--sort",   "--follow"};
	unsigned i = 0;

	while (!(flags & 1u << i))
		i++;
	return names[i];
}

static int refuse(const char *what, const char *which)
{
	fprintf(stderr, "blecon-hotspotctl: %s%s. Try blecon-hotspotctl --help.\n", what, which);
	return EXIT_USAGE;
}

/* Where the daemon with that configuration listens. Returns NULL with the reason, or a path to be
 * freed. */
static char *socket_of(const char *config, char ret_error[SETTINGS_ERROR])
{
	struct settings settings;
	char *path;

	if (settings_load(config, &settings, ret_error) < 0)
		return NULL;
	path = TAKE_PTR(settings.status_socket);
	settings_done(&settings);
	return path;
}

static int run_at(const struct command *command, struct arguments *a)
{
	_cleanup_free_ char *path = NULL;
	char error[SETTINGS_ERROR];

	if (!a->ctl.socket)
		path = socket_of(a->ctl.config, error);
	/* One that was not asked for by name may not be there, or not for this user to read. */
	if (!a->ctl.socket && !path && a->given & TAKES_CONFIG &&
	    !(command->takes & TELLS_CONFIG)) {
		fprintf(stderr, "blecon-hotspotctl: %s\n", error);
		return EXIT_USAGE;
	}
	if (!a->ctl.socket)
		a->ctl.socket = path ? path : CTL_SOCKET;
	return (int)command->run(&a->ctl);
}

static int run_command(int n, char **words, struct arguments *a)
{
	const struct command *command = n > 0 ? find_command(words[0]) : NULL;
	char wrong[64];

	if (n == 0)
		return refuse("a command is missing", "");
	if (!command)
		return refuse("unknown command: ", words[0]);
	if (a->given & ~command->takes) {
		snprintf(wrong, sizeof(wrong), "%s takes no ", command->name);
		return refuse(wrong, option_name(a->given & ~command->takes));
	}
	if (n > (command->argument == ARGUMENT_NONE ? 1 : 2))
		return refuse("too many arguments: ", words[n - 1]);
	if (n == 1 && command->argument == ARGUMENT_NEEDED)
		return refuse(command->name, " needs an argument");
	a->ctl.argument = n > 1 ? words[1] : NULL;
	if (n > 1 && strlen(words[1]) > ARGUMENT_MAX)
		return refuse("this is too long: ", words[1]);
	return run_at(command, a);
}

int ctl_main(int argc, char **argv)
{
	struct arguments arguments;
	int r = parse_arguments(argc, argv, &arguments);

	if (r < 0)
		r = run_command(argc - optind, argv + optind, &arguments);
	/* What goes into a file is whole, or it is told. */
	if (fflush(stdout) < 0 || ferror(stdout)) {
		fprintf(stderr, "blecon-hotspotctl: cannot write: %s\n", strerror(errno));
		return EXIT_FAILED;
	}
	return r;
}
