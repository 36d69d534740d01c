/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/service.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "agent/util.h"
#include "tests/unit/common.h"

struct fixture {
	struct loop *loop;
	struct service *service;
	struct loop_timer end_timer;
	int manager; /* a socket */
	char path[64];
	const char *status;
	unsigned described;
};

static void describe(void *userdata, char *ret, size_t size)
{
	struct fixture *f = userdata;

	f->described++;
	snprintf(ret, size, "%s", f->status);
}

static void on_end(void *userdata)
{
	struct fixture *f = userdata;

	loop_quit(f->loop);
}

static void begin(struct fixture *f, unsigned watchdog_s, unsigned end_ms)
{
	const struct service_config config = {
		.watchdog_s = watchdog_s,
		.describe = describe,
		.userdata = f,
	};

	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(service_new(f->loop, &config, &f->service), 0);
	loop_timer_init(f->loop, &f->end_timer, on_end, f);
	if (end_ms > 0)
		loop_timer_start(&f->end_timer, end_ms);
}

static void finish(struct fixture *f)
{
	service_free(f->service);
	loop_timer_stop(&f->end_timer);
	loop_free(f->loop);
}

#ifndef BLE_BASU /* without sd-daemon nobody is told */
/* A service manager that wants a sign of life in this time; 0 for none. */
static void manage(struct fixture *f, uint64_t watchdog_us, pid_t pid)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char text[32];

	f->manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	snprintf(f->path, sizeof(f->path), "%s/notify", directory);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", f->path);
	assert_int_equal(bind(f->manager, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", f->path, 1);
	if (watchdog_us == 0)
		return;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)watchdog_us);
	setenv("WATCHDOG_USEC", text, 1);
	snprintf(text, sizeof(text), "%d", (int)pid);
	setenv("WATCHDOG_PID", text, 1);
}

static void unmanage(struct fixture *f)
{
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	unlink(f->path);
	close(f->manager);
}

/* The next message, or "". */
static const char *told(const struct fixture *f)
{
	static char text[2 * SERVICE_STATUS_MAX];
	ssize_t n = recv(f->manager, text, sizeof(text) - 1, 0);

	text[MAX(n, (ssize_t)0)] = '\0';
	return text;
}

static void a_manager_is_told(void **state)
{
	struct fixture f = {.status = "Working"};

	(void)state;
	manage(&f, 0, 0);
	begin(&f, 0, 0);
	assert_string_equal(told(&f), "");
	service_ready(f.service);
	assert_string_equal(told(&f), "READY=1\nSTATUS=Working");
	service_stopping(f.service);
	assert_string_equal(told(&f), "STOPPING=1\nSTATUS=Stopping");
	/* There is no way back from that. */
	service_reloading(f.service);
	service_ready(f.service);
	assert_string_equal(told(&f), "");
	finish(&f);
	unmanage(&f);
}

static void a_reload_has_its_time(void **state)
{
	struct fixture f = {.status = "Working"};
	unsigned long long us, before_us;
	struct timespec now;

	(void)state;
	manage(&f, 0, 0);
	begin(&f, 0, 0);
	clock_gettime(CLOCK_MONOTONIC, &now);
	before_us = (unsigned long long)now.tv_sec * 1000000 + (unsigned)now.tv_nsec / 1000;
	service_reloading(f.service);
	assert_int_equal(sscanf(told(&f), "RELOADING=1\nMONOTONIC_USEC=%llu", &us), 1);
	assert_true(us >= before_us && us < before_us + 60 * 1000000);
	finish(&f);
	unmanage(&f);
}

static void on_change(void *userdata)
{
	struct fixture *f = userdata;

	f->status = "Not working: closed by the server: bye\nMAINPID=1";
}

static void a_change_is_told_in_one_line(void **state)
{
	struct fixture f = {.status = "Working"};
	struct loop_timer change_timer;

	(void)state;
	manage(&f, 0, 0);
	begin(&f, 0, 3 * SERVICE_STATUS_MS + 500);
	loop_timer_init(f.loop, &change_timer, on_change, &f);
	loop_timer_start(&change_timer, SERVICE_STATUS_MS + 500);
	service_ready(f.service);
	assert_int_equal(loop_run(f.loop), 0);
	assert_string_equal(told(&f), "READY=1\nSTATUS=Working");
	assert_string_equal(told(&f), "STATUS=Not working: closed by the server: bye?MAINPID=1");
	assert_string_equal(told(&f), "");
	assert_true(f.described >= 3);
	finish(&f);
	unmanage(&f);
}

static unsigned pings(struct fixture *f)
{
	const char *text;
	unsigned n = 0;

	while (*(text = told(f)))
		n += strcmp(text, "WATCHDOG=1") == 0;
	return n;
}

static void half_the_watchdogs_time_is_kept(void **state)
{
	struct fixture f = {.status = "Working"};
	uint64_t began_ms;
	unsigned n;

	(void)state;
	manage(&f, 400000, getpid()); /* the socket holds ten messages */
	begin(&f, 0, 1050);
	/* Not before it is ready. */
	assert_int_equal(pings(&f), 0);
	began_ms = util_now_ms();
	service_ready(f.service);
	assert_int_equal(loop_run(f.loop), 0);
	n = pings(&f);
	assert_true(n >= 2 && n <= (util_now_ms() - began_ms) / 200 + 1);
	finish(&f);
	unmanage(&f);
}

static void anothers_watchdog_is_left_alone(void **state)
{
	struct fixture f = {.status = "Working"};

	(void)state;
	manage(&f, 100000, getpid() + 1);
	begin(&f, 0, 300);
	service_ready(f.service);
	assert_int_equal(loop_run(f.loop), 0);
	assert_int_equal(pings(&f), 0);
	finish(&f);
	unmanage(&f);
}
#endif

static void without_a_manager_nothing_is_done(void **state)
{
	struct fixture f = {.status = "Working"};

	(void)state;
	setenv("WATCHDOG_USEC", "100000", 1);
	begin(&f, 0, SERVICE_STATUS_MS + 300);
	service_ready(f.service);
	service_reloading(f.service);
	service_ready(f.service);
	assert_int_equal(loop_run(f.loop), 0);
	service_stopping(f.service);
	assert_int_equal(f.described, 0);
	finish(&f);
	unsetenv("WATCHDOG_USEC");
}

static void hang(void *userdata)
{
	(void)userdata;
	for (;;)
		pause();
}

/* How a process ends whose loop turns for 2.5 s, with a watchdog of one, and hangs then or not. */
static int end_of(bool hangs)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		struct fixture f = {.status = ""};
		struct loop_timer hang_timer;
		sigset_t set;

		signal(SIGALRM, SIG_IGN);
		sigfillset(&set);
		sigprocmask(SIG_BLOCK, &set, NULL);
		begin(&f, 1, 2500);
		loop_timer_init(f.loop, &hang_timer, hang, NULL);
		if (hangs)
			loop_timer_start(&hang_timer, 100);
		loop_run(f.loop);
		finish(&f);
		_exit(alarm(0) == 0 ? 7 : 8);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void a_loop_that_hangs_is_ended(void **state)
{
	int status = end_of(true);

	(void)state;
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGALRM);
}

static void a_loop_that_turns_lives_on(void **state)
{
	int status = end_of(false);

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#ifndef BLE_BASU
		cmocka_unit_test(a_manager_is_told),
		cmocka_unit_test(a_reload_has_its_time),
		cmocka_unit_test(a_change_is_told_in_one_line),
		cmocka_unit_test(half_the_watchdogs_time_is_kept),
		cmocka_unit_test(anothers_watchdog_is_left_alone),
#endif
		cmocka_unit_test(without_a_manager_nothing_is_done),
		cmocka_unit_test(a_loop_that_hangs_is_ended),
		cmocka_unit_test(a_loop_that_turns_lives_on),
	};

	return cmocka_run_group_tests_name("service", tests, make_directory, remove_directory);
}
