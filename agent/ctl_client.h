/* SPDX-License-Identifier: Apache-2.0 */
/* A client of the daemon's status socket. Blocks, for CTL_CLIENT_TIMEOUT_S at most. */
#pragma once

#include <stddef.h>

#include <json-c/json.h>

#include "agent/ctl.h"

#define CTL_CLIENT_TIMEOUT_S 5
#define CTL_CLIENT_ERROR     512 /* bytes of an error text, NUL included */

struct ctl_client {
	int fd; /* -1: not connected */
	char *buffer; /* owned: what was read, the last line first */
	size_t len, size; /* bytes in it, and of it */
	size_t used; /* bytes of the line given out last */
};

/* Returns 0, or -errno with ret_error naming the path and what to do. */
int ctl_client_open(struct ctl_client *client, const char *path, char ret_error[CTL_CLIENT_ERROR]);
/* All zero is fine, and what ctl_client_open has failed with. */
void ctl_client_close(struct ctl_client *client);
/* Asks, and returns the answer, a line without its newline, valid until the next call; NULL with
 * ret_error. */
const char *ctl_client_ask(struct ctl_client *client, const char *request,
			   char ret_error[CTL_CLIENT_ERROR]);
/* The next line, without a limit of time: of a stream. */
const char *ctl_client_next(struct ctl_client *client, char ret_error[CTL_CLIENT_ERROR]);

/* Asks one request over a connection of its own. Returns an object for json_object_put, or NULL after
 * saying why on standard error; what the daemon calls an error is one. ret_line: the answer as it
 * came, to be freed; NULL: not wanted. */
struct json_object *ctl_client_request(const struct ctl *ctl, const char *request, char **ret_line);
