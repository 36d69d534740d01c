/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local status socket: a Unix stream socket, 0660. One line asked, one line answered. Clients
 * are bounded in number, input and time.
 */
#pragma once

struct loop;
struct status_socket;

#define STATUS_SOCKET_CLIENTS 8 /* at once; further ones wait to be accepted */
#define STATUS_SOCKET_REQUEST 256 /* bytes of a request */
#define STATUS_SOCKET_TIME_MS 10000 /* from a client's last request to its end */

/* Listens at path; its directory is made, 0755, where only it is missing. What an earlier run left
 * there is replaced. answer: takes a request without its newline and returns the line to be sent,
 * without a newline, for the socket to free; NULL: out of memory. Returns 0 or -errno, -EADDRINUSE
 * where another process answers there. */
int status_socket_new(struct loop *loop, const char *path,
		      char *(*answer)(void *userdata, const char *request), void *userdata,
		      struct status_socket **ret);
/* Removes the socket file. NULL is fine. */
void status_socket_free(struct status_socket *server);
