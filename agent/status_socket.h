/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local status socket: a Unix stream socket, 0660. One line asked, one line answered. Clients
 * are bounded in number, input and time.
 */
#pragma once

#include <stdbool.h>

struct loop;
struct status_client;
struct status_socket;

#define STATUS_SOCKET_CLIENTS 8 /* at once; further ones wait to be accepted */
#define STATUS_SOCKET_REQUEST 256 /* bytes of a request */
#define STATUS_SOCKET_TIME_MS 10000 /* from a client's last request to its end */

/* Listens at path; its directory is made, 0755, where only it is missing. What an earlier run left
 * there is replaced. answer: takes a client's request without its newline and returns the line to be
 * sent, without a newline, for the socket to free; NULL: out of memory. Returns 0 or -errno, -EADDRINUSE
 * where another process answers there. */
int status_socket_new(struct loop *loop, const char *path,
		      char *(*answer)(void *userdata, struct status_client *client,
				      const char *request),
		      void *userdata, struct status_socket **ret);
/* Removes the socket file. NULL is fine. */
void status_socket_free(struct status_socket *server);
/* From within answer: what is published goes to this client from now on, after the answer. */
void status_socket_listen(struct status_client *client);
/* Whether anybody listens. NULL: nobody. */
bool status_socket_has_listeners(const struct status_socket *server);
/* line: JSON without a newline; copied. */
void status_socket_publish(struct status_socket *server, const char *line);
