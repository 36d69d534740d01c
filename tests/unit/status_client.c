/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/status_client.h"

#include <libwebsockets.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/un.h>
#include <cmocka.h>

char path[sizeof(directory) + 16];

static char *make_large(size_t len)
{
	char *answer = malloc(len + 1);

	assert_non_null(answer);
	for (size_t i = 0; i < len; i++)
		answer[i] = (char)('a' + i % 23);
	answer[len] = '\0';
	return answer;
}

char *on_request(void *userdata, struct status_client *client, const char *request)
{
	struct fixture *f = userdata;
	char *answer;

	if (f->asked < ARRAY_SIZE(f->requests))
		strcpy(f->requests[f->asked], request);
	f->asked++;
	if (strcmp(request, "none") == 0)
		return NULL;
	if (strncmp(request, "large", 5) == 0)
		return make_large(LARGE);
	if (strncmp(request, "medium", 6) == 0)
		return make_large(MEDIUM);
	if (strcmp(request, "listen") == 0)
		return strdup(status_socket_listen(client) == 0 ? "[listening]" : "[busy]");
	assert_true(asprintf(&answer, "[%s]", request) > 0);
	return answer;
}

static void on_deadline(void *userdata)
{
	(void)userdata;
	fail_msg("what was waited for did not happen");
}

int name_path(void **state)
{
	if (make_directory(state) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/socket", directory);
	return 0;
}

int clear(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

struct fixture *fixture_new(void)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		f->fds[i] = -1;
	assert_int_equal(loop_new(&f->loop), 0);
	loop_timer_init(f->loop, &f->deadline, on_deadline, f);
	loop_timer_start(&f->deadline, DEADLINE_MS);
	assert_int_equal(status_socket_new(f->loop, path, on_request, f, &f->server), 0);
	return f;
}

void fixture_free(struct fixture *f)
{
	loop_timer_stop(&f->deadline);
	status_socket_free(f->server);
	loop_free(f->loop);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		util_closep(&f->fds[i]);
	assert_int_equal(access(path, F_OK), -1); /* its file went with it */
	free(f);
}

void turn(struct fixture *f)
{
	assert_true(lws_service(loop_lws(f->loop), 0) >= 0);
}

static void on_passed(void *userdata)
{
	*(bool *)userdata = true;
}

void pass_ms(struct fixture *f, uint64_t ms)
{
	struct loop_timer timer;
	bool passed = false;

	loop_timer_init(f->loop, &timer, on_passed, &passed);
	loop_timer_start(&timer, ms);
	while (!passed)
		turn(f);
}

int connect_to(const char *where)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, where);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

void client_join(struct fixture *f, unsigned client)
{
	f->fds[client] = connect_to(path);
}

void client_leave(struct fixture *f, unsigned client)
{
	close(TAKE_FD(f->fds[client]));
}

void client_say(struct fixture *f, unsigned client, const char *text)
{
	assert_int_equal(send(f->fds[client], text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

void client_hear(struct fixture *f, unsigned client, const char *text)
{
	size_t len = strlen(text), got = 0;
	char buf[4096];

	assert_true(len < sizeof(buf));
	while (got < len) {
		ssize_t n = recv(f->fds[client], buf + got, len - got, 0);

		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			turn(f);
			continue;
		}
		if (n == 0)
			fail_msg("closed, after \"%.*s\"", (int)got, buf);
		got += (size_t)n;
	}
	buf[got] = '\0';
	assert_string_equal(buf, text);
}

void client_ask(struct fixture *f, unsigned client, const char *request)
{
	char line[STATUS_SOCKET_REQUEST + 2];

	snprintf(line, sizeof(line), "%s\n", request);
	client_say(f, client, line);
	snprintf(line, sizeof(line), "[%s]\n", request);
	client_hear(f, client, line);
}

bool client_is_there(struct fixture *f, unsigned client)
{
	struct pollfd fd = {.fd = f->fds[client], .events = POLLRDHUP};

	assert_true(poll(&fd, 1, 0) >= 0);
	return fd.revents == 0;
}

size_t client_hear_the_end(struct fixture *f, unsigned client)
{
	static char buf[65536];
	size_t got = 0;

	for (;;) {
		ssize_t n = recv(f->fds[client], buf, sizeof(buf), 0);

		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return got;
		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			turn(f);
		} else {
			got += (size_t)n;
		}
	}
}

void expect_silence(struct fixture *f, unsigned client)
{
	char byte;

	assert_int_equal(recv(f->fds[client], &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}
