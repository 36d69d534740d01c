/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/location.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "agent/util.h"

static void nothing_is_known(void **state)
{
	struct message_location location;
	struct settings settings;

	(void)state;
	assert_int_equal(settings_init(&settings), 0);
	assert_null(location_of(&settings, &location));
	/* Half a position is none. */
	settings.location.latitude = 52;
	assert_null(location_of(&settings, &location));
	settings.location.accuracy_m = 5;
	assert_ptr_equal(location_of(&settings, &location), &location);
	assert_false(location.has_position);
	assert_int_equal(location.accuracy_m, 5);
	settings_done(&settings);
}

static void a_position_is_rounded(void **state)
{
	static const struct {
		double degrees;
		int32_t udeg;
	} vectors[] = {
		{0, 0},		  {-0.0, 0},	      {52.2053, 52205300},
		{0.1218, 121800}, {-0.1218, -121800}, {0.0000014, 1},
		{0.0000016, 2},	  {-0.0000014, -1},   {-0.0000016, -2},
		{90, 90000000},	  {-180, -180000000}, {179.9999999, 180000000},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		struct message_location location;
		struct settings settings;

		assert_int_equal(settings_init(&settings), 0);
		settings.location.latitude = settings.location.longitude = vectors[i].degrees;
		assert_non_null(location_of(&settings, &location));
		assert_true(location.has_position);
		assert_int_equal(location.latitude_udeg, vectors[i].udeg);
		assert_int_equal(location.longitude_udeg, vectors[i].udeg);
		settings_done(&settings);
	}
}

static void names_by_themselves(void **state)
{
	struct message_location location;
	struct settings settings;
	char text[] = "2";

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		char **field = i == 0	? &settings.location.floor
			       : i == 1 ? &settings.location.zone
					: &settings.location.name;
		char *owned;

		assert_int_equal(settings_init(&settings), 0);
		owned = *field;
		*field = text;
		assert_non_null(location_of(&settings, &location));
		assert_string_equal(location.floor, i == 0 ? "2" : "");
		assert_string_equal(location.zone, i == 1 ? "2" : "");
		assert_string_equal(location.name, i == 2 ? "2" : "");
		*field = owned;
		settings_done(&settings);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_known),
		cmocka_unit_test(a_position_is_rounded),
		cmocka_unit_test(names_by_themselves),
	};

	return cmocka_run_group_tests_name("location", tests, NULL, NULL);
}
