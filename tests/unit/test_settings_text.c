/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/settings_text.h"

#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/util.h"

static void load(const char *text, struct settings *ret)
{
	char path[] = "/tmp/settings-text.XXXXXX", error[SETTINGS_ERROR] = "";
	_cleanup_close_ int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	if (settings_load(path, ret, error) < 0)
		fail_msg("%s: %s", error, text);
	unlink(path);
}

static char *written(const struct settings *settings)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	settings_write(f, settings);
	assert_int_equal(fclose(f), 0);
	return text;
}

static void reads_back(const char *text)
{
	struct settings settings, again;
	_cleanup_free_ char *out = NULL;

	load(text, &settings);
	out = written(&settings);
	load(out, &again);
	assert_int_equal(settings_changed(&settings, &again), 0);
	settings_done(&settings);
	settings_done(&again);
}

static void what_is_written_is_a_configuration_again(void **state)
{
	(void)state;
	reads_back("");
	reads_back("log_level = \"debug\"; uplink: { url = [ \"wss://a/x\", \"wss://b\" ]; "
		   "ping_interval_s = 0; }; bluetooth: { adapters = [ \"hci1\" ]; "
		   "duplicate_data = true; }; relay: { rssi_floor_dbm = -70; };");
	reads_back("location: { latitude = -52.205301; longitude = 0.121800; "
		   "floor = \"quote \\\" back\\\\slash\"; zone = \"\xc3\xbc\"; };");
}

static void a_secret_is_not_written(void **state)
{
	struct settings settings;
	_cleanup_free_ char *out = NULL;

	(void)state;
	load("uplink: { proxy = \"http://user:hunter2@proxy:3128\"; };", &settings);
	out = written(&settings);
	settings_done(&settings);
	assert_null(strstr(out, "hunter2"));
	assert_non_null(strstr(out, "proxy = \"(removed)\";"));
}

static void that_there_is_no_secret_is_told(void **state)
{
	struct settings settings;
	_cleanup_free_ char *out = NULL;

	(void)state;
	load("", &settings);
	out = written(&settings);
	settings_done(&settings);
	assert_non_null(strstr(out, "proxy = \"\";"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_written_is_a_configuration_again),
		cmocka_unit_test(a_secret_is_not_written),
		cmocka_unit_test(that_there_is_no_secret_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
