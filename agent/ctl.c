/* SPDX-License-Identifier: Apache-2.0 */
/* blecon-hotspotctl: the command line, and the daemon's status socket. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <json-c/json.h>

#include "agent/ctl.h"
#include "agent/ctl_identity.h"
#include "agent/ctl_screens.h"
#include "agent/util.h"

#define DEFAULT_SOCKET "/run/blecon-hotspot/status.sock"
#define DEFAULT_CONFIG "/etc/blecon-hotspot.conf"
#define TIMEOUT_S      5
#define ANSWER_MAX     (64u << 20)

static const char usage[] =
	"Usage: blecon-hotspotctl [OPTION]... COMMAND\n"
	"\n"
	"Of the running blecon-hotspotd:\n"
	"  status    whether it works, and if not why\n"
	"  devices   the devices heard, strongest first\n"
	"\n"
	"  -s, --socket PATH  the daemon's status socket (default " DEFAULT_SOCKET ")\n"
	"\n"
	"Whether it runs or not:\n"
	"  identity  who the hotspot is: its id, public key and the key's fingerprint\n"
	"\n"
	"  -c, --config FILE  the daemon's configuration (default " DEFAULT_CONFIG ")\n"
	"      --csr          a certificate request (PEM) for the hotspot's key instead\n"
	"\n"
	"      --json         one line of JSON; of the daemon as it gives it\n"
	"      --version      print the version, and end\n"
	"  -h, --help         print this, and end\n"
	"\n"
	"Exit codes: 0 good, 1 no answer or no identity, 2 bad usage or configuration,\n"
	"3 (status) answered, but not working.\n";

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

static const struct command {
	const char *name;
	void (*print)(struct json_object *answer); /* NULL: the daemon is not asked */
} commands[] = {
	{"status", ctl_screens_status},
	{"devices", ctl_screens_devices},
	{"identity", NULL},
};

static int run(const struct command *command, const char *path, bool json)
{
	_cleanup_free_ char *answer = ask(path, command->name);
	struct json_object *o;
	int r = EXIT_FAILED;

	if (!answer)
		return EXIT_FAILED;
	o = json_tokener_parse(answer);
	if (!json_object_is_type(o, json_type_object)) {
		fputs("blecon-hotspotctl: the answer is no JSON object\n", stderr);
	} else if (ctl_screens_error(o)) {
		fprintf(stderr, "blecon-hotspotctl: %s\n", ctl_screens_error(o));
	} else {
		if (json)
			puts(answer);
		else
			command->print(o);
		r = (int)ctl_screens_code(o);
	}
	json_object_put(o);
	return r;
}

struct arguments {
	const char *socket, *config; /* NULL: not given */
	bool json, csr;
};

enum { OPTION_JSON = 256, OPTION_CSR, OPTION_VERSION };

static const struct option long_options[] = {
	{"socket", required_argument, NULL, 's'},
	{"config", required_argument, NULL, 'c'},
	{"csr", no_argument, NULL, OPTION_CSR},
	{"json", no_argument, NULL, OPTION_JSON},
	{"version", no_argument, NULL, OPTION_VERSION},
	{"help", no_argument, NULL, 'h'},
	{0},
};

/* Returns -1 to go on, or the exit code to end with. */
static int parse_arguments(int argc, char **argv, struct arguments *ret)
{
	int option;

	*ret = (struct arguments){0};
	while ((option = getopt_long(argc, argv, "s:c:h", long_options, NULL)) != -1) {
		switch (option) {
		case 's':
			ret->socket = optarg;
			break;
		case 'c':
			ret->config = optarg;
			break;
		case OPTION_CSR:
			ret->csr = true;
			break;
		case OPTION_JSON:
			ret->json = true;
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
	}
	return -1;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(name, commands[i].name) == 0)
			return &commands[i];
	}
	return NULL;
}

/* Returns what does not go together, or NULL. */
static const char *check_options(const struct command *command, const struct arguments *a)
{
	if (command->print && (a->config || a->csr))
		return "--config and --csr are for identity alone";
	if (!command->print && a->socket)
		return "identity asks no daemon: it takes no --socket";
	return NULL;
}

static int refuse(const char *what, const char *which)
{
	fprintf(stderr, "blecon-hotspotctl: %s%s. Try blecon-hotspotctl --help.\n", what, which);
	return EXIT_USAGE;
}

static int run_command(int n, char **words, const struct arguments *a)
{
	const struct command *command = n > 0 ? find_command(words[0]) : NULL;
	const char *wrong = command ? check_options(command, a) : NULL;

	if (n == 0)
		return refuse("a command is missing", "");
	if (!command)
		return refuse("unknown command: ", words[0]);
	if (n > 1)
		return refuse("too many arguments: ", words[1]);
	if (wrong)
		return refuse(wrong, "");
	if (command->print)
		return run(command, a->socket ? a->socket : DEFAULT_SOCKET, a->json);
	return (int)ctl_identity(a->config ? a->config : DEFAULT_CONFIG, a->csr, a->json);
}

int main(int argc, char **argv)
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
