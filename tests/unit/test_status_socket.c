/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_socket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "agent/util.h"
#include "tests/unit/common.h"
#include "tests/unit/status_client.h"

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

static void answers_lines(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	client_join(f, 0);
	client_say(f, 0, "status\n");
	client_hear(f, 0, "[status]\n");
	client_say(f, 0, "again\r\n");
	client_hear(f, 0, "[again]\n");
	client_say(f, 0, "\n");
	client_hear(f, 0, "[]\n");
	client_say(f, 0, "\r\n");
	client_hear(f, 0, "[]\n");
	expect_silence(f, 0);
	assert_int_equal(f->asked, 4);
	fixture_free(f);
}

static void answers_two_lines_in_one_packet(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	client_join(f, 0);
	client_say(f, 0, "one\ntwo\nthr");
	client_hear(f, 0, "[one]\n[two]\n");
	assert_int_equal(f->asked, 2);
	client_say(f, 0, "ee\n");
	client_hear(f, 0, "[three]\n");
	assert_int_equal(f->asked, 3);
	fixture_free(f);
}

/* Many lines together may be longer than one may be. */
static void answers_many_lines_in_one_packet(void **state)
{
	char text[3 * STATUS_SOCKET_REQUEST + 8] = "", expected[4096] = "";
	struct fixture *f = fixture_new();

	(void)state;
	for (unsigned i = 0; strlen(text) + 8 < sizeof(text); i++) {
		sprintf(text + strlen(text), "l%u\n", i);
		sprintf(expected + strlen(expected), "[l%u]\n", i);
	}
	client_join(f, 0);
	client_say(f, 0, text);
	client_hear(f, 0, expected);
	fixture_free(f);
}

static void refuses_long_requests(void **state)
{
	char line[STATUS_SOCKET_REQUEST + 2], expected[sizeof(line) + 4];
	struct fixture *f = fixture_new();

	(void)state;
	/* The longest: with its newline it fills the room there is. */
	memset(line, 'x', sizeof(line));
	strcpy(line + STATUS_SOCKET_REQUEST - 1, "\n");
	client_join(f, 0);
	client_say(f, 0, line);
	snprintf(expected, sizeof(expected), "[%.*s]\n", STATUS_SOCKET_REQUEST - 1, line);
	client_hear(f, 0, expected);
	/* One byte more. */
	memset(line, 'x', sizeof(line));
	strcpy(line + STATUS_SOCKET_REQUEST, "\n");
	client_say(f, 0, line);
	assert_int_equal(client_hear_the_end(f, 0), 0);
	/* The same after a good line, and in pieces. */
	client_join(f, 1);
	client_say(f, 1, "good\n");
	client_say(f, 1, line);
	assert_int_equal(client_hear_the_end(f, 1), strlen("[good]\n"));
	client_join(f, 2);
	for (unsigned i = 0; i < STATUS_SOCKET_REQUEST; i++)
		client_say(f, 2, "y");
	assert_int_equal(client_hear_the_end(f, 2), 0);
	assert_int_equal(f->asked, 2);
	/* Others are served as before. */
	client_join(f, 3);
	client_say(f, 3, "hello\n");
	client_hear(f, 3, "[hello]\n");
	fixture_free(f);
}

/* The same place is used again and again; nothing of the client before is left in it. */
static void clients_come_and_go(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		client_join(f, 0);
		client_say(f, 0, "half a requ");
		if (i % 2)
			client_leave(f, 0); /* perhaps before it was accepted */
		client_join(f, 1);
		client_say(f, 1, "x\n");
		client_hear(f, 1, "[x]\n");
		client_leave(f, 1);
		if (i % 2 == 0)
			client_leave(f, 0);
	}
	assert_int_equal(f->asked, 100);
	fixture_free(f);
}

/* A client that does not read holds nobody up, and is let go when its time is over. */
static void bears_a_client_that_never_reads(void **state)
{
	struct fixture *f = fixture_new();
	size_t got;

	(void)state;
	client_join(f, 0);
	client_say(f, 0, "large\nlarge\n");
	while (f->asked == 0)
		turn(f);
	for (unsigned i = 0; i < 10; i++) {
		client_join(f, 1);
		client_say(f, 1, "status\n");
		client_hear(f, 1, "[status]\n");
		client_leave(f, 1);
	}
	assert_int_equal(f->asked, 11); /* its second request waits */
	put_forward(STATUS_SOCKET_TIME_MS / 1000 - 2);
	client_join(f, 1);
	client_say(f, 1, "status\n");
	client_hear(f, 1, "[status]\n");
	put_forward(3);
	client_say(f, 1, "status\n");
	client_hear(f, 1, "[status]\n");
	got = client_hear_the_end(f, 0);
	assert_in_range(got, 1, LARGE - 1);
	assert_int_equal(f->asked, 13);
	fixture_free(f);
}

/* One that reads slowly gets all of it, and then the answer to what it asked before. */
static void sends_large_answers(void **state)
{
	struct fixture *f = fixture_new();
	size_t got = 0;
	char buf[10007];

	(void)state;
	client_join(f, 0);
	client_say(f, 0, "large\nsmall\n");
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
	client_hear(f, 0, "\n[small]\n");
	fixture_free(f);
}

/* It may take as long as it likes, if only it goes on. */
static void waits_for_a_slow_reader(void **state)
{
	struct fixture *f = fixture_new();
	static char buf[LARGE / 4];

	(void)state;
	client_join(f, 0);
	client_say(f, 0, "large\n");
	for (size_t got = 0; got < LARGE;) {
		ssize_t n;

		put_forward(STATUS_SOCKET_TIME_MS / 1000 - 2);
		for (size_t part = 0; part < sizeof(buf) && got < LARGE;
		     part += (size_t)MAX(n, 0)) {
			n = recv(f->fds[0], buf, sizeof(buf) - part, 0);
			assert_true(n != 0);
			if (n < 0)
				turn(f);
			else
				got += (size_t)n;
		}
	}
	client_hear(f, 0, "\n");
	fixture_free(f);
}

/* One that goes in the middle of its answer. */
static void bears_a_client_that_leaves(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	for (unsigned i = 0; i < 2 * STATUS_SOCKET_CLIENTS; i++) {
		unsigned asked = f->asked;

		client_join(f, 0);
		client_say(f, 0, "large\n");
		while (f->asked == asked)
			turn(f);
		client_leave(f, 0);
	}
	client_join(f, 0);
	client_say(f, 0, "status\n");
	client_hear(f, 0, "[status]\n");
	fixture_free(f);
}

/* One that has nothing more to say is still answered. */
static void answers_a_client_that_only_listens(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	client_join(f, 0);
	client_say(f, 0, "one\ntwo\n");
	assert_int_equal(shutdown(f->fds[0], SHUT_WR), 0);
	client_hear(f, 0, "[one]\n[two]\n");
	assert_int_equal(client_hear_the_end(f, 0), 0);
	fixture_free(f);
}

static void ends_silent_clients(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	client_join(f, 0);
	client_join(f, 1);
	client_say(f, 1, "ask\n");
	client_hear(f, 1, "[ask]\n");
	put_forward(STATUS_SOCKET_TIME_MS / 1000 - 2);
	/* Half a request is none: it wins no time. A whole one does. */
	client_say(f, 0, "half");
	client_say(f, 1, "ask\n");
	client_hear(f, 1, "[ask]\n");
	put_forward(3);
	assert_int_equal(client_hear_the_end(f, 0), 0);
	client_say(f, 1, "ask\n");
	client_hear(f, 1, "[ask]\n");
	put_forward(STATUS_SOCKET_TIME_MS / 1000 + 1);
	assert_int_equal(client_hear_the_end(f, 1), 0);
	fixture_free(f);
}

/* One that hears nothing stays as long as it likes, one that does not read does not. */
static void ends_a_listener_that_does_not_read(void **state)
{
	char line[4096];
	struct fixture *f = fixture_new();

	(void)state;
	loop_timer_start(&f->deadline, UINT64_C(12) * STATUS_SOCKET_LISTENER_TIME_MS);
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	for (unsigned i = 0; i < 2; i++) {
		client_join(f, i);
		client_say(f, i, "listen\n");
		client_hear(f, i, "[listening]\n");
	}
	put_forward(10 * STATUS_SOCKET_LISTENER_TIME_MS / 1000);
	client_join(f, 2);
	client_ask(f, 2, "barrier");
	assert_true(client_is_there(f, 0) && client_is_there(f, 1));
	for (unsigned i = 0; i < 256; i++) {
		status_socket_publish(f->server, line);
		client_hear(f, 1, line);
		client_hear(f, 1, "\n");
	}
	put_forward(STATUS_SOCKET_LISTENER_TIME_MS / 1000 - 5);
	client_join(f, 3);
	client_ask(f, 3, "barrier");
	assert_true(client_is_there(f, 0));
	put_forward(6);
	assert_in_range(client_hear_the_end(f, 0), 1, 256 * sizeof(line) - 1);
	status_socket_publish(f->server, "on");
	client_hear(f, 1, "on\n");
	fixture_free(f);
}

static void ends_where_there_is_no_answer(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	client_join(f, 0);
	client_say(f, 0, "none\nmore\n");
	assert_int_equal(client_hear_the_end(f, 0), 0);
	assert_int_equal(f->asked, 1);
	fixture_free(f);
}

/* Clients in every state when the server goes. */
static void frees_what_is_under_way(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	client_join(f, 0);
	client_say(f, 0, "large\n");
	client_join(f, 1);
	client_say(f, 1, "half");
	client_join(f, 2);
	client_say(f, 2, "x\n");
	client_hear(f, 2, "[x]\n");
	client_join(f, 3); /* not accepted yet */
	fixture_free(f);
	status_socket_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(answers_lines),
		TEST(answers_two_lines_in_one_packet),
		TEST(answers_many_lines_in_one_packet),
		TEST(refuses_long_requests),
		TEST(clients_come_and_go),
		TEST(bears_a_client_that_never_reads),
		TEST(sends_large_answers),
		TEST(waits_for_a_slow_reader),
		TEST(bears_a_client_that_leaves),
		TEST(answers_a_client_that_only_listens),
		TEST(ends_silent_clients),
		TEST(ends_a_listener_that_does_not_read),
		TEST(ends_where_there_is_no_answer),
		TEST(frees_what_is_under_way),
	};

	return cmocka_run_group_tests_name("status_socket", tests, name_path, remove_directory);
}
