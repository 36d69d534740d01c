/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local status socket: a Unix stream socket, 0660, for its group. One line asked, one line
 * answered, or a stream from then on. Whatever clients do, it costs the hub no more than this: one
 * request is answered in a turn of the loop, and no more than half the time goes into answers; each
 * client's input, the answers that wait to be read, and what waits for a listener are bounded. A
 * newcomer always gets a place: whoever is stuck longest goes for it.
 */
#pragma once

#include <stdbool.h>

struct loop;
struct status_client;
struct status_socket;

#define STATUS_SOCKET_CLIENTS	       32 /* at once */
#define STATUS_SOCKET_LISTENERS	       8 /* of them */
#define STATUS_SOCKET_REQUEST	       256 /* bytes of a request, with its newline */
#define STATUS_SOCKET_TIME_MS	       10000 /* to ask, from the last answer on, and to read on */
#define STATUS_SOCKET_LISTENER_TIME_MS 60000 /* to read on, for a listener */
/* A client is stuck that has not asked, or read on, for this long. For one that is not, the others
 * wait: to be accepted where there is no place, to be answered where too much waits to be read. */
#define STATUS_SOCKET_ASK_GRACE_MS  25
#define STATUS_SOCKET_READ_GRACE_MS 100
/* Bytes of answers that wait to be read, over the largest of them: then no further one is made. */
#define STATUS_SOCKET_UNREAD (1u << 20)

/* Listens at path; its directory is made, 0755, where only it is missing. What an earlier run
 * left there is replaced. answer: takes a client's request without its newline and returns the
 * line to be sent, without a newline, for the socket to free; NULL: out of memory. It must not
 * depend on who asks: clients that wait with the same request get one answer. Returns 0 or
 * -errno, -EADDRINUSE where another process answers there. */
int status_socket_new(struct loop *loop, const char *path,
		      char *(*answer)(void *userdata, struct status_client *client,
				      const char *request),
		      void *userdata, struct status_socket **ret);
/* Removes the socket file. NULL is fine. */
void status_socket_free(struct status_socket *server);
/* From within answer: after the answer this client gets what is published and nothing else; what
 * it says further is ignored. Returns 0, or -EBUSY where STATUS_SOCKET_LISTENERS listen. */
int status_socket_listen(struct status_client *client);
/* Whether anybody listens. NULL: nobody. */
bool status_socket_has_listeners(const struct status_socket *server);
/* line: JSON without a newline; copied. A listener that reads too slowly misses lines and is told
 * how many, see status_stream.h. NULL: nobody listens. */
void status_socket_publish(struct status_socket *server, const char *line);
