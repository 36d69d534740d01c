/* SPDX-License-Identifier: Apache-2.0 */
/* Those who listen at the status socket. */
#include "agent/status_socket.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "agent/util.h"
#include "tests/unit/common.h"
#include "tests/unit/status_client.h"

static void listen_as(struct fixture *f, unsigned client)
{
	client_join(f, client);
	client_say(f, client, "listen\n");
	client_hear(f, client, "[listening]\n");
}

static void until_nobody_listens(struct fixture *f)
{
	while (status_socket_has_listeners(f->server))
		turn(f);
}

static void hears_what_is_published(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	assert_false(status_socket_has_listeners(NULL));
	status_socket_publish(NULL, "to nobody");
	assert_false(status_socket_has_listeners(f->server));
	status_socket_publish(f->server, "to nobody");
	listen_as(f, 0);
	assert_true(status_socket_has_listeners(f->server));
	client_join(f, 1);
	client_ask(f, 1, "another");
	status_socket_publish(f->server, "one");
	status_socket_publish(f->server, "two");
	client_hear(f, 0, "one\ntwo\n");
	listen_as(f, 2);
	status_socket_publish(f->server, "three");
	client_hear(f, 0, "three\n");
	client_hear(f, 2, "three\n");
	client_ask(f, 1, "again");
	expect_silence(f, 1);
	fixture_free(f);
}

/* After its answer, however long that is. */
static void hears_its_answer_first(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	client_join(f, 0);
	client_say(f, 0, "listen\n");
	while (!status_socket_has_listeners(f->server))
		turn(f);
	status_socket_publish(f->server, "one");
	client_hear(f, 0, "[listening]\none\n");
	fixture_free(f);
}

static void what_it_says_is_ignored(void **state)
{
	struct fixture *f = fixture_new();
	char junk[4096];

	(void)state;
	listen_as(f, 0);
	memset(junk, 'j', sizeof(junk));
	while (send(f->fds[0], junk, sizeof(junk), MSG_NOSIGNAL | MSG_DONTWAIT) > 0)
		continue;
	status_socket_publish(f->server, "one");
	client_hear(f, 0, "one\n");
	assert_int_equal(f->asked, 1);
	/* Nor does it matter that it has no more to say. */
	assert_int_equal(shutdown(f->fds[0], SHUT_WR), 0);
	client_join(f, 1);
	client_ask(f, 1, "barrier");
	status_socket_publish(f->server, "two");
	client_hear(f, 0, "two\n");
	fixture_free(f);
}

static void its_closing_ends_it(void **state)
{
	struct fixture *f = fixture_new();
	unsigned before;

	(void)state;
	client_join(f, 1);
	client_ask(f, 1, "barrier");
	before = open_descriptors();
	for (unsigned i = 0; i < 3 * STATUS_SOCKET_LISTENERS; i++) {
		listen_as(f, 0);
		if (i % 2)
			status_socket_publish(f->server, "unread");
		client_leave(f, 0);
		until_nobody_listens(f);
	}
	assert_int_equal(open_descriptors(), before);
	fixture_free(f);
}

static void there_are_so_many(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	for (unsigned i = 0; i < STATUS_SOCKET_LISTENERS; i++)
		listen_as(f, i);
	client_join(f, STATUS_SOCKET_LISTENERS);
	client_say(f, STATUS_SOCKET_LISTENERS, "listen\n");
	client_hear(f, STATUS_SOCKET_LISTENERS, "[busy]\n");
	/* It may ask something else. */
	client_ask(f, STATUS_SOCKET_LISTENERS, "else");
	client_leave(f, 0);
	client_ask(f, STATUS_SOCKET_LISTENERS, "barrier");
	client_say(f, STATUS_SOCKET_LISTENERS, "listen\n");
	client_hear(f, STATUS_SOCKET_LISTENERS, "[listening]\n");
	fixture_free(f);
}

/* Reads lines from `next` on, or counts of lost ones, until line `last` has come. */
static void hear_until(struct fixture *f, unsigned client, uint64_t last, uint64_t *ret_lost)
{
	static char buf[65536];
	size_t len = 0;
	uint64_t next = 0, number;

	*ret_lost = 0;
	while (next <= last) {
		ssize_t n = recv(f->fds[client], buf + len, sizeof(buf) - len - 1, 0);
		char *line = buf, *end;

		if (n < 0) {
			assert_int_equal(errno, EAGAIN);
			turn(f);
			continue;
		}
		assert_true(n > 0);
		len += (size_t)n;
		buf[len] = '\0';
		for (; (end = strchr(line, '\n')); line = end + 1) {
			if (sscanf(line, "{\"event\":\"lost\",\"count\":%" SCNu64, &number) == 1) {
				*ret_lost += number;
				next += number;
			} else {
				assert_int_equal(strtoull(line, NULL, 10), next);
				next++;
			}
		}
		len -= (size_t)(line - buf);
		memmove(buf, line, len);
	}
}

/* One that reads too slowly is told how much it misses, where it misses it; nobody else is held
 * up. */
static void is_told_what_it_missed(void **state)
{
	struct fixture *f = fixture_new();
	const unsigned number = 2000;
	uint64_t lost;
	char line[1001];

	(void)state;
	listen_as(f, 0);
	listen_as(f, 1);
	client_join(f, 2);
	for (unsigned i = 0; i < number; i++) {
		snprintf(line, sizeof(line), "%u %0980u", i, 0);
		status_socket_publish(f->server, line);
		client_hear(f, 1, line);
		client_hear(f, 1, "\n");
		if (i % 100 == 0)
			client_ask(f, 2, "still here?");
	}
	/* It is heard by a reader from here on. */
	hear_until(f, 0, number - 1, &lost);
	assert_in_range(lost, 1000, number - 1);
	snprintf(line, sizeof(line), "%u", number);
	status_socket_publish(f->server, line);
	strcat(line, "\n");
	client_hear(f, 0, line);
	fixture_free(f);
}

/* Only where there is no place for another. */
static void one_that_does_not_read_makes_room(void **state)
{
	struct fixture *f = fixture_new();
	char line[16384];

	(void)state;
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	listen_as(f, 0);
	for (unsigned i = 0; i < 64; i++) {
		status_socket_publish(f->server, line);
		pass_ms(f, 0);
	}
	pass_ms(f, STATUS_SOCKET_READ_GRACE_MS + 10);
	for (unsigned i = 1; i < STATUS_SOCKET_CLIENTS; i++) {
		client_join(f, i);
		client_ask(f, i, "me");
	}
	assert_true(status_socket_has_listeners(f->server));
	client_join(f, STATUS_SOCKET_CLIENTS);
	client_ask(f, STATUS_SOCKET_CLIENTS, "me");
	assert_false(status_socket_has_listeners(f->server));
	for (unsigned i = 1; i < STATUS_SOCKET_CLIENTS; i++)
		assert_true(client_is_there(f, i));
	fixture_free(f);
}

static void frees_what_it_has_not_heard(void **state)
{
	struct fixture *f = fixture_new();

	(void)state;
	listen_as(f, 0);
	status_socket_publish(f->server, "one");
	client_join(f, 1);
	client_say(f, 1, "listen\n");
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hears_what_is_published),
		TEST(hears_its_answer_first),
		TEST(what_it_says_is_ignored),
		TEST(its_closing_ends_it),
		TEST(there_are_so_many),
		TEST(is_told_what_it_missed),
		TEST(one_that_does_not_read_makes_room),
		TEST(frees_what_it_has_not_heard),
	};

	return cmocka_run_group_tests_name("status_socket_listen", tests, name_path,
					   remove_directory);
}
