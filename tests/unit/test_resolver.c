/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/resolver.h"

#include <errno.h>
#include <libwebsockets.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "agent/util.h"
#include "tests/unit/common.h"

#define DEADLINE_MS 60000 /* a name server that does not answer takes its time */

struct fixture {
	struct loop *loop;
	struct resolver *resolver;
	struct loop_timer deadline;
	bool cancel_at_once; /* within the callback */
	unsigned calls;
	unsigned named; /* of these, with an address */
	struct resolver_result result;
};

static void on_done(void *userdata, const struct resolver_result *result)
{
	struct fixture *f = userdata;

	f->calls++;
	f->named += result->n > 0;
	f->result = *result;
	if (f->cancel_at_once)
		resolver_cancel(TAKE_PTR(f->resolver));
	loop_quit(f->loop);
}

static void on_deadline(void *userdata)
{
	(void)userdata;
	fail_msg("no answer within %d ms", DEADLINE_MS);
}

static void setup(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	assert_int_equal(loop_new(&f->loop), 0);
	loop_timer_init(f->loop, &f->deadline, on_deadline, f);
	loop_timer_start(&f->deadline, DEADLINE_MS);
}

static void teardown(struct fixture *f)
{
	loop_timer_stop(&f->deadline);
	resolver_cancel(f->resolver);
	loop_free(f->loop);
	/* No child is left, not even as a zombie. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static const struct resolver_result *resolve(struct fixture *f, const char *host)
{
	setup(f);
	assert_int_equal(resolver_start(f->loop, host, on_done, f, &f->resolver), 0);
	assert_int_equal(f->calls, 0); /* never from within */
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->calls, 1);
	teardown(f);
	return &f->result;
}

static void resolves_localhost(void **state)
{
	const struct resolver_result *result;
	struct fixture f;
	bool found = false;

	(void)state;
	result = resolve(&f, "localhost");
	assert_in_range(result->n, 1, RESOLVER_ADDRESSES_MAX);
	for (size_t i = 0; i < result->n; i++)
		found |= strcmp(result->addresses[i], "127.0.0.1") == 0 ||
			 strcmp(result->addresses[i], "::1") == 0;
	assert_true(found);
}

static void takes_numbers(void **state)
{
	static const char *const numbers[] = {"192.0.2.7", "2001:db8::7"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct fixture f;
		const struct resolver_result *result = resolve(&f, numbers[i]);

		assert_int_equal(result->n, 1);
		assert_string_equal(result->addresses[0], numbers[i]);
	}
}

/* No child, no descriptor; and the answer comes from the loop, or not at all. */
static void numbers_need_no_child(void **state)
{
	static const char *const numbers[] = {"192.0.2.7", "2001:db8::7"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct resolver *cancelled;
		struct fixture f;
		unsigned before;

		setup(&f);
		before = open_descriptors();
		assert_int_equal(resolver_start(f.loop, numbers[i], on_done, &f, &cancelled), 0);
		assert_int_equal(resolver_start(f.loop, numbers[i], on_done, &f, &f.resolver), 0);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
		assert_int_equal(errno, ECHILD);
		assert_int_equal(open_descriptors(), before);
		resolver_cancel(cancelled);
		assert_int_equal(f.calls, 0);
		assert_int_equal(loop_run(f.loop), 0);
		assert_int_equal(f.calls, 1);
		assert_string_equal(f.result.addresses[0], numbers[i]);
		teardown(&f);
	}
}

static void tells_why_not(void **state)
{
	static const char *const names[] = {"nothing.invalid", "", "no such name", "[::1]"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct fixture f;
		const struct resolver_result *result = resolve(&f, names[i]);

		assert_int_equal(result->n, 0);
		assert_true(strlen(result->error) > 0);
		assert_int_equal(failure_at_of(result->cause), FAILURE_AT_RESOLVE);
		assert_non_null(memchr(result->error, 0, sizeof(result->error)));
	}
}

static void cancel_within_the_callback(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "nothing.invalid"};
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		setup(&f);
		f.cancel_at_once = true;
		assert_int_equal(resolver_start(f.loop, hosts[i], on_done, &f, &f.resolver), 0);
		assert_int_equal(loop_run(f.loop), 0);
		assert_int_equal(f.calls, 1);
		assert_null(f.resolver);
		teardown(&f);
	}
}

/* Before the answer: no callback, no child, no descriptor. */
static void cancel_before_the_answer(void **state)
{
	struct fixture f;
	unsigned before;

	(void)state;
	setup(&f);
	before = open_descriptors();
	for (unsigned i = 0; i < 20; i++) {
		struct resolver *resolver;

		assert_int_equal(resolver_start(f.loop, "nothing.invalid", on_done, &f, &resolver),
				 0);
		resolver_cancel(resolver);
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
		assert_int_equal(errno, ECHILD);
		assert_int_equal(open_descriptors(), before);
	}
	/* The loop goes on, and nothing of them comes. */
	assert_int_equal(resolver_start(f.loop, "127.0.0.1", on_done, &f, &f.resolver), 0);
	assert_int_equal(loop_run(f.loop), 0);
	assert_int_equal(f.calls, 1);
	assert_string_equal(f.result.addresses[0], "127.0.0.1");
	teardown(&f);
}

/* Each gets its own answer. */
static void two_at_once(void **state)
{
	struct fixture f;
	struct resolver *second;

	(void)state;
	setup(&f);
	assert_int_equal(resolver_start(f.loop, "localhost", on_done, &f, &f.resolver), 0);
	assert_int_equal(resolver_start(f.loop, "nothing.invalid", on_done, &f, &second), 0);
	while (f.calls < 2)
		assert_true(lws_service(loop_lws(f.loop), 0) >= 0);
	assert_int_equal(f.calls, 2);
	assert_int_equal(f.named, 1);
	resolver_cancel(second);
	teardown(&f);
}

static void fails_without_descriptors(void **state)
{
	struct fixture f;
	struct rlimit before, none;
	int r;

	(void)state;
	setup(&f);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	r = resolver_start(f.loop, "localhost", on_done, &f, &f.resolver);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(r, -EMFILE);
	assert_null(f.resolver);
	teardown(&f);
}

static void cancel_takes_null(void **state)
{
	(void)state;
	resolver_cancel(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(resolves_localhost),
		cmocka_unit_test(takes_numbers),
		cmocka_unit_test(numbers_need_no_child),
		cmocka_unit_test(tells_why_not),
		cmocka_unit_test(cancel_within_the_callback),
		cmocka_unit_test(cancel_before_the_answer),
		cmocka_unit_test(two_at_once),
		cmocka_unit_test(fails_without_descriptors),
		cmocka_unit_test(cancel_takes_null),
	};

	return cmocka_run_group_tests_name("resolver", tests, NULL, NULL);
}
