/* SPDX-License-Identifier: Apache-2.0 */
/* The commented example of the configuration beside what there is to be set. */
#include "agent/settings.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "agent/settings_options.h"
#include "agent/util.h"
#include "tests/unit/options.h"

#define EXAMPLE "configs/blecon-hotspot.conf" /* tests run at the root of the source */

static char *read_whole(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = NULL;

	if (!f)
		fail_msg("%s: %s; run the tests at the root of the source", path, strerror(errno));
	assert_true(util_read_fd(fileno(f), 1 << 20, &text) > 0);
	fclose(f);
	return text;
}

/* Into group and name; "" for the options that are in none. */
static const char *split(const struct option *option, char *ret_group, size_t size)
{
	const char *dot = strchr(option->name, '.');

	snprintf(ret_group, size, "%.*s", dot ? (int)(dot - option->name) : 0, option->name);
	return dot ? dot + 1 : option->name;
}

/* "1 to 300" or "0 (never) to 300" in this line. */
static bool has_range(const char *comment, int *ret_low, int *ret_high)
{
	const char *end = comment + strcspn(comment, "\n");

	for (const char *p = comment; p < end; p++) {
		if ((isdigit((unsigned char)*p) || (*p == '-' && isdigit((unsigned char)p[1]))) &&
		    !isalnum((unsigned char)p[-1]) &&
		    (sscanf(p, "%d to %d", ret_low, ret_high) == 2 ||
		     sscanf(p, "%d (%*[^)]) to %d", ret_low, ret_high) == 2))
			return true;
	}
	return false;
}

static void the_example_has_the_defaults(void **state)
{
	char error[SETTINGS_ERROR] = "";
	struct settings example, defaults;

	(void)state;
	assert_int_equal(settings_init(&defaults), 0);
	if (settings_load(EXAMPLE, &example, error) != 0)
		fail_msg("%s", error);
	expect_equal(&example, &defaults);
	settings_done(&example);
	settings_done(&defaults);
}

/* True where `name = ` starts a line of the group's part of the example; "" for the options that
 * are in none. */
static bool example_has(const char *example, const char *group, const char *name)
{
	char line[80];
	const char *start = example, *end = strstr(example, ": {"), *found;

	if (*group) {
		snprintf(line, sizeof(line), "\n%s: {\n", group);
		start = strstr(example, line);
		if (!start)
			return false;
		end = strstr(start, "\n};");
	}
	assert_non_null(end);
	snprintf(line, sizeof(line), "\n%s%s = ", *group ? "\t" : "", name);
	found = strstr(start, line);
	if (!found) {
		/* One that has no default stands in a comment. */
		snprintf(line, sizeof(line), "\n\t# %s = ", name);
		found = strstr(start, line);
	}
	return found && found < end;
}

/* Each option there is stands in the example, and the other way round. */
static void the_example_names_every_option(void **state)
{
	_cleanup_free_ char *example = read_whole(EXAMPLE);
	size_t in_example = 0;

	(void)state;
	for (size_t i = 0; i < settings_n_options; i++) {
		char group[64];
		const char *name = split(&settings_options[i], group, sizeof(group));

		if (!example_has(example, group, name))
			fail_msg("%s is not in %s", settings_options[i].name, EXAMPLE);
	}
	for (const char *p = example; (p = strstr(p, " = ")); p++)
		in_example++;
	assert_int_equal(in_example, settings_n_options);
}

/* What the example says of a range is what is checked. */
static void the_example_tells_the_ranges(void **state)
{
	_cleanup_free_ char *example = read_whole(EXAMPLE);
	size_t checked = 0;

	(void)state;
	for (size_t i = 0; i < settings_n_options; i++) {
		const struct option *o = &settings_options[i];
		char group[64], assignment[80];
		char *comment;
		const char *at;
		int low, high;

		if (o->type != OPTION_INT)
			continue;
		snprintf(assignment, sizeof(assignment), "\t%s = %d;",
			 split(o, group, sizeof(group)), o->number);
		at = strstr(example, assignment);
		if (!at)
			fail_msg("%s has no \"%s\"", EXAMPLE, assignment + 1);
		/* "unit, 1 to 300" or "unit, 0 (never) to 300" in the comment above it. */
		comment = memrchr(example, '#', (size_t)(at - example));
		assert_non_null(comment);
		if (!has_range(comment, &low, &high)) {
			/* It may be said in the line before the last. */
			comment = memrchr(example, '#', (size_t)(comment - example));
			if (!has_range(comment, &low, &high))
				fail_msg("%s: no range at %s", EXAMPLE, o->name);
		}
		assert_int_equal(low, o->min);
		assert_int_equal(high, o->max);
		checked++;
	}
	assert_true(checked >= 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_example_has_the_defaults),
		cmocka_unit_test(the_example_names_every_option),
		cmocka_unit_test(the_example_tells_the_ranges),
	};

	return cmocka_run_group_tests_name("settings_example", tests, NULL, NULL);
}
