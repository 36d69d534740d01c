/* SPDX-License-Identifier: Apache-2.0 */
/* The commented example of the configuration beside what settings.c says of each option. */
#include "agent/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/options.h"

#define EXAMPLE "configs/blecon-hotspot.conf" /* tests run at the root of the source */
#define SOURCE	"agent/settings.c"

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
	return found && found < end;
}

/* Each option of the table in settings.c stands in the example, and the other way round. */
static void the_example_names_every_option(void **state)
{
	_cleanup_free_ char *source = read_whole(SOURCE);
	_cleanup_free_ char *example = read_whole(EXAMPLE);
	const char *table = strstr(source, "options[] = {");
	unsigned in_table = 0, in_example = 0;

	(void)state;
	assert_non_null(table);
	for (const char *p = table; (p = strstr(p, "\n\t{\"")); p++) {
		char name[64] = "", *dot;

		assert_int_equal(sscanf(p, "\n\t{\"%63[a-z_.]\", TYPE_", name), 1);
		dot = strchr(name, '.');
		if (dot)
			*dot = '\0';
		if (!example_has(example, dot ? name : "", dot ? dot + 1 : name))
			fail_msg("%s%s%s is not in %s", name, dot ? "." : "", dot ? dot + 1 : "",
				 EXAMPLE);
		in_table++;
	}
	for (const char *p = example; (p = strstr(p, " = ")); p++)
		in_example++;
	assert_int_equal(in_table, 27);
	assert_int_equal(in_example, in_table);
}

/* What the example says of a range is what is checked. */
static void the_example_tells_the_ranges(void **state)
{
	_cleanup_free_ char *source = read_whole(SOURCE);
	_cleanup_free_ char *example = read_whole(EXAMPLE);

	(void)state;
	for (const char *p = source; (p = strstr(p, "TYPE_INT, OFFSET("));) {
		char name[64] = "", assignment[80];
		char *comment;
		const char *at;
		int min, max, number, low, high;
		const char *values = strchr(p, ')');

		p += strlen("TYPE_INT, OFFSET(");
		assert_int_equal(sscanf(p, "%63[a-z_.]", name), 1);
		assert_int_equal(sscanf(values, "), %d, %d, %d", &min, &max, &number), 3);
		snprintf(assignment, sizeof(assignment), "\t%s = %d;", strchr(name, '.') + 1,
			 number);
		at = strstr(example, assignment);
		if (!at)
			fail_msg("%s has no \"%s\"", EXAMPLE, assignment + 1);
		/* "unit, 1 to 300" or "unit, 0 (never) to 300" in the comment above it. */
		comment = memrchr(example, '#', (size_t)(at - example));
		assert_non_null(comment);
		comment += strcspn(comment, "0123456789-\n");
		if (sscanf(comment, "%d to %d", &low, &high) != 2 &&
		    sscanf(comment, "%d (%*[^)]) to %d", &low, &high) != 2)
			fail_msg("%s: no range at %s", EXAMPLE, name);
		assert_int_equal(low, min);
		assert_int_equal(high, max);
	}
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
