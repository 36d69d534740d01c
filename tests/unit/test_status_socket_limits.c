/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets a place at the status socket, whose turn it is, and how much may wait. */
#include "agent/status_socket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "agent/util.h"
#include "tests/unit/common.h"
#include "tests/unit/heap.h"
#include "tests/unit/status_client.h"

#define ALL STATUS_SOCKET_CLIENTS /* the number of the first that has no place of its own */

/* They are connected and accepted, one after the other. */
static void join(struct fixture *f, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end; i++) {
		client_join(f, i);
		turn(f);
	}
}

/* Those who are there now have had time enough. */
static void pass_grace(struct fixture *f)
{
	pass_ms(f, STATUS_SOCKET_READ_GRACE_MS + 10);
}

static unsigned count_there(struct fixture *f, unsigned first, unsigned end)
{
	unsigned n = 0;

	for (unsigned i = first; i < end; i++)
		n += client_is_there(f, i);
	return n;
}

static void say_number(struct fixture *f, unsigned client, unsigned number)
{
	char line[32];

	snprintf(line, sizeof(line), "q%u\n", number);
	client_say(f, client, line);
}

static void hear_number(struct fixture *f, unsigned client, unsigned number)
{
	char line[32];

	snprintf(line, sizeof(line), "[q%u]\n", number);
	client_hear(f, client, line);
}

/* --- Places --- */

static void the_silent_make_room(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	join(f, 0, 2);
	pass_grace(f);
	join(f, 2, ALL);
	assert_int_equal(count_there(f, 0, ALL), ALL);
	client_join(f, ALL);
	client_ask(f, ALL, "me");
	assert_false(client_is_there(f, 0));
	client_join(f, ALL + 1);
	client_ask(f, ALL + 1, "me too");
	assert_false(client_is_there(f, 1));
	assert_int_equal(count_there(f, 2, ALL + 2), ALL);
	fixture_free(f);
}

/* It is not who came first, but who got on last. */
static void who_has_just_asked_stays(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	join(f, 0, 1);
	pass_grace(f);
	join(f, 1, ALL);
	pass_grace(f);
	client_ask(f, 0, "again");
	client_say(f, 1, "half a line wins no time");
	client_join(f, ALL);
	client_ask(f, ALL, "me");
	assert_true(client_is_there(f, 0));
	assert_false(client_is_there(f, 1));
	fixture_free(f);
}

static void who_does_not_read_makes_room(void **state)
{
	struct fixture *f = fixture_new();
	char byte;

	(void)state;
	client_join(f, 0);
	client_say(f, 0, "large\n");
	while (f->asked == 0)
		turn(f);
	pass_grace(f);
	join(f, 1, ALL);
	client_join(f, ALL);
	client_ask(f, ALL, "me");
	assert_int_equal(count_there(f, 1, ALL + 1), ALL);
	assert_int_equal(recv(f->fds[0], &byte, 1, 0), 1);
	assert_in_range(client_hear_the_end(f, 0), 1, LARGE - 1);
	fixture_free(f);
}

/* Nobody has to go for it who came just now, but one soon. */
static void the_newest_have_a_moment(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	join(f, 0, ALL);
	client_join(f, ALL);
	client_ask(f, ALL, "me");
	assert_int_equal(count_there(f, 0, ALL), ALL - 1);
	fixture_free(f);
}

/* More than there are places, all at once: each is answered, for those being served are few. */
static void all_who_ask_are_answered(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	for (unsigned i = 0; i < CLIENTS_MAX; i++) {
		client_join(f, i);
		say_number(f, i, i);
	}
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		hear_number(f, i, i);
	assert_int_equal(f->asked, CLIENTS_MAX);
	fixture_free(f);
}

/* Says as much as fits, and forgets what it hears. */
static void be_greedy(struct fixture *f, unsigned client)
{
	static char buf[65536], lines[240];

	if (f->fds[client] < 0)
		return;
	if (!*lines) {
		for (unsigned i = 0; i < sizeof(lines) - 8; i += 6)
			sprintf(lines + i, "g%04u\n", i);
	}
	while (send(f->fds[client], lines, strlen(lines), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		continue;
	while (recv(f->fds[client], buf, sizeof(buf), 0) > 0)
		continue;
}

static void the_greedy_keep_nobody_out(void **state)
{
	struct fixture *f = fixture_new();
	char got[8];

	(void)state;
	join(f, 0, ALL);
	for (unsigned i = 0; i < 4 * ALL; i++) {
		be_greedy(f, i % ALL);
		turn(f);
	}
	assert_int_equal(count_there(f, 0, ALL), ALL);
	client_join(f, ALL);
	client_say(f, ALL, "me\n");
	while (recv(f->fds[ALL], got, sizeof(got), 0) != (ssize_t)strlen("[me]\n")) {
		assert_true(client_is_there(f, ALL));
		for (unsigned i = 0; i < ALL; i++)
			be_greedy(f, i);
		turn(f);
	}
	assert_memory_equal(got, "[me]\n", 5);
	fixture_free(f);
}

static void listeners_that_read_stay(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	for (unsigned i = 0; i < STATUS_SOCKET_LISTENERS; i++) {
		client_join(f, i);
		client_say(f, i, "listen\n");
		client_hear(f, i, "[listening]\n");
	}
	pass_grace(f);
	join(f, STATUS_SOCKET_LISTENERS, ALL);
	for (unsigned i = 0; i < 2 * ALL; i++) {
		client_join(f, ALL);
		client_ask(f, ALL, "me");
		status_socket_publish(f->server, "news");
		for (unsigned l = 0; l < STATUS_SOCKET_LISTENERS; l++)
			client_hear(f, l, "news\n");
		client_leave(f, ALL);
		client_join(f, ALL + 1); /* and this one asks nothing */
		turn(f);
		client_leave(f, ALL + 1);
	}
	fixture_free(f);
}

/* Nothing is left open, whoever came and went. */
static void descriptors_are_given_back(void **state)
{
	struct fixture *f = fixture_new();
	unsigned before;

	(void)state;
	client_join(f, 0);
	client_ask(f, 0, "me");
	before = open_descriptors();
	for (unsigned round = 0; round < 5; round++) {
		for (unsigned i = 1; i < CLIENTS_MAX; i++) {
			client_join(f, i);
			client_say(f, i, i % 3 == 0 ? "large\n" : i % 3 == 1 ? "me\n" : "half");
			turn(f);
		}
		for (unsigned i = 1; i < CLIENTS_MAX; i++)
			client_leave(f, i);
		client_join(f, 1); /* behind all others */
		client_ask(f, 1, "me");
		client_leave(f, 1);
		pass_ms(f, 1);
	}
	if (!client_is_there(f, 0))
		before--;
	assert_int_equal(open_descriptors(), before);
	fixture_free(f);
}

/* --- Turns --- */

static void count_others(void *userdata, uint32_t revents)
{
	(void)revents;
	++*(unsigned *)userdata;
}

/* Whatever else the loop has to do comes between. */
static void answers_one_request_a_turn(void **state)
{
	struct fixture *f = fixture_new();
	struct loop_fd watch;
	unsigned others = 0;
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	(void)state;
	join(f, 0, 12);
	for (unsigned i = 0; i < 12; i++)
		say_number(f, i, i);
	assert_int_equal(loop_fd_add(f->loop, &watch, fd, EPOLLIN, count_others, &others), 0);
	while (f->asked < 12) {
		unsigned asked = f->asked;

		turn(f);
		assert_in_range(f->asked, asked, asked + 1);
		assert_true(others >= f->asked);
	}
	for (unsigned i = 0; i < 12; i++)
		hear_number(f, i, i);
	loop_fd_remove(&watch);
	close(fd);
	fixture_free(f);
}

/* Who has more to ask comes behind all that wait by then. */
static void takes_turns(void **state)
{
	static const char *const order[] = {"a1", "a2", "b1", "c1", "a3", "b2", "a4"};
	struct fixture *f = fixture_new();

	(void)state;
	join(f, 0, 3);
	client_say(f, 0, "a1\na2\na3\na4\n");
	client_say(f, 1, "b1\nb2\n");
	client_say(f, 2, "c1\n");
	client_hear(f, 0, "[a1]\n[a2]\n[a3]\n[a4]\n");
	client_hear(f, 1, "[b1]\n[b2]\n");
	client_hear(f, 2, "[c1]\n");
	assert_int_equal(f->asked, ARRAY_SIZE(order));
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		assert_string_equal(f->requests[i], order[i]);
	fixture_free(f);
}

/* A lone client has its answer in the turn that it is accepted in. */
static void answers_at_once(void **state)
{
	struct fixture *f = fixture_new();
	char got[8];

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		pass_ms(f, 2);
		client_join(f, i);
		client_say(f, i, "me\n");
		turn(f);
		assert_int_equal(recv(f->fds[i], got, sizeof(got), 0), strlen("[me]\n"));
	}
	fixture_free(f);
}

static void the_same_is_answered_once(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	join(f, 0, 11);
	for (unsigned i = 0; i < 10; i++)
		client_say(f, i, i == 0 ? "first\n" : "same\n");
	client_say(f, 10, "same\nsame\n");
	client_hear(f, 0, "[first]\n");
	for (unsigned i = 1; i < 10; i++)
		client_hear(f, i, "[same]\n");
	client_hear(f, 10, "[same]\n[same]\n");
	/* What is asked after an answer is told what is true after it. */
	assert_int_equal(f->asked, 3);
	fixture_free(f);
}

/* Not for one of them alone. */
static void each_listener_asks_itself(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	join(f, 0, STATUS_SOCKET_LISTENERS + 2);
	for (unsigned i = 0; i < STATUS_SOCKET_LISTENERS + 2; i++)
		client_say(f, i, "listen\n");
	for (unsigned i = 0; i < STATUS_SOCKET_LISTENERS + 2; i++)
		client_hear(f, i, i < STATUS_SOCKET_LISTENERS ? "[listening]\n" : "[busy]\n");
	fixture_free(f);
}

/* --- What waits to be read --- */

static void ask_number(struct fixture *f, unsigned client, const char *what)
{
	unsigned asked = f->asked;
	char line[32];

	client_join(f, client);
	snprintf(line, sizeof(line), "%s%u\n", what, client);
	client_say(f, client, line);
	while (f->asked == asked)
		turn(f);
	pass_ms(f, 2);
}

static void what_is_not_read_is_bounded(void **state)
{
	size_t before, most = STATUS_SOCKET_UNREAD + 2 * MEDIUM + 65536;
	struct fixture *f = fixture_new();
	/* One of them goes as soon as another is to be answered. */
	unsigned fit = 2 + STATUS_SOCKET_UNREAD / (MEDIUM + 1);

	(void)state;
	before = heap_used();
	for (unsigned i = 0; i < 8; i++) {
		ask_number(f, i, "medium");
		assert_int_equal(count_there(f, 0, i + 1), MIN(i + 1, fit));
		assert_true(client_is_there(f, i)); /* it is always the oldest that goes */
		assert_true(heap_used() <= before + most);
	}
	/* The largest alone is never too much. */
	ask_number(f, 8, "large");
	ask_number(f, 9, "large");
	ask_number(f, 10, "large");
	assert_false(client_is_there(f, 8));
	assert_int_equal(count_there(f, 9, 11), 2);
	/* All of it is given back. */
	for (unsigned i = 0; i < 11; i++)
		client_leave(f, i);
	client_join(f, 0);
	client_ask(f, 0, "me");
	pass_ms(f, 2);
	assert_true(heap_used() <= before + 65536);
	fixture_free(f);
}

/* Who has just been answered is not dropped: the others wait a moment. */
static void who_reads_at_once_is_waited_for(void **state)
{
	struct fixture *f = fixture_new();
	uint64_t began_ms = util_now_ms();
	unsigned there, asked, whole = 0;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		char line[16];

		snprintf(line, sizeof(line), "medium%u\n", i);
		client_join(f, i);
		client_say(f, i, line);
		turn(f);
	}
	for (unsigned i = 0; i < 20; i++)
		pass_ms(f, 1);
	there = count_there(f, 0, 8);
	asked = f->asked;
	for (unsigned i = 0; i < 8; i++) {
		shutdown(f->fds[i], SHUT_WR);
		whole += client_hear_the_end(f, i) == MEDIUM + 1;
	}
	/* Unless this machine has stood still meanwhile. */
	if (util_now_ms() - began_ms < STATUS_SOCKET_READ_GRACE_MS) {
		assert_int_equal(there, 8);
		assert_in_range(asked, 1, 2 + STATUS_SOCKET_UNREAD / MEDIUM);
		assert_int_equal(whole, 8);
	}
	fixture_free(f);
}

/* One answer waits for all of them, and they read it, whoever else is there. */
static void what_is_shared_counts_once(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	join(f, 0, 11);
	client_say(f, 0, "first\n");
	for (unsigned i = 1; i < 11; i++)
		client_say(f, i, "large\n");
	client_hear(f, 0, "[first]\n");
	while (f->asked < 2)
		turn(f);
	ask_number(f, 11, "medium");
	assert_int_equal(f->asked, 3);
	assert_int_equal(count_there(f, 0, 12), 12);
	for (unsigned i = 1; i < 11; i++) {
		assert_int_equal(shutdown(f->fds[i], SHUT_WR), 0);
		assert_int_equal(client_hear_the_end(f, i), LARGE + 1);
	}
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_silent_make_room),
		TEST(who_has_just_asked_stays),
		TEST(who_does_not_read_makes_room),
		TEST(the_newest_have_a_moment),
		TEST(all_who_ask_are_answered),
		TEST(the_greedy_keep_nobody_out),
		TEST(listeners_that_read_stay),
		TEST(descriptors_are_given_back),
		TEST(answers_one_request_a_turn),
		TEST(takes_turns),
		TEST(answers_at_once),
		TEST(the_same_is_answered_once),
		TEST(each_listener_asks_itself),
		TEST(what_is_not_read_is_bounded),
		TEST(who_reads_at_once_is_waited_for),
		TEST(what_is_shared_counts_once),
	};

	return cmocka_run_group_tests_name("status_socket_limits", tests, name_path,
					   remove_directory);
}
