/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/token.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

static char path[sizeof(directory) + 8], target[sizeof(directory) + 8];

static int setup(void **state)
{
	if (make_directory(state) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/token", directory);
	snprintf(target, sizeof(target), "%s/other", directory);
	return 0;
}

static int clear(void **state)
{
	(void)state;
	unlink(path);
	unlink(target);
	rmdir(path);
	return 0;
}

static void put(const char *content, size_t len)
{
	assert_int_equal(util_replace_file(path, 0600, content, len), 0);
}

static void reads(const char *expected)
{
	char token[TOKEN_MAX + 1], error[TOKEN_ERROR] = "";

	if (token_read(path, token, error) != 0)
		fail_msg("%s", error);
	assert_string_equal(token, expected);
}

/* The message names the file, and says what is wrong; the result is as it was. */
static void refused(int expected, const char *what)
{
	char token[TOKEN_MAX + 1] = "before", error[TOKEN_ERROR] = "", begin[64];

	assert_int_equal(token_read(path, token, error), expected);
	assert_string_equal(token, "before");
	snprintf(begin, sizeof(begin), "%s: ", path);
	assert_int_equal(strncmp(error, begin, strlen(begin)), 0);
	if (!strstr(error, what))
		fail_msg("\"%s\" does not say \"%s\"", error, what);
	assert_null(strstr(error, "SECRET"));
}

static void reads_tokens(void **state)
{
	static const char *const tokens[] = {
		"x",   "mF_9.B5f-4.1JqM", "aGVsbG8=",
		"a==", "~+/-._",	  "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJodWIifQ.c2lnbmF0dXJl"};
	static const char *const ends[] = {"", "\n", "\r\n", "\r"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(tokens); i++) {
		for (size_t j = 0; j < ARRAY_SIZE(ends); j++) {
			char content[128];

			snprintf(content, sizeof(content), "%s%s", tokens[i], ends[j]);
			put(content, strlen(content));
			reads(tokens[i]);
		}
	}
}

static void reads_through_links(void **state)
{
	(void)state;
	put("token", 5);
	assert_int_equal(rename(path, target), 0);
	assert_int_equal(symlink(target, path), 0);
	reads("token");
	assert_int_equal(chmod(target, 0640), 0); /* its group may be the daemon's */
	reads("token");
}

static void the_longest_and_one_more(void **state)
{
	char content[TOKEN_MAX + 8];

	(void)state;
	memset(content, 'x', sizeof(content));
	content[TOKEN_MAX] = '\0';
	put(content, TOKEN_MAX);
	reads(content);
	memcpy(content + TOKEN_MAX, "\r\n", 2);
	put(content, TOKEN_MAX + 2);
	content[TOKEN_MAX] = '\0';
	reads(content);
	memset(content, 'x', sizeof(content));
	for (size_t len = TOKEN_MAX + 1; len <= sizeof(content); len++) {
		put(content, len);
		refused(-EFBIG, "longer than a bearer token of 4096 bytes");
	}
	content[TOKEN_MAX + 1] = '\n';
	put(content, TOKEN_MAX + 2);
	refused(-EFBIG, "longer");
	memcpy(content + TOKEN_MAX, "\r\n\n", 3);
	put(content, TOKEN_MAX + 3);
	refused(-EINVAL, "more than one line");
}

static const struct {
	const char *content, *what;
} bad[] = {
	{"", "it is empty"},
	{"\n", "it is empty"},
	{"\r\n", "it is empty"},
	{"SECRET\nSECRET\n", "more than one line"},
	{"SECRET\n\n", "more than one line"},
	{"\nSECRET", "more than one line"},
	{"SECRET SECRET", "character 7 is none of a bearer token"},
	{" SECRET", "character 1 "},
	{"SECRET ", "character 7 "},
	{"SECRET\t\n", "character 7 "},
	{"SEC=RET", "character 5 "},
	{"=", "character 1 "},
	{"\"SECRET\"", "character 1 "},
	{"SECR\xc3\x89T", "character 5 "},
	{"\xef\xbb\xbfSECRET", "character 1 "}, /* a byte order mark */
	{"SECRET\r\r\n", "character 7 "},
};

static void refuses_what_is_no_token(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		put(bad[i].content, strlen(bad[i].content));
		refused(-EINVAL, bad[i].what);
	}
	put("SECRET\0SECRET", 13);
	refused(-EINVAL, "character 7 ");
	put("\0", 1);
	refused(-EINVAL, "character 1 ");
}

/* Every byte there is, within a token. */
static void takes_the_characters_of_the_rfc_alone(void **state)
{
	static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				   "0123456789-._~+/";

	(void)state;
	for (int c = 0; c < 256; c++) {
		char content[] = {'x', (char)c, 'x', '\0'};

		put(content, 3);
		if (c != 0 && strchr(good, c))
			reads(content);
		else
			refused(-EINVAL, c == '\n' ? "more than one line" : "character ");
	}
}

static void refuses_what_others_can_read(void **state)
{
	static const mode_t modes[] = {0604, 0602, 0601, 0644, 0666};

	(void)state;
	put("SECRET", 6);
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		char what[64];

		assert_int_equal(chmod(path, modes[i]), 0);
		snprintf(what, sizeof(what), "(mode %04o): chmod", (unsigned)modes[i]);
		refused(-EPERM, what);
	}
}

static void refuses_what_is_no_file(void **state)
{
	(void)state;
	refused(-ENOENT, "No such file or directory");
	assert_int_equal(mkfifo(path, 0600), 0);
	refused(-EPERM, "not a regular file");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	refused(-EPERM, "not a regular file");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, clear, clear)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reads_tokens),
		TEST(reads_through_links),
		TEST(the_longest_and_one_more),
		TEST(refuses_what_is_no_token),
		TEST(takes_the_characters_of_the_rfc_alone),
		TEST(refuses_what_others_can_read),
		TEST(refuses_what_is_no_file),
	};

	return cmocka_run_group_tests_name("token", tests, setup, remove_directory);
}
