/* SPDX-License-Identifier: Apache-2.0 */
/* The live screen: asks the daemon each second, and draws what changed. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/ctl_client.h"
#include "agent/ctl_commands.h"
#include "agent/ctl_terminal.h"
#include "agent/ctl_watch_screen.h"
#include "agent/util.h"

#define INTERVAL_MS 1000

static volatile sig_atomic_t ended, resized, stopped;

static void on_signal(int signo)
{
	if (signo == SIGWINCH)
		resized = 1;
	else if (signo == SIGTSTP)
		stopped = 1;
	else
		ended = 1;
}

static void catch_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH, SIGTSTP};
	const struct sigaction action = {.sa_handler = on_signal}; /* poll() is interrupted */

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &action, NULL);
}

/* Whether there is an answer; else screen->error says why not. */
static bool ask(struct ctl_client *client, const char *request, struct ctl_watch_screen *screen,
		struct json_object **ret)
{
	const char *line = ctl_client_ask(client, request, screen->error);

	*ret = line ? json_tokener_parse(line) : NULL;
	if (line && !*ret)
		snprintf(screen->error, sizeof(screen->error), "the answer is no JSON object");
	return *ret != NULL;
}

/* Asks all that the screen shows, over a connection of its own: a place at the socket is not kept. */
static void look(const char *path, struct ctl_watch_screen *screen)
{
	struct ctl_client client;
	struct json_object *status = NULL, *devices = NULL;

	if (ctl_client_open(&client, path, screen->error) < 0)
		return;
	if (ask(&client, "status", screen, &status) && ask(&client, "devices", screen, &devices))
		ctl_watch_screen_take(screen, status, devices, util_now_ms());
	else
		json_object_put(status);
	ctl_client_close(&client);
}

static void draw(struct ctl_terminal *terminal, struct ctl_watch_screen *screen)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return;
	ctl_watch_screen_print(screen, out, terminal->columns, terminal->rows);
	fclose(out);
	ctl_terminal_draw(terminal, text);
}

/* As any program does that Ctrl-Z stops. Returns whether the terminal is ours again. */
static bool stop(struct ctl_terminal *terminal)
{
	ctl_terminal_close(terminal);
	stopped = 0;
	raise(SIGSTOP);
	return ctl_terminal_open(terminal) == 0;
}

/* Returns whether to go on. */
static bool take_key(struct ctl_watch_screen *screen)
{
	char key;

	if (read(STDIN_FILENO, &key, 1) != 1)
		return true;
	if (key == 's')
		screen->sort = (screen->sort + 1) % (CTL_SORT_ID + 1);
	return key != 'q' && key != 'Q';
}

/* Until the next look: takes keys, sizes and signals. Returns whether to go on. */
static bool wait(struct ctl_terminal *terminal, struct ctl_watch_screen *screen, uint64_t until_ms)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

	for (;;) {
		uint64_t now_ms = util_now_ms();
		int n = now_ms < until_ms ? poll(&input, 1, (int)(until_ms - now_ms)) : 0;

		if (ended || (n > 0 && input.revents & (POLLHUP | POLLERR)))
			return false;
		if (stopped && !stop(terminal))
			return false;
		if (n > 0 && !take_key(screen))
			return false;
		if (resized)
			ctl_terminal_resize(terminal);
		if (n == 0)
			return true;
		resized = 0;
		draw(terminal, screen);
	}
}

static enum exit_code watch(const struct ctl *ctl)
{
	struct ctl_watch_screen screen = {.sort = ctl->sort};
	struct ctl_terminal terminal;
	uint64_t until_ms;

	if (ctl_terminal_open(&terminal) < 0) {
		fputs("blecon-hotspotctl: watch needs a terminal: see status\n", stderr);
		return EXIT_USAGE;
	}
	do {
		until_ms = util_now_ms() + INTERVAL_MS;
		look(ctl->socket, &screen);
		draw(&terminal, &screen);
	} while (wait(&terminal, &screen, until_ms));
	ctl_terminal_close(&terminal);
	ctl_watch_screen_done(&screen);
	return EXIT_OK;
}

/* The status again and again, a line each. */
static enum exit_code watch_json(const struct ctl *ctl)
{
	char error[CTL_CLIENT_ERROR];
	struct ctl_client client;
	const char *line = NULL;
	bool open = ctl_client_open(&client, ctl->socket, error) == 0;

	while (open && !ended && (line = ctl_client_ask(&client, "status", error))) {
		if (puts(line) < 0 || fflush(stdout) < 0)
			break; /* main says why */
		poll(NULL, 0, INTERVAL_MS);
	}
	if (open)
		ctl_client_close(&client);
	if (ended || ferror(stdout))
		return EXIT_OK;
	fprintf(stderr, "blecon-hotspotctl: %s\n", error);
	return EXIT_FAILED;
}

enum exit_code ctl_watch(const struct ctl *ctl)
{
	catch_signals();
	return ctl->json ? watch_json(ctl) : watch(ctl);
}
