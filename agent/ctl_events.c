/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/ctl_client.h"
#include "agent/ctl_commands.h"
#include "agent/ctl_screens.h"
#include "agent/ctl_text.h"
#include "agent/util.h"

#define BEFORE_STREAM 10 /* events shown before those to come */

/* Of the signal handler. */
static volatile sig_atomic_t stream_fd = -1;
static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
	(void)number;
	interrupted = 1;
	shutdown(stream_fd, SHUT_RDWR); /* what waits for it gets its end */
}

static size_t count_events(struct json_object *list)
{
	size_t n = 0;

	for (size_t i = 0; i < ctl_length(list); i++)
		n += ctl_has(ctl_item(list, i), "event");
	return n;
}

/* The last ones, at most so many. */
static void print_past(const struct ctl *ctl, const struct ctl_page *page, struct json_object *list,
		       size_t most)
{
	size_t n = count_events(list);

	for (size_t i = 0; i < ctl_length(list); i++) {
		struct json_object *line = ctl_item(list, i);

		if (!ctl_has(line, "event") || n-- > most)
			continue;
		if (ctl->json)
			ctl_print_json(line);
		else
			ctl_print_event(page, line);
	}
}

static bool is_same(struct json_object *a, struct json_object *b)
{
	static const char *const keys[] = {"time", "event", "level", "text"};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (strcmp(ctl_text(a, keys[i]), ctl_text(b, keys[i])) != 0)
			return false;
	}
	return true;
}

/* The stream was opened before the log was asked for, so its first events may be the log's last. *from
 * is where to look on; at the length of the list there is nothing more to expect. */
static bool is_past(struct json_object *list, size_t *from, struct json_object *event)
{
	for (size_t i = *from; i < ctl_length(list); i++) {
		if (!is_same(ctl_item(list, i), event))
			continue;
		*from = i + 1;
		return true;
	}
	*from = ctl_length(list);
	return false;
}

/* Returns when there is nothing more, with ret_error. */
static void print_stream(const struct ctl *ctl, struct ctl_client *stream, struct json_object *list,
			 char ret_error[CTL_CLIENT_ERROR])
{
	struct ctl_page page;
	const char *line;
	size_t from = 0;

	ctl_page_init(&page, stdout);
	print_past(ctl, &page, list, BEFORE_STREAM);
	while (!ferror(stdout) && (line = ctl_client_next(stream, ret_error))) {
		struct json_object *event = json_tokener_parse(line);
		bool lost = ctl_has(event, "count");

		if (!event || (!lost && is_past(list, &from, event)))
			; /* nothing new */
		else if (ctl->json)
			puts(line);
		else
			ctl_print_event(&page, event);
		json_object_put(event);
	}
}

/* Has the events sent to stream from now on. Returns 0, or -1 after saying why not. */
static int listen_to(const struct ctl *ctl, struct ctl_client *stream)
{
	/* A second Ctrl-C ends it even where standard output takes nothing. */
	const struct sigaction action = {.sa_handler = on_signal,
					 .sa_flags = (int)(SA_RESTART | SA_RESETHAND)};
	char error[CTL_CLIENT_ERROR];
	struct json_object *o = NULL;
	const char *line = NULL;
	bool refused;

	if (ctl_client_open(stream, ctl->socket, error) == 0) {
		stream_fd = stream->fd;
		sigaction(SIGINT, &action, NULL);
		sigaction(SIGTERM, &action, NULL);
		line = ctl_client_ask(stream, "events", error);
	}
	o = line ? json_tokener_parse(line) : NULL;
	refused = !line || ctl_has(o, "error");
	if (refused && !interrupted)
		fprintf(stderr, "blecon-hotspotctl: %s\n", line ? ctl_text(o, "error") : error);
	json_object_put(o);
	return refused ? -1 : 0;
}

static enum exit_code follow(const struct ctl *ctl)
{
	char error[CTL_CLIENT_ERROR];
	struct ctl_client stream;
	struct json_object *o = NULL;

	if (listen_to(ctl, &stream) == 0)
		o = ctl_client_request(ctl, "log", NULL);
	if (o) {
		print_stream(ctl, &stream, ctl_get(o, "log"), error);
		if (!interrupted && !ferror(stdout))
			fputs("blecon-hotspotctl: the daemon has ended\n", stderr);
	}
	json_object_put(o);
	stream_fd = -1;
	ctl_client_close(&stream);
	return interrupted ? EXIT_OK : EXIT_FAILED;
}

enum exit_code ctl_events(const struct ctl *ctl)
{
	struct json_object *o;
	struct ctl_page page;

	/* Each event is there when it happens, in a pipe too. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (ctl->follow)
		return follow(ctl);
	o = ctl_client_request(ctl, "log", NULL);
	if (!o)
		return EXIT_FAILED;
	ctl_page_init(&page, stdout);
	print_past(ctl, &page, ctl_get(o, "log"), SIZE_MAX);
	if (count_events(ctl_get(o, "log")) == 0 && !ctl->json)
		ctl_line(&page, 0, "No event yet.");
	json_object_put(o);
	return EXIT_OK;
}
