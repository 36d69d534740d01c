/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "agent/util.h"
#include "tests/unit/common.h"

#define DEADLINE_MS 60000 /* of a test, on the clock below */
#define LARGE	    (4u << 20) /* bytes: more than a socket holds */
#define CLIENTS_MAX (STATUS_SOCKET_CLIENTS + 4)

static char path[sizeof(directory) + 16];

/* The clock that everything here runs on can be put forward, and the loop's timer with it. */
static time_t ahead_s;
static int alarm_fd;
static struct itimerspec alarm_at;

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ts);

	ts->tv_sec += ahead_s;
	return r;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *at, struct itimerspec *old)
{
	struct itimerspec real = *at;

	alarm_fd = fd;
	alarm_at = *at;
	real.it_value.tv_sec = MAX(real.it_value.tv_sec - ahead_s, (time_t)1);
	return (int)syscall(SYS_timerfd_settime, fd, flags, &real, old);
}

static void put_forward(time_t seconds)
{
	ahead_s += seconds;
	assert_int_equal(timerfd_settime(alarm_fd, TFD_TIMER_ABSTIME, &alarm_at, NULL), 0);
}

struct fixture {
	struct loop *loop;
	struct status_socket *server;
	struct loop_timer deadline;
	unsigned asked; /* requests answered */
	char requests[16][STATUS_SOCKET_REQUEST + 1]; /* the first of them */
	int fds[CLIENTS_MAX];
};

/* "large" is answered by LARGE bytes, "none" by no answer, all else by itself in brackets. */
static char *on_request(void *userdata, const char *request)
{
	struct fixture *f = userdata;
	char *answer;

	if (f->asked < ARRAY_SIZE(f->requests))
		strcpy(f->requests[f->asked], request);
	f->asked++;
	if (strcmp(request, "none") == 0)
		return NULL;
	if (strcmp(request, "large") == 0) {
		answer = malloc(LARGE + 1);
		assert_non_null(answer);
		for (unsigned i = 0; i < LARGE; i++)
			answer[i] = (char)('a' + i % 23);
		answer[LARGE] = '\0';
		return answer;
	}
	assert_true(asprintf(&answer, "[%s]", request) > 0);
	return answer;
}

static void on_deadline(void *userdata)
{
	(void)userdata;
	fail_msg("what was waited for did not happen");
}

static int name_path(void **state)
{
	if (make_directory(state) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/socket", directory);
	return 0;
}

/* What a test that failed left behind is no reason for the next to fail. */
static int clear(void **state)
{
	(void)state;
	unlink(path);
	return 0;
}

static struct fixture *setup(void)
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

static void teardown(struct fixture *f)
{
	loop_timer_stop(&f->deadline);
	status_socket_free(f->server);
	loop_free(f->loop);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		util_closep(&f->fds[i]);
	assert_int_equal(access(path, F_OK), -1); /* its file went with it */
	free(f);
}

/* Waits for an event and handles it. */
static void turn(struct fixture *f)
{
	assert_true(lws_service(loop_lws(f->loop), 0) >= 0);
}

static int connect_to(const char *where)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, where);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void join(struct fixture *f, unsigned client)
{
	f->fds[client] = connect_to(path);
}

static void leave(struct fixture *f, unsigned client)
{
	close(TAKE_FD(f->fds[client]));
}

static void say(struct fixture *f, unsigned client, const char *text)
{
	assert_int_equal(send(f->fds[client], text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Runs the loop until all of text has come to the client. */
static void hear(struct fixture *f, unsigned client, const char *text)
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

/* Runs the loop until the server has closed the connection; what came before is counted. */
static size_t hear_the_end(struct fixture *f, unsigned client)
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

static void expect_silence(struct fixture *f, unsigned client)
{
	char byte;

	assert_int_equal(recv(f->fds[client], &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

static void answers_lines(void **state)
{
	struct fixture *f = setup();

	(void)state;
	join(f, 0);
	say(f, 0, "status\n");
	hear(f, 0, "[status]\n");
	say(f, 0, "again\r\n");
	hear(f, 0, "[again]\n");
	say(f, 0, "\n");
	hear(f, 0, "[]\n");
	say(f, 0, "\r\n");
	hear(f, 0, "[]\n");
	expect_silence(f, 0);
	assert_int_equal(f->asked, 4);
	teardown(f);
}

static void answers_two_lines_in_one_packet(void **state)
{
	struct fixture *f = setup();

	(void)state;
	join(f, 0);
	say(f, 0, "one\ntwo\nthr");
	hear(f, 0, "[one]\n[two]\n");
	assert_int_equal(f->asked, 2);
	say(f, 0, "ee\n");
	hear(f, 0, "[three]\n");
	assert_int_equal(f->asked, 3);
	teardown(f);
}

/* Many lines together may be longer than one may be. */
static void answers_many_lines_in_one_packet(void **state)
{
	char text[3 * STATUS_SOCKET_REQUEST + 8] = "", expected[4096] = "";
	struct fixture *f = setup();

	(void)state;
	for (unsigned i = 0; strlen(text) + 8 < sizeof(text); i++) {
		sprintf(text + strlen(text), "l%u\n", i);
		sprintf(expected + strlen(expected), "[l%u]\n", i);
	}
	join(f, 0);
	say(f, 0, text);
	hear(f, 0, expected);
	teardown(f);
}

static void refuses_long_requests(void **state)
{
	char line[STATUS_SOCKET_REQUEST + 2], expected[sizeof(line) + 4];
	struct fixture *f = setup();

	(void)state;
	/* The longest: with its newline it fills the room there is. */
	memset(line, 'x', sizeof(line));
	strcpy(line + STATUS_SOCKET_REQUEST - 1, "\n");
	join(f, 0);
	say(f, 0, line);
	snprintf(expected, sizeof(expected), "[%.*s]\n", STATUS_SOCKET_REQUEST - 1, line);
	hear(f, 0, expected);
	/* One byte more. */
	memset(line, 'x', sizeof(line));
	strcpy(line + STATUS_SOCKET_REQUEST, "\n");
	say(f, 0, line);
	assert_int_equal(hear_the_end(f, 0), 0);
	/* The same after a good line, and in pieces. */
	join(f, 1);
	say(f, 1, "good\n");
	say(f, 1, line);
	assert_int_equal(hear_the_end(f, 1), strlen("[good]\n"));
	join(f, 2);
	for (unsigned i = 0; i < STATUS_SOCKET_REQUEST; i++)
		say(f, 2, "y");
	assert_int_equal(hear_the_end(f, 2), 0);
	assert_int_equal(f->asked, 2);
	/* Others are served as before. */
	join(f, 3);
	say(f, 3, "hello\n");
	hear(f, 3, "[hello]\n");
	teardown(f);
}

/* Further clients wait until one of those being served goes. */
static void serves_so_many_at_once(void **state)
{
	struct fixture *f = setup();

	(void)state;
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		join(f, i);
		say(f, i, "me\n");
		if (i < STATUS_SOCKET_CLIENTS)
			hear(f, i, "[me]\n");
	}
	say(f, 0, "barrier\n");
	hear(f, 0, "[barrier]\n");
	assert_int_equal(f->asked, STATUS_SOCKET_CLIENTS + 1);
	for (unsigned i = STATUS_SOCKET_CLIENTS; i < CLIENTS_MAX; i++)
		expect_silence(f, i);
	for (unsigned i = STATUS_SOCKET_CLIENTS; i < CLIENTS_MAX; i++) {
		leave(f, i - STATUS_SOCKET_CLIENTS);
		hear(f, i, "[me]\n");
	}
	assert_int_equal(f->asked, CLIENTS_MAX + 1);
	teardown(f);
}

/* The same place is used again and again; nothing of the client before is left in it. */
static void clients_come_and_go(void **state)
{
	struct fixture *f = setup();

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		join(f, 0);
		say(f, 0, "half a requ");
		if (i % 2)
			leave(f, 0); /* perhaps before it was accepted */
		join(f, 1);
		say(f, 1, "x\n");
		hear(f, 1, "[x]\n");
		leave(f, 1);
		if (i % 2 == 0)
			leave(f, 0);
	}
	assert_int_equal(f->asked, 100);
	teardown(f);
}

/* A client that does not read holds nobody up, and is let go when its time is over. */
static void bears_a_client_that_never_reads(void **state)
{
	struct fixture *f = setup();
	size_t got;

	(void)state;
	join(f, 0);
	say(f, 0, "large\nlarge\n");
	while (f->asked == 0)
		turn(f);
	for (unsigned i = 0; i < 10; i++) {
		join(f, 1);
		say(f, 1, "status\n");
		hear(f, 1, "[status]\n");
		leave(f, 1);
	}
	assert_int_equal(f->asked, 11); /* its second request waits */
	put_forward(STATUS_SOCKET_TIME_MS / 1000 - 2);
	join(f, 1);
	say(f, 1, "status\n");
	hear(f, 1, "[status]\n");
	put_forward(3);
	say(f, 1, "status\n");
	hear(f, 1, "[status]\n");
	got = hear_the_end(f, 0);
	assert_in_range(got, 1, LARGE - 1);
	assert_int_equal(f->asked, 13);
	teardown(f);
}

/* One that reads slowly gets all of it, and then the answer to what it asked before. */
static void sends_large_answers(void **state)
{
	struct fixture *f = setup();
	size_t got = 0;
	char buf[10007];

	(void)state;
	join(f, 0);
	say(f, 0, "large\nsmall\n");
	while (got < LARGE) {
		ssize_t n = recv(f->fds[0], buf, MIN(sizeof(buf), LARGE - got), 0);

		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			turn(f);
			continue;
		}
		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] != (char)('a' + got++ % 23))
				fail_msg("byte %zu is wrong", got - 1);
		}
	}
	hear(f, 0, "\n[small]\n");
	teardown(f);
}

/* One that goes in the middle of its answer. */
static void bears_a_client_that_leaves(void **state)
{
	struct fixture *f = setup();

	(void)state;
	for (unsigned i = 0; i < 2 * STATUS_SOCKET_CLIENTS; i++) {
		unsigned asked = f->asked;

		join(f, 0);
		say(f, 0, "large\n");
		while (f->asked == asked)
			turn(f);
		leave(f, 0);
	}
	join(f, 0);
	say(f, 0, "status\n");
	hear(f, 0, "[status]\n");
	teardown(f);
}

/* One that has nothing more to say is still answered. */
static void answers_a_client_that_only_listens(void **state)
{
	struct fixture *f = setup();

	(void)state;
	join(f, 0);
	say(f, 0, "one\ntwo\n");
	assert_int_equal(shutdown(f->fds[0], SHUT_WR), 0);
	hear(f, 0, "[one]\n[two]\n");
	assert_int_equal(hear_the_end(f, 0), 0);
	teardown(f);
}

static void ends_silent_clients(void **state)
{
	struct fixture *f = setup();

	(void)state;
	join(f, 0);
	join(f, 1);
	say(f, 1, "ask\n");
	hear(f, 1, "[ask]\n");
	put_forward(STATUS_SOCKET_TIME_MS / 1000 - 2);
	/* Half a request is none: it wins no time. A whole one does. */
	say(f, 0, "half");
	say(f, 1, "ask\n");
	hear(f, 1, "[ask]\n");
	put_forward(3);
	assert_int_equal(hear_the_end(f, 0), 0);
	say(f, 1, "ask\n");
	hear(f, 1, "[ask]\n");
	put_forward(STATUS_SOCKET_TIME_MS / 1000 + 1);
	assert_int_equal(hear_the_end(f, 1), 0);
	teardown(f);
}

static void ends_where_there_is_no_answer(void **state)
{
	struct fixture *f = setup();

	(void)state;
	join(f, 0);
	say(f, 0, "none\nmore\n");
	assert_int_equal(hear_the_end(f, 0), 0);
	assert_int_equal(f->asked, 1);
	teardown(f);
}

/* Clients in every state when the server goes. */
static void frees_what_is_under_way(void **state)
{
	struct fixture *f = setup();

	(void)state;
	join(f, 0);
	say(f, 0, "large\n");
	join(f, 1);
	say(f, 1, "half");
	join(f, 2);
	say(f, 2, "x\n");
	hear(f, 2, "[x]\n");
	join(f, 3); /* not accepted yet */
	teardown(f);
	status_socket_free(NULL);
}

static void is_for_its_user_and_group(void **state)
{
	mode_t masks[] = {0, 077, 0177};
	struct stat st;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		mode_t mask = umask(masks[i]);
		struct fixture *f = setup();

		umask(mask);
		assert_int_equal(stat(path, &st), 0);
		assert_true(S_ISSOCK(st.st_mode));
		assert_int_equal(st.st_mode & 07777, 0660);
		teardown(f);
	}
}

static int try(struct fixture *f, const char *where)
{
	struct status_socket *server = NULL;
	int r = status_socket_new(f->loop, where, on_request, f, &server);

	status_socket_free(server);
	return r;
}

static void makes_one_directory(void **state)
{
	char deep[sizeof(path) + 16];
	struct fixture *f = setup();
	struct stat st;
	mode_t mask = umask(022);

	(void)state;
	snprintf(deep, sizeof(deep), "%s/a/b", directory);
	assert_int_equal(try(f, deep), 0);
	*strrchr(deep, '/') = '\0';
	assert_int_equal(stat(deep, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	rmdir(deep);
	snprintf(deep, sizeof(deep), "%s/a/b/c", directory);
	assert_int_equal(try(f, deep), -ENOENT);
	umask(mask);
	teardown(f);
}

static void paths_have_a_length(void **state)
{
	struct fixture *f = setup();
	char longest[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];

	(void)state;
	memset(longest, 'x', sizeof(longest));
	memcpy(longest, directory, strlen(directory));
	longest[strlen(directory)] = '/';
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(try(f, longest), -ENAMETOOLONG);
	longest[sizeof(longest) - 2] = '\0';
	assert_int_equal(try(f, longest), 0);
	teardown(f);
}

/* A listening socket of our own at path. */
static int listen_here(int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void replaces_a_dead_socket(void **state)
{
	struct fixture *f;

	(void)state;
	close(listen_here(1));
	assert_int_equal(access(path, F_OK), 0);
	f = setup();
	join(f, 0);
	say(f, 0, "x\n");
	hear(f, 0, "[x]\n");
	teardown(f);
}

static void leaves_a_living_socket(void **state)
{
	struct fixture *f = setup();
	int fd, client;

	(void)state;
	assert_int_equal(try(f, path), -EADDRINUSE);
	join(f, 0);
	say(f, 0, "x\n");
	hear(f, 0, "[x]\n");
	teardown(f);

	/* One that is too busy to take a further client. */
	fd = listen_here(0);
	client = connect_to(path);
	f = calloc(1, sizeof(*f));
	assert_non_null(f);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(try(f, path), -EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
	loop_free(f->loop);
	free(f);
	close(client);
	close(fd);
	unlink(path);
}

static void leaves_what_is_no_socket(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char text[8] = "";
	int fd;

	(void)state;
	assert_non_null(f);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(util_replace_file(path, 0600, "keep", 4), 0);
	assert_int_equal(try(f, path), -EEXIST);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 4);
	assert_string_equal(text, "keep");
	close(fd);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(try(f, path), -EEXIST);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(symlink("nowhere", path), 0);
	assert_int_equal(try(f, path), -EEXIST);
	unlink(path);
	loop_free(f->loop);
	free(f);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, clear, clear)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answers_lines),
		TEST(answers_two_lines_in_one_packet),
		TEST(answers_many_lines_in_one_packet),
		TEST(refuses_long_requests),
		TEST(serves_so_many_at_once),
		TEST(clients_come_and_go),
		TEST(bears_a_client_that_never_reads),
		TEST(sends_large_answers),
		TEST(bears_a_client_that_leaves),
		TEST(answers_a_client_that_only_listens),
		TEST(ends_silent_clients),
		TEST(ends_where_there_is_no_answer),
		TEST(frees_what_is_under_way),
		TEST(is_for_its_user_and_group),
		TEST(makes_one_directory),
		TEST(paths_have_a_length),
		TEST(replaces_a_dead_socket),
		TEST(leaves_a_living_socket),
		TEST(leaves_what_is_no_socket),
	};

	return cmocka_run_group_tests_name("status_socket", tests, name_path, remove_directory);
}
