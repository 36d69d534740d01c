/* SPDX-License-Identifier: Apache-2.0 */
/* One client of the status socket: what it says, and what goes to it. Whose turn it is and who must
 * go is its owner's business. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/loop.h"
#include "agent/status_socket.h"
#include "agent/status_stream.h"

enum status_client_state {
	STATUS_CLIENT_FREE, /* a place that nobody has */
	STATUS_CLIENT_ASKING, /* there is no whole line of it */
	STATUS_CLIENT_WAITING, /* there is one, for its turn */
	STATUS_CLIENT_READING, /* an answer is on its way to it */
	STATUS_CLIENT_LISTENING, /* what is published goes to it */
};

/* One line. Those who asked the same at the same time have it together. */
struct status_answer {
	unsigned readers; /* it goes with the last */
	size_t len;
	char *text; /* owned; not NUL-terminated */
};

struct status_client {
	struct list turn; /* in its owner's list, while it waits */
	enum status_client_state state;
	bool listens; /* after this answer, or now */
	bool served; /* has had an answer */
	int fd; /* owned */
	struct loop_fd watch;
	struct loop_timer timer;
	char request[STATUS_SOCKET_REQUEST]; /* what was read and not yet answered */
	size_t request_len;
	struct status_answer *answer; /* one of its readers; NULL but while it reads */
	size_t sent; /* bytes of the answer */
	struct status_stream stream;
	uint64_t moved_ms; /* when it came, last read something, or got something to read */
	struct status_socket *server; /* not owned */
	/* A whole line is there: it waits now. */
	void (*on_line)(struct status_client *client);
	/* It is of no use any more: to be closed. why: NULL where it left. */
	void (*on_end)(struct status_client *client, const char *why);
};

/* fd is taken over if it returns 0. server, on_line, on_end and the initialised timer are set. */
int status_client_open(struct status_client *client, struct loop *loop, int fd);
/* Frees its place; not its watch's memory. */
void status_client_close(struct status_client *client);
void status_client_on_timeout(void *userdata);
/* The first line of one that waits, without its end. NUL-terminated. */
void status_client_get_line(const struct status_client *client, char ret[STATUS_SOCKET_REQUEST]);
/* That line is answered by this, which gets a reader more and is on its way. */
void status_client_answer(struct status_client *client, struct status_answer *answer);
/* NULL is fine. */
void status_answer_unref(struct status_answer *answer);
/* line: without a newline; copied. */
void status_client_publish(struct status_client *client, const char *line);
/* Whether it has not moved for its grace, although it is its turn to say or to read something. */
bool status_client_is_stuck(const struct status_client *client, uint64_t now_ms);
