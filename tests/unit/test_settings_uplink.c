/* SPDX-License-Identifier: Apache-2.0 */
/* The options of how the cloud is reached, and what a change of options takes. */
#include "agent/settings.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "agent/settings_options.h"
#include "tests/unit/options.h"

static void takes_one_or_more_urls(void **state)
{
	struct settings s = load("uplink: { url = [ \"wss://a/\", \"wss://b/\" ]; };\n");

	(void)state;
	assert_int_equal(s.uplink.urls.n, 2);
	assert_string_equal(s.uplink.urls.items[1], "wss://b/");
	settings_done(&s);
	s = load("uplink: { url = \"\"; };\n");
	assert_int_equal(s.uplink.urls.n, 0);
	settings_done(&s);
	refuse(1, "uplink.url: element 2: expected \"wss://host[:port]/path\", not \"\"",
	       "uplink: { url = [ \"wss://a/\", \"\" ]; };\n");
	refuse(1, "uplink.url: element 2: \"wss://a/\" is listed twice",
	       "uplink: { url = [ \"wss://a/\", \"wss://a/\" ]; };\n");
	refuse(1, "uplink.url: expected at most 8 of them, not 9",
	       "uplink: { url = [ \"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\" ]; "
	       "};\n");
}

#define PIN "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

static void checks_how_the_cloud_is_reached(void **state)
{
	struct settings s = load("uplink: { pins = \"" PIN "\"; proxy = \"none\"; };\n"
				 "auth: { mode = \"token\"; token_file = \"/t\"; };\n");

	(void)state;
	assert_int_equal(s.uplink.pins.n, 1);
	assert_string_equal(s.uplink.pins.items[0], PIN);
	assert_string_equal(s.auth.token_file, "/t");
	settings_done(&s);
	refuse(1, "uplink.pins: expected \"sha256//\" and 44 letters of base64, not \"sha256/a\"",
	       "uplink: { pins = \"sha256/a\"; };\n");
	refuse(1, "auth.mode: expected \"key\", \"token\" or \"certificate\", not \"\"",
	       "auth: { mode = \"\"; };\n");
	refuse(1, "auth.token_file: expected an absolute path, not \"t\"",
	       "auth: { token_file = \"t\"; };\n");
	refuse(0, "auth.token_file: expected one, as auth.mode is \"token\"",
	       "auth: { mode = \"token\"; };\n");
	refuse(0, "auth.certificate_file: expected one, as auth.mode is \"certificate\"",
	       "auth: { mode = \"certificate\"; };\n");
}

/* What is refused may hold a password, which has no business in a log. */
static void keeps_the_proxys_password(void **state)
{
	char error[SETTINGS_ERROR];
	struct settings s;

	(void)state;
	write_file(conf, "uplink: { proxy = \"ftp://user:geheim@proxy\"; };\n");
	assert_int_equal(settings_load(conf, &s, error), -EINVAL);
	assert_non_null(strstr(error, "uplink.proxy: expected"));
	assert_null(strstr(error, "geheim"));
}

static void checks_the_location(void **state)
{
	struct settings s = load("location: { latitude = -33.5; longitude = 151; "
				 "accuracy_m = 5; name = \"dock\"; };\n");

	(void)state;
	assert_true(s.location.latitude == -33.5);
	assert_true(s.location.longitude == 151);
	settings_done(&s);
	refuse(1, "location.latitude: expected a number from -90 to 90 (degrees, north), not 90.5",
	       "location: { latitude = 90.5; longitude = 1.0; };\n");
	refuse(1,
	       "location.longitude: expected a number from -180 to 180 (degrees, east), not a "
	       "string",
	       "location: { longitude = \"1\"; };\n");
	refuse(0, "location: expected latitude and longitude together, or neither",
	       "location: { latitude = 1.0; };\n");
}

static unsigned effects_of(const char *before, const char *after, char *ret_names, size_t size)
{
	struct settings a = load(before), b = load(after);
	unsigned effects = settings_changed(&a, &b);

	settings_changed_names(&a, &b, SETTINGS_ALL, ret_names, size);
	settings_done(&a);
	settings_done(&b);
	return effects;
}

static void tells_what_a_change_takes(void **state)
{
	char names[128];

	(void)state;
	assert_int_equal(effects_of("", "", names, sizeof(names)), 0);
	assert_string_equal(names, "");
	assert_int_equal(effects_of("", "relay: { max_links = 3; bearer = \"gatt\"; };", names,
				    sizeof(names)),
			 SETTINGS_LIVE);
	assert_string_equal(names, "relay.bearer, relay.max_links");
	assert_int_equal(effects_of("uplink: { url = \"wss://a/\"; };",
				    "uplink: { url = [ \"wss://a/\", \"wss://b/\" ]; };", names,
				    sizeof(names)),
			 SETTINGS_REACH);
	assert_int_equal(effects_of("location: { latitude = 1.0; longitude = 2.0; };",
				    "bluetooth: { duplicate_data = true; };", names, sizeof(names)),
			 SETTINGS_CONNECTION | SETTINGS_RESTART);
	assert_string_equal(names, "location.latitude, location.longitude, "
				   "bluetooth.duplicate_data");
}

/* Every option by itself: its own effect is told and copied, and no other. */
static void copies_by_effect(void **state)
{
	static const unsigned effects[] = {SETTINGS_LIVE, SETTINGS_CONNECTION, SETTINGS_REACH,
					   SETTINGS_RESTART};
	struct settings a, b, defaults;

	(void)state;
	a = load("state_dir = \"/x\"; uplink: { url = \"wss://a/\"; ping_timeout_s = 3; "
		 "stats_interval_s = 5; }; bluetooth: { adapters = [ \"hci3\" ]; };");
	assert_int_equal(settings_init(&defaults), 0);
	assert_int_equal(settings_init(&b), 0);
	for (size_t i = 0; i < 4; i++) {
		assert_int_equal(settings_copy(&a, effects[i], &b), 0);
		assert_false(settings_changed(&a, &b) & effects[i]);
		for (size_t j = i + 1; j < 4; j++)
			assert_true(settings_changed(&a, &b) & effects[j]);
	}
	expect_equal(&a, &b);
	assert_int_equal(settings_copy(&defaults, SETTINGS_ALL, &b), 0);
	expect_equal(&defaults, &b);
	settings_done(&a);
	settings_done(&b);
	settings_done(&defaults);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_one_or_more_urls),
		cmocka_unit_test(checks_how_the_cloud_is_reached),
		cmocka_unit_test(keeps_the_proxys_password),
		cmocka_unit_test(checks_the_location),
		cmocka_unit_test(tells_what_a_change_takes),
		cmocka_unit_test(copies_by_effect),
	};

	return cmocka_run_group_tests(tests, options_setup, options_teardown);
}
