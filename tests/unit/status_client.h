/* SPDX-License-Identifier: Apache-2.0 */
/* A status socket that answers in the test's own loop, and clients of it. */
#pragma once

#include <stdlib.h>

#include "agent/loop.h"
#include "agent/status_socket.h"
#include "tests/unit/common.h"

#define DEADLINE_MS 60000 /* of a test, on its own clock */
#define LARGE	    (4u << 20) /* bytes: more than a socket holds */
#define MEDIUM	    (512u << 10) /* also, and two of them over the largest are not too much */
#define CLIENTS_MAX (STATUS_SOCKET_CLIENTS + 4)
#define TEST(f)	    cmocka_unit_test_setup_teardown(f, clear, clear)

extern char path[sizeof(directory) + 16]; /* of the socket */

struct fixture {
	struct loop *loop;
	struct status_socket *server;
	struct loop_timer deadline;
	unsigned asked; /* requests answered */
	char requests[16][STATUS_SOCKET_REQUEST + 1]; /* the first of them */
	int fds[CLIENTS_MAX];
};

/* "large..." is answered by LARGE bytes, "medium..." by MEDIUM, "none" by no answer, "listen" listens,
 * all else is answered by itself in brackets. */
char *on_request(void *userdata, struct status_client *client, const char *request);
int name_path(void **state);
/* What a test that failed left behind is no reason for the next to fail. */
int clear(void **state);
struct fixture *fixture_new(void);
void fixture_free(struct fixture *f);
/* Waits for an event and handles it. */
void turn(struct fixture *f);
/* Runs the loop for so long. */
void pass_ms(struct fixture *f, uint64_t ms);
int connect_to(const char *where);
void client_join(struct fixture *f, unsigned client);
void client_leave(struct fixture *f, unsigned client);
void client_say(struct fixture *f, unsigned client, const char *text);
/* Runs the loop until all of text has come to the client. */
void client_hear(struct fixture *f, unsigned client, const char *text);
/* Says a line and hears its answer. */
void client_ask(struct fixture *f, unsigned client, const char *request);
/* Whether it is still connected; what it has not heard stays. */
bool client_is_there(struct fixture *f, unsigned client);
/* Runs the loop until the server has closed the connection; what came before is counted. */
size_t client_hear_the_end(struct fixture *f, unsigned client);
void expect_silence(struct fixture *f, unsigned client);
