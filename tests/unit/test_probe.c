/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent/settings.h"
#include "agent/util.h"

static void only_what_must_differ_does(void **state)
{
	struct settings file, probe;
	char names[128];

	(void)state;
	assert_int_equal(settings_init(&file), 0);
	assert_int_equal(settings_init(&probe), 0);
	assert_false(probe.probe);
	assert_int_equal(probe_configure(&probe, "/tmp/probe/status.sock"), 0);
	assert_true(probe.probe);
	assert_string_equal(probe.status_socket, "/tmp/probe/status.sock");
	assert_int_equal(probe.relay.max_links, 0);
	settings_changed_names(&file, &probe, SETTINGS_ALL, names, sizeof(names));
	assert_string_equal(names, "status_socket, relay.max_links");
	settings_done(&file);
	settings_done(&probe);
}

static void a_relative_socket_is_refused(void **state)
{
	struct settings settings;

	(void)state;
	assert_int_equal(settings_init(&settings), 0);
	assert_int_equal(probe_configure(&settings, "status.sock"), -EINVAL);
	assert_int_equal(probe_configure(&settings, ""), -EINVAL);
	assert_false(settings.probe);
	assert_int_not_equal(settings.relay.max_links, 0);
	settings_done(&settings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(only_what_must_differ_does),
		cmocka_unit_test(a_relative_socket_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
