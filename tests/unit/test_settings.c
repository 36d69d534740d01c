/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"
#include "tests/unit/options.h"

static void an_empty_file_is_all_defaults(void **state)
{
	struct settings defaults, settings = load("");

	(void)state;
	assert_int_equal(settings_init(&defaults), 0);
	expect_equal(&settings, &defaults);
	settings_done(&settings);
	settings = load("# nothing\nuplink: { };\nrelay = { }\n");
	expect_equal(&settings, &defaults);
	settings_done(&settings);
	settings_done(&defaults);
	settings_done(&defaults); /* all zero is fine */
}

static void sets_every_kind(void **state)
{
	struct settings s =
		load("state_dir = \"/a\";\n"
		     "log_level = \"debug\";\n"
		     "uplink: { url = \"wss://cloud.example/x\";\n"
		     "          ping_interval_s = 0; };\n"
		     "bluetooth: { duplicate_data = TRUE; adapters = [ \"hci12\" ]; };\n"
		     "devices = { max = 0x20; };\n"
		     "relay: { rssi_floor_dbm = -127; max_links = 2L; };\n");

	(void)state;
	assert_string_equal(s.state_dir, "/a");
	assert_string_equal(s.log_level, "debug");
	assert_int_equal(s.uplink.urls.n, 1);
	assert_string_equal(s.uplink.urls.items[0], "wss://cloud.example/x");
	assert_int_equal(s.uplink.ping_interval_s, 0);
	assert_true(s.bluetooth.duplicate_data);
	assert_int_equal(s.bluetooth.adapters.n, 1);
	assert_string_equal(s.bluetooth.adapters.items[0], "hci12");
	assert_int_equal(s.devices.max, 32);
	assert_int_equal(s.relay.rssi_floor_dbm, -127);
	assert_int_equal(s.relay.max_links, 2);
	assert_int_equal(s.uplink.ping_timeout_s, 10); /* as it was */
	settings_done(&s);
}

static void refuses_unknown_options(void **state)
{
	(void)state;
	refuse(1, "stat_dir: unknown option", "stat_dir = \"/a\";\n");
	refuse(3, "uplink.urls: unknown option",
	       "uplink: {\n\turl = \"\";\n\turls = \"wss://a/\";\n};\n");
	refuse(2, "uplinks: unknown option", "\nuplinks: { url = \"\"; };\n");
	refuse(1, "url: unknown option", "url = \"wss://a/\";\n"); /* outside its group */
	refuse(1, "uplink.state_dir: unknown option", "uplink: { state_dir = \"/a\"; };\n");
	refuse(1, "uplink.uplink: unknown option", "uplink: { uplink: { url = \"\"; }; };\n");
	refuse(1, "upl: unknown option", "upl = { };\n"); /* the start of a group's name */
	refuse(1, "uplink.u: unknown option", "uplink: { u = 1; };\n");
}

static void refuses_wrong_types(void **state)
{
	(void)state;
	refuse(1,
	       "relay.max_links: expected an integer from 0 to 16 (links, 0 to connect no "
	       "device), not a string",
	       "relay: { max_links = \"4\"; };\n");
	refuse(1, "relay.max_links: expected an integer from 0 to 16 (", /* a float */
	       "relay: { max_links = 4.0; };\n");
	refuse(1, "relay.max_links: expected an integer from 0 to 16 (",
	       "relay: { max_links = true; };\n");
	refuse(1, "relay.max_links: expected an integer from 0 to 16 (",
	       "relay: { max_links = [4]; };\n");
	refuse(1, "relay.max_links: expected an integer from 0 to 16 (",
	       "relay: { max_links = { n = 4; }; };\n");
	refuse(1, "bluetooth.duplicate_data: expected true or false, not an integer",
	       "bluetooth: { duplicate_data = 1; };\n");
	refuse(1, "bluetooth.duplicate_data: expected true or false, not a string",
	       "bluetooth: { duplicate_data = \"true\"; };\n");
	refuse(1, "state_dir: expected an absolute path, not an integer", "state_dir = 5;\n");
	refuse(1, "state_dir: expected an absolute path, not a group", "state_dir = { };\n");
	refuse(1, "state_dir: expected an absolute path, not a list", "state_dir = ( \"/a\" );\n");
	refuse(1,
	       "uplink.url: expected \"wss://host[:port]/path\", or [ ... ] of them, not a boolean",
	       "uplink: { url = false; };\n");
}

static void refuses_what_is_no_group(void **state)
{
	(void)state;
	refuse(1, "uplink: expected a group", "uplink = 1;\n");
	refuse(1, "relay: expected a group", "relay = \"on\";\n");
	refuse(2, "devices: expected a group", "\ndevices = ( { max = 100; } );\n");
	refuse(1, "bluetooth: expected a group", "bluetooth = [ ];\n");
}

/* Both ends of each integer's range are good, and what is beyond them is not. */
static void keeps_the_ranges(void **state)
{
	static const struct {
		const char *group, *name;
		int min, max;
		const char *other; /* so that what goes together does */
	} ranges[] = {
		{"uplink", "connect_timeout_s", 1, 300, ""},
		{"uplink", "ping_interval_s", 0, 86400, ""},
		{"uplink", "ping_timeout_s", 1, 300, ""},
		{"uplink", "backoff_min_ms", 100, 60000, ""},
		{"uplink", "backoff_max_s", 1, 86400, "backoff_min_ms = 1000;"},
		{"uplink", "report_interval_s", 0, 86400, ""},
		{"uplink", "stats_interval_s", 0, 86400, ""},
		{"bluetooth", "silence_s", 0, 86400, ""},
		{"devices", "max", 16, 65536, ""},
		{"devices", "lost_after_s", 1, 86400, ""},
		{"relay", "max_links", 0, 16, ""},
		{"relay", "max_links_per_adapter", 1, 16, ""},
		{"relay", "holdoff_ms", 0, 5000, ""},
		{"relay", "resume_max_s", 0, 600, ""},
		{"relay", "rssi_floor_dbm", -127, 20, ""},
		{"relay", "idle_timeout_s", 1, 3600, ""},
		{"relay", "max_duration_s", 1, 86400, ""},
		{"relay", "retry_min_s", 1, 3600, "retry_max_s = 86400;"},
		{"relay", "retry_max_s", 1, 86400, "retry_min_s = 1;"},
	};
	char text[256], what[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		const long long values[] = {
			ranges[i].min,
			ranges[i].max,
			ranges[i].min - 1LL,
			ranges[i].max + 1LL,
			INT64_MIN + 1,
			INT64_MAX,
			(1LL << 32) + ranges[i].min,
			-(1LL << 32) + ranges[i].max,
		};

		for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
			snprintf(text, sizeof(text), "%s: {\n%s = %lld%s;\n%s };\n",
				 ranges[i].group, ranges[i].name, values[v],
				 llabs(values[v]) > INT32_MAX ? "L" : "", ranges[i].other);
			if (v < 2) {
				struct settings s = load(text);

				settings_done(&s);
				continue;
			}
			snprintf(what, sizeof(what), "%s.%s: expected an integer from %d to %d (",
				 ranges[i].group, ranges[i].name, ranges[i].min, ranges[i].max);
			refuse(2, what, text);
		}
	}
}

static void checks_strings(void **state)
{
	static const char *const levels[] = {"error", "warning", "info", "debug"};
	char text[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		struct settings s;

		snprintf(text, sizeof(text), "log_level = \"%s\";\n", levels[i]);
		s = load(text);
		assert_string_equal(s.log_level, levels[i]);
		settings_done(&s);
	}
	refuse(1, "log_level: expected \"error\", \"warning\", \"info\" or \"debug\", not \"Info\"",
	       "log_level = \"Info\";\n");
	refuse(1, "log_level: expected \"error\"", "log_level = \"\";\n");
	refuse(1, "state_dir: expected an absolute path, not \"var\"", "state_dir = \"var\";\n");
	refuse(1, "state_dir: expected an absolute path, not \"\"", "state_dir = \"\";\n");
	refuse(1, "status_socket: expected an absolute path", "status_socket = \"./a\";\n");
	refuse(1, "uplink.ca_file: expected an absolute path", "uplink: { ca_file = \"\"; };\n");
	refuse(1,
	       "uplink.url: expected \"wss://host[:port]/path\", not \"ws://a\": the URL does "
	       "not start with wss://",
	       "uplink: { url = \"ws://a\"; };\n");
}

static void checks_bearers(void **state)
{
	static const char *const bearers[] = {"auto", "l2cap", "gatt"};
	char text[128];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bearers); i++) {
		struct settings s;

		snprintf(text, sizeof(text), "relay: { bearer = \"%s\"; };\n", bearers[i]);
		s = load(text);
		assert_string_equal(s.relay.bearer, bearers[i]);
		settings_done(&s);
	}
	refuse(1,
	       "relay.bearer: expected \"auto\", \"l2cap\" or \"gatt\", not \"GATT\": no such "
	       "bearer",
	       "relay: { bearer = \"GATT\"; };\n");
	refuse(1, "relay.bearer: expected \"auto\"", "relay: { bearer = \"\"; };\n");
}

#define ADAPTER_EXPECTED                                                                           \
	"expected a name like \"hci0\" or an address like \"00:11:22:AA:BB:CC\", not "

static void checks_adapters(void **state)
{
	static const char *const good[] = {"hci0", "hci15", "hci100", "00:11:22:AA:bb:cc"};
	static const char *const bad[] = {
		"",
		"auto",
		"hci",
		"hci0 ",
		"hci00",
		"hci-1",
		"hci+1",
		"hci 1",
		"hci1234",
		"xhci0",
		"00:11:22:AA:BB",
		"00:11:22:AA:BB:CC:DD",
		"00:11:22:AA:BB:CG",
		"0:11:22:AA:BB:CC",
		"00-11-22-AA-BB-CC",
		" 0: 1: 2: 3: 4: 5",
		"+0:+1:+2:+3:+4:+5",
		"0x:0x:0x:0x:0x:0x",
	};
	char text[128], what[256];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct settings s;

		snprintf(text, sizeof(text), "bluetooth: { adapters = [ \"%s\" ]; };\n", good[i]);
		s = load(text);
		assert_int_equal(s.bluetooth.adapters.n, 1);
		assert_string_equal(s.bluetooth.adapters.items[0], good[i]);
		settings_done(&s);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "bluetooth: { adapters = [ \"%s\" ]; };\n", bad[i]);
		snprintf(what, sizeof(what),
			 "bluetooth.adapters: element 1: " ADAPTER_EXPECTED "\"%s\"", bad[i]);
		refuse(1, what, text);
	}
}

/* An array or a list, of any length; each element is checked, and told by its own line. */
static void reads_lists(void **state)
{
	struct settings s;

	(void)state;
	s = load("bluetooth: { adapters = []; };\n");
	assert_int_equal(s.bluetooth.adapters.n, 0);
	settings_done(&s);
	s = load("bluetooth: { adapters = ( ); };\n");
	assert_int_equal(s.bluetooth.adapters.n, 0);
	settings_done(&s);
	s = load("bluetooth: { adapters = ( \"hci2\",\n\"hci0\", \"00:11:22:33:44:55\" ); };\n");
	assert_int_equal(s.bluetooth.adapters.n, 3);
	assert_string_equal(s.bluetooth.adapters.items[0], "hci2");
	assert_string_equal(s.bluetooth.adapters.items[1], "hci0");
	assert_string_equal(s.bluetooth.adapters.items[2], "00:11:22:33:44:55");
	settings_done(&s);
	refuse(2, "bluetooth.adapters: element 2: " ADAPTER_EXPECTED "\"usb0\": no adapter",
	       "bluetooth: { adapters = [ \"hci0\",\n\"usb0\" ]; };\n");
	refuse(3, "bluetooth.adapters: element 3: " ADAPTER_EXPECTED "an integer",
	       "bluetooth: { adapters = ( \"hci0\",\n\"hci1\",\n7 ); };\n");
	refuse(1, "bluetooth.adapters: element 1: " ADAPTER_EXPECTED "a list",
	       "bluetooth: { adapters = ( [ \"hci0\" ] ); };\n");
	refuse(1, "bluetooth.adapters: element 1: " ADAPTER_EXPECTED "an integer",
	       "bluetooth: { adapters = [ 0, 1 ]; };\n");
	refuse(1, "bluetooth.adapters: element 2: \"hci0\" is listed twice",
	       "bluetooth: { adapters = [ \"hci0\", \"hci0\" ]; };\n");
	refuse(1, "bluetooth.adapters: element 3: \"00:11:22:aa:bb:cc\" is listed twice",
	       "bluetooth: { adapters = [ \"00:11:22:AA:BB:CC\", \"hci0\", "
	       "\"00:11:22:aa:bb:cc\" ]; };\n");
	refuse(1, "bluetooth.adapters: expected a name like", "bluetooth: { adapters = 0; };\n");
	refuse(1, "bluetooth.adapters: expected a name like", "bluetooth: { adapters = { }; };\n");
}

static void checks_what_goes_together(void **state)
{
	struct settings s;

	(void)state;
	refuse(0, "uplink.backoff_min_ms: expected at most uplink.backoff_max_s (1 s), not 1001 ms",
	       "uplink: { backoff_min_ms = 1001; backoff_max_s = 1; };\n");
	refuse(0, "relay.retry_min_s: expected at most relay.retry_max_s (9 s), not 10 s",
	       "relay: { retry_min_s = 10; retry_max_s = 9; };\n");
	refuse(0, "relay.retry_min_s: ", "relay: { retry_min_s = 301; };\n"); /* of a default */
	s = load("uplink: { backoff_min_ms = 1000; backoff_max_s = 1; };\n"
		 "relay: { retry_min_s = 9; retry_max_s = 9; };\n");
	settings_done(&s);
}

static void refuses_broken_syntax(void **state)
{
	(void)state;
	refuse(3, "syntax error", "log_level = \"info\";\nuplink: {\n\turl = ;\n};\n");
	refuse(2, "syntax error", "uplink: {\n");
	refuse(1, "syntax error", "}\n");
	refuse(1, "syntax error", "log_level info\n");
	refuse(2, "syntax error", "log_level = \"info\n"); /* the string has not ended there */
}

static void refuses_duplicates(void **state)
{
	(void)state;
	refuse(2, "duplicate", "log_level = \"info\";\nlog_level = \"debug\";\n");
	refuse(3, "duplicate", "uplink: {\nping_interval_s = 1;\nping_interval_s = 2;\n};\n");
	refuse(2, "duplicate", "uplink: { };\nuplink: { };\n");
}

static void takes_included_files(void **state)
{
	char text[128];
	struct settings s;

	(void)state;
	snprintf(text, sizeof(text), "log_level = \"debug\";\n@include \"%s\"\n", included);
	write_file(included, "\n\nrelay: { max_links = 3; };\n");
	s = load(text);
	assert_int_equal(s.relay.max_links, 3);
	assert_string_equal(s.log_level, "debug");
	settings_done(&s);
	/* What is wrong in it is told by its own name and line. */
	write_file(included, "\n\nrelay: { max_links = 17; };\n");
	refuse_at(included, 3, "relay.max_links: expected an integer from 0 to 16", text);
	write_file(included, "\nrelay: {\n\n\tno_such = 17;\n};\n");
	refuse_at(included, 4, "relay.no_such: unknown option", text);
	write_file(included, "\nrelay: { max_links = };\n");
	refuse_at(included, 2, "syntax error", text);
	/* And what comes after it by the line of the file that has it. */
	write_file(included, "\n\n\n\n\n\nrelay: { max_links = 3; };\n");
	snprintf(text, sizeof(text), "@include \"%s\"\n\nlog_level = \"x\";\n", included);
	refuse(3, "log_level: expected", text);
	unlink(included);
	refuse(1, "", text);
}

static void refuses_a_missing_file(void **state)
{
	static const struct settings zero;
	char error[SETTINGS_ERROR] = "", expected[SETTINGS_ERROR];
	struct settings settings;

	(void)state;
	unlink(conf);
	assert_int_equal(settings_load(conf, &settings, error), -ENOENT);
	snprintf(expected, sizeof(expected), "%s: No such file or directory", conf);
	assert_string_equal(error, expected);
	assert_memory_equal(&settings, &zero, sizeof(zero));
}

/* In a process of its own: libconfig's scanner ends the process where it cannot read. */
static void refuses_a_directory(void **state)
{
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0) {
		char error[SETTINGS_ERROR] = "";
		struct settings settings;
		int r = settings_load(directory, &settings, error);

		_exit(r < 0 && strncmp(error, directory, strlen(directory)) == 0 ? 77 : 78);
	}
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 77);
}

/* A message that does not fit is cut, and nothing else. */
static void cuts_long_messages(void **state)
{
	char text[2048], error[SETTINGS_ERROR + 1];
	struct settings settings;

	(void)state;
	memset(error, 'x', sizeof(error));
	strcpy(text, "log_level = \"");
	memset(text + 13, 'y', 1500);
	strcpy(text + 13 + 1500, "\";\n");
	write_file(conf, text);
	assert_int_equal(settings_load(conf, &settings, error), -EINVAL);
	assert_int_equal(strlen(error), SETTINGS_ERROR - 1);
	assert_int_equal(error[SETTINGS_ERROR], 'x');

	memset(text, 'n', 1500);
	strcpy(text + 1500, " = 1;\n");
	write_file(conf, text);
	assert_int_equal(settings_load(conf, &settings, error), -EINVAL);
	assert_non_null(strstr(error, "unknown option"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_file_is_all_defaults),
		cmocka_unit_test(sets_every_kind),
		cmocka_unit_test(refuses_unknown_options),
		cmocka_unit_test(refuses_wrong_types),
		cmocka_unit_test(refuses_what_is_no_group),
		cmocka_unit_test(keeps_the_ranges),
		cmocka_unit_test(checks_strings),
		cmocka_unit_test(checks_bearers),
		cmocka_unit_test(checks_adapters),
		cmocka_unit_test(reads_lists),
		cmocka_unit_test(checks_what_goes_together),
		cmocka_unit_test(refuses_broken_syntax),
		cmocka_unit_test(refuses_duplicates),
		cmocka_unit_test(takes_included_files),
		cmocka_unit_test(refuses_a_missing_file),
		cmocka_unit_test(refuses_a_directory),
		cmocka_unit_test(cuts_long_messages),
	};

	return cmocka_run_group_tests_name("settings", tests, options_setup, options_teardown);
}
