/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/rfkill.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/util.h"

static char sysfs[] = "/tmp/test_rfkill.XXXXXX";

static void put(const char *file, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/hci1/rfkill7/%s", sysfs, file);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int make_sysfs(void **state)
{
	static const char *const made[] = {"hci0", "hci0/power", "hci1", "hci1/power",
					   "hci1/rfkill7"};

	(void)state;
	if (!mkdtemp(sysfs))
		return -1;
	for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
		char path[64];

		snprintf(path, sizeof(path), "%s/%s", sysfs, made[i]);
		if (mkdir(path, 0700) < 0)
			return -1;
	}
	return 0;
}

static int remove_sysfs(void **state)
{
	static const char *const made[] = {"hci1/rfkill7/soft",
					   "hci1/rfkill7/hard",
					   "hci1/rfkill7",
					   "hci1/power",
					   "hci1",
					   "hci0/power",
					   "hci0",
					   ""};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(made); i++) {
		char path[64];

		snprintf(path, sizeof(path), "%s/%s", sysfs, made[i]);
		remove(path);
	}
	return access(sysfs, F_OK) == 0 ? -1 : 0;
}

static void by_a_program_or_a_switch(void **state)
{
	(void)state;
	put("soft", "0\n");
	put("hard", "0\n");
	assert_false(rfkill_blocks(sysfs, 1));
	put("soft", "1\n");
	assert_true(rfkill_blocks(sysfs, 1));
	put("hard", "1\n");
	assert_true(rfkill_blocks(sysfs, 1));
	put("soft", "0\n");
	assert_true(rfkill_blocks(sysfs, 1));
}

static void not_where_nothing_is_said(void **state)
{
	(void)state;
	assert_false(rfkill_blocks(sysfs, 0));
	assert_false(rfkill_blocks(sysfs, 2));
	assert_false(rfkill_blocks("/nonexistent", 1));
	put("soft", "");
	put("hard", "");
	assert_false(rfkill_blocks(sysfs, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_a_program_or_a_switch),
		cmocka_unit_test(not_where_nothing_is_said),
	};

	return cmocka_run_group_tests_name("rfkill", tests, make_sysfs, remove_sysfs);
}
