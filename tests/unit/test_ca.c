/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/ca.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/certificates.h"

#define BEGIN	"-----BEGIN CERTIFICATE-----\n"
#define END	"-----END CERTIFICATE-----"
#define UNKNOWN BEGIN "MAMCAQE=\n" END

static char *content_of(const char *name)
{
	char path[CERTIFICATE_PATH], *text = calloc(1, 65536);
	FILE *file = fopen(certificate_path(name, path), "r");

	assert_non_null(text);
	assert_non_null(file);
	assert_true(fread(text, 1, 65535, file) < 65535);
	fclose(file);
	return text;
}

/* Of a file with this in it, what is left; NULL where it is refused with -EINVAL. */
static char *left_of(const char *content)
{
	char path[CERTIFICATE_PATH], *text = NULL;
	FILE *file = fopen(certificate_path("all.pem", path), "w");
	size_t len;
	int r;

	assert_non_null(file);
	fputs(content, file);
	fclose(file);
	r = ca_read(path, &text, &len);
	if (r == 0)
		assert_int_equal(len, strlen(text));
	else
		assert_int_equal(r, -EINVAL);
	return text;
}

static void leaves_out_what_mbedtls_does_not_know(void **state)
{
	_cleanup_free_ char *one = content_of("ca.pem"), *two = content_of("other.pem");
	const struct {
		const char *parts[6];
		const char *left[3]; /* none: refused */
	} cases[] = {
		{{one}, {one}},
		{{one, two}, {one, two}},
		{{"Somebody's CA\n=====\n", one, "\n\nAnother's\n", two, "the end"}, {one, two}},
		{{UNKNOWN, "\n", one}, {one}},
		{{one, UNKNOWN, "\n", two, UNKNOWN}, {one, two}},
		{{UNKNOWN, "\r\n", UNKNOWN, "\n", two}, {two}},
		{{one, BEGIN, "MAMCAQE=\n"}, {one}},
		{{UNKNOWN, "\n"}, {0}},
		{{BEGIN}, {0}},
		{{END}, {0}},
		{{"no certificate"}, {0}},
		{{""}, {0}},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		char content[65536] = "", expected[65536] = "";
		_cleanup_free_ char *left = NULL;

		for (const char *const *part = cases[i].parts; *part; part++)
			strcat(content, *part);
		for (const char *const *part = cases[i].left; *part; part++)
			strcat(expected, *part);
		left = left_of(content);
		assert_string_equal(left ? left : "", expected);
	}
}

static void tells_of_a_file_that_it_cannot_read(void **state)
{
	char path[CERTIFICATE_PATH], *text = NULL;
	size_t len;

	(void)state;
	assert_int_equal(ca_read(certificate_path("none.pem", path), &text, &len), -ENOENT);
	assert_int_equal(ca_read(directory, &text, &len), -EISDIR);
	assert_null(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(leaves_out_what_mbedtls_does_not_know),
		cmocka_unit_test(tells_of_a_file_that_it_cannot_read),
	};

	return cmocka_run_group_tests(tests, make_certificates, remove_certificates);
}
