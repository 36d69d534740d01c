/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/own_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

static char path[sizeof(directory) + 8], link_path[sizeof(path) + 8];

static void reads_what_is_its_own(void **state)
{
	_cleanup_free_ char *data = NULL;

	(void)state;
	snprintf(path, sizeof(path), "%s/file", directory);
	assert_int_equal(util_replace_file(path, 0600, "a\0b", 3), 0);
	assert_int_equal(own_file_read(path, 3, &data), 3);
	assert_memory_equal(data, "a\0b", 4);
	assert_int_equal(own_file_read(path, 2, &data), -EFBIG);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(own_file_read(path, 3, &data), -ENOENT);
}

static void refuses_what_is_not(void **state)
{
	char *data = NULL;

	(void)state;
	snprintf(link_path, sizeof(link_path), "%s.link", path);
	assert_int_equal(util_replace_file(path, 0600, "a", 1), 0);
	assert_int_equal(symlink(path, link_path), 0);
	assert_int_equal(own_file_read(link_path, 1, &data), -EPERM);
	assert_int_equal(own_file_read(directory, 1, &data), -EPERM);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 65534, 65534), 0);
		assert_int_equal(own_file_read(path, 1, &data), -EPERM);
	}
	assert_int_equal(unlink(path) + unlink(link_path), 0);
	assert_null(data);
}

static void says_what_is_wrong(void **state)
{
	(void)state;
	assert_string_equal(own_file_error(-EPERM), "it is no regular file of this user");
	assert_string_equal(own_file_error(-EPROTONOSUPPORT),
			    "it is from another version of blecon-hotspotd");
	assert_string_equal(own_file_error(-EBADMSG), "it is damaged");
	assert_string_equal(own_file_error(-EFBIG), "it is damaged");
	assert_string_equal(own_file_error(-EIO), strerror(EIO));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_is_its_own),
		cmocka_unit_test(refuses_what_is_not),
		cmocka_unit_test(says_what_is_wrong),
	};

	return cmocka_run_group_tests_name("own file", tests, make_directory, remove_directory);
}
