/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_socket.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/loop.h"
#include "agent/status_client.h"
#include "agent/status_path.h"
#include "agent/util.h"

/* Until accepting is tried again where the system would not. */
#define RETRY_MS 1000
/* Until it is looked again whether another answer may wait to be read. */
#define FULL_MS 5
/* An answer of so many bytes took some times as much to make, which glibc keeps by itself; it is
 * given back when no such answer was asked for during this. */
#define LARGE_ANSWER 32768
#define TIDY_MS	     1000

struct status_socket {
	struct loop *loop; /* not owned */
	int fd;
	struct loop_fd watch;
	struct loop_timer retry; /* runs while nobody is accepted */
	struct sockaddr_un address;
	char *(*answer)(void *userdata, struct status_client *client, const char *request);
	void *userdata; /* not owned */
	struct list waiting; /* clients, the first to be answered first */
	struct loop_timer turn; /* runs until the next request may be answered */
	struct loop_timer tidy; /* runs until memory is given back */
	bool answering; /* one of them right now */
	unsigned n_listeners;
	struct status_client clients[STATUS_SOCKET_CLIENTS];
};

#define FOREACH_CLIENT(c, server)                                                                  \
	for (struct status_client *c = (server)->clients;                                          \
	     c < (server)->clients + STATUS_SOCKET_CLIENTS; c++)

static void accept_again(void *userdata)
{
	struct status_socket *server = userdata;

	loop_timer_stop(&server->retry);
	loop_fd_set(&server->watch, EPOLLIN);
}

static void on_end(struct status_client *client, const char *why)
{
	client->server->n_listeners -= client->listens;
	status_client_close(client);
	accept_again(client->server);
	if (why)
		log_debug("status socket: a client is closed: %s", why);
}

/* --- Answers --- */

/* Whether one more answer may wait. What is shared counts once: each reader has its part of it. Who
 * does not read is dropped for it; who has just had an answer is waited for. */
static bool make_room(struct status_socket *server)
{
	for (;;) {
		struct status_client *oldest = NULL;
		size_t total = 0, largest = 0;

		FOREACH_CLIENT(c, server)
		{
			if (!c->answer)
				continue;
			total += c->answer->len / c->answer->readers;
			largest = MAX(largest, c->answer->len);
			if (!oldest || c->moved_ms < oldest->moved_ms)
				oldest = c;
		}
		if (total <= largest + STATUS_SOCKET_UNREAD)
			return true;
		if (!status_client_is_stuck(oldest, util_now_ms()))
			return false;
		on_end(oldest, "too much waits to be read");
	}
}

static void take_same(struct status_socket *server, const char *request, struct list *ret)
{
	char other[STATUS_SOCKET_REQUEST];

	LIST_FOREACH_SAFE (l, &server->waiting) {
		status_client_get_line(LIST_ENTRY(l, struct status_client, turn), other);
		if (strcmp(request, other) != 0)
			continue;
		list_remove(l);
		list_append(ret, l);
	}
}

static void on_tidy(void *userdata)
{
	(void)userdata;
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

/* The request's answer goes to its client, and to all others that wait with the same one. */
static void give(struct status_socket *server, struct status_client *client, const char *request,
		 char *text)
{
	struct status_answer *answer = calloc(1, sizeof(*answer));
	struct list readers;

	if (!answer) {
		free(text);
		on_end(client, "out of memory");
		return;
	}
	answer->readers = 1; /* we */
	answer->text = text;
	answer->len = strlen(text);
	answer->text[answer->len++] = '\n'; /* in the place of the NUL */
	list_init(&readers);
	list_append(&readers, &client->turn);
	if (answer->len >= LARGE_ANSWER)
		loop_timer_start(&server->tidy, TIDY_MS);
	if (!client->listens)
		take_same(server, request, &readers);
	/* Who has more to ask waits for another turn then. */
	while (!list_empty(&readers)) {
		struct status_client *reader = LIST_ENTRY(readers.next, struct status_client, turn);

		list_remove(&reader->turn);
		status_client_answer(reader, answer);
	}
	status_answer_unref(answer);
}

static void answer_next(struct status_socket *server)
{
	struct status_client *client = LIST_ENTRY(server->waiting.next, struct status_client, turn);
	char request[STATUS_SOCKET_REQUEST], *text;
	uint64_t began_ms = util_now_ms();

	server->answering = true;
	list_remove(&client->turn);
	status_client_get_line(client, request);
	text = server->answer(server->userdata, client, request);
	if (text)
		give(server, client, request, text);
	else
		on_end(client, "out of memory");
	server->answering = false;
	/* As long as that took, all else has the time. */
	loop_timer_start(&server->turn, util_now_ms() - began_ms);
}

static void on_turn(void *userdata)
{
	struct status_socket *server = userdata;

	if (list_empty(&server->waiting))
		return;
	if (make_room(server))
		answer_next(server);
	else
		loop_timer_start(&server->turn, FULL_MS);
}

static void on_line(struct status_client *client)
{
	struct status_socket *server = client->server;

	list_append(&server->waiting, &client->turn);
	if (!server->turn.armed && !server->answering)
		on_turn(server);
}

/* --- Places --- */

static struct status_client *longest_stuck(struct status_socket *server)
{
	struct status_client *longest = NULL;
	uint64_t now_ms = util_now_ms();

	FOREACH_CLIENT(c, server)
	{
		if (status_client_is_stuck(c, now_ms) &&
		    (!longest || c->moved_ms < longest->moved_ms))
			longest = c;
	}
	return longest;
}

/* Of those that wait for a further answer, the one that had its last just now: where all are
 * busy, one that asks without end does not keep out who has had nothing. */
static struct status_client *last_served(struct status_socket *server)
{
	struct status_client *last = NULL;

	FOREACH_CLIENT(c, server)
	{
		if (c->state == STATUS_CLIENT_WAITING && c->served &&
		    (!last || c->moved_ms > last->moved_ms))
			last = c;
	}
	return last;
}

/* NULL: all are being served. */
static struct status_client *find_place(struct status_socket *server)
{
	struct status_client *client;

	FOREACH_CLIENT(c, server)
	{
		if (c->state == STATUS_CLIENT_FREE)
			return c;
	}
	client = longest_stuck(server);
	if (!client)
		client = last_served(server);
	if (client)
		on_end(client, "another needs its place");
	return client;
}

static void accept_later(struct status_socket *server, uint64_t after_ms)
{
	loop_fd_set(&server->watch, 0);
	loop_timer_start(&server->retry, after_ms);
}

static void on_connect(void *userdata, uint32_t revents)
{
	struct status_socket *server = userdata;
	struct status_client *client = find_place(server);
	int fd;

	(void)revents;
	if (!client) {
		accept_later(server, STATUS_SOCKET_ASK_GRACE_MS);
		return;
	}
	fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
			log_debug("status socket: cannot accept: %s", strerror(errno));
			accept_later(server, RETRY_MS);
		}
		return;
	}
	if (status_client_open(client, server->loop, fd) < 0)
		close(fd);
}

/* --- Streams --- */

int status_socket_listen(struct status_client *client)
{
	if (client->server->n_listeners == STATUS_SOCKET_LISTENERS)
		return -EBUSY;
	client->server->n_listeners++;
	client->listens = true;
	return 0;
}

bool status_socket_has_listeners(const struct status_socket *server)
{
	return server && server->n_listeners > 0;
}

void status_socket_publish(struct status_socket *server, const char *line)
{
	if (!server)
		return;
	FOREACH_CLIENT(c, server)
	{
		if (c->listens)
			status_client_publish(c, line);
	}
}

/* --- The socket --- */

static int start(struct status_socket *server)
{
	int fd = status_path_listen(&server->address);

	if (fd < 0)
		return fd;
	server->fd = fd;
	return loop_fd_add(server->loop, &server->watch, fd, EPOLLIN, on_connect, server);
}

int status_socket_new(struct loop *loop, const char *path,
		      char *(*answer)(void *userdata, struct status_client *client,
				      const char *request),
		      void *userdata, struct status_socket **ret)
{
	struct status_socket *server;
	int r;

	if (strlen(path) >= sizeof(server->address.sun_path))
		return -ENAMETOOLONG;
	server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	server->loop = loop;
	server->fd = -1;
	server->address.sun_family = AF_UNIX;
	strcpy(server->address.sun_path, path);
	server->answer = answer;
	server->userdata = userdata;
	list_init(&server->waiting);
	loop_timer_init(loop, &server->turn, on_turn, server);
	loop_timer_init(loop, &server->retry, accept_again, server);
	loop_timer_init(loop, &server->tidy, on_tidy, server);
	FOREACH_CLIENT(c, server)
	{
		c->server = server;
		c->fd = -1;
		c->on_line = on_line;
		c->on_end = on_end;
		loop_timer_init(loop, &c->timer, status_client_on_timeout, c);
	}
	r = start(server);
	if (r < 0) {
		util_closep(&server->fd);
		free(server);
		return r;
	}
	*ret = server;
	return 0;
}

void status_socket_free(struct status_socket *server)
{
	if (!server)
		return;
	FOREACH_CLIENT(c, server)
	{
		if (c->state != STATUS_CLIENT_FREE)
			status_client_close(c);
	}
	loop_timer_stop(&server->turn);
	loop_timer_stop(&server->retry);
	loop_timer_stop(&server->tidy);
	loop_fd_remove(&server->watch);
	close(server->fd);
	unlink(server->address.sun_path);
	free(server);
}
