/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/util.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/common.h"

static const char *in_directory(const char *name)
{
	/* In turn, so that a test can have two. */
	static char paths[2][sizeof(directory) + 64];
	static unsigned turn;
	char *path = paths[turn++ % 2];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static unsigned count_files(void)
{
	DIR *dir = opendir(directory);
	unsigned n = 0;

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void expect_file(const char *path, mode_t mode, const char *content)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, mode);
	assert_int_equal(util_read_fd(fd, 1 << 20, &text), strlen(content));
	assert_string_equal(text, content);
}

static void replaces_a_file(void **state)
{
	const char *path = in_directory("file");
	mode_t mask = umask(077);

	(void)state;
	assert_int_equal(util_replace_file(path, 0640, "first", 5), 0);
	expect_file(path, 0640, "first"); /* whatever the umask */
	assert_int_equal(util_replace_file(path, 0600, "2", 1), 0);
	expect_file(path, 0600, "2");
	assert_int_equal(util_replace_file(path, 0600, NULL, 0), 0);
	expect_file(path, 0600, "");
	assert_int_equal(count_files(), 1);
	unlink(path);
	umask(mask);
}

/* A symbolic link is replaced itself; what it leads to stays. */
static void replaces_a_link(void **state)
{
	const char *target = in_directory("target");
	const char *path = in_directory("link");
	struct stat st;

	(void)state;
	assert_int_equal(util_replace_file(target, 0600, "target", 6), 0);
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(util_replace_file(path, 0600, "new", 3), 0);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISREG(st.st_mode));
	expect_file(path, 0600, "new");
	expect_file(target, 0600, "target");
	unlink(path);
	unlink(target);
}

/* A write that fails half-way, as on a full disk. */
static void keeps_the_file_where_writing_fails(void **state)
{
	static char large[65536];
	const char *path = in_directory("file");
	struct rlimit before, small;
	int r;

	(void)state;
	assert_int_equal(util_replace_file(path, 0600, "old", 3), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = 4096;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	r = util_replace_file(path, 0600, large, sizeof(large));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(r, -EFBIG);
	expect_file(path, 0600, "old");
	assert_int_equal(count_files(), 1);
	unlink(path);
}

static void keeps_what_cannot_be_replaced(void **state)
{
	const char *path = in_directory("dir");
	struct stat st;

	(void)state;
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(util_replace_file(path, 0600, "x", 1), -EISDIR);
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(count_files(), 1);
	rmdir(path);
	assert_int_equal(util_replace_file(in_directory("no/file"), 0600, "x", 1), -ENOENT);
	assert_int_equal(count_files(), 0);
}

/* A path without a folder is one in the working directory. */
static void replaces_a_file_here(void **state)
{
	_cleanup_free_ char *before = getcwd(NULL, 0);

	(void)state;
	assert_non_null(before);
	assert_int_equal(chdir(directory), 0);
	assert_int_equal(util_replace_file("here", 0600, "x", 1), 0);
	assert_int_equal(chdir(before), 0);
	expect_file(in_directory("here"), 0600, "x");
	unlink(in_directory("here"));
}

static void reads_up_to_the_limit(void **state)
{
	static const char content[] = "0123456789";
	const char *path = in_directory("file");

	(void)state;
	assert_int_equal(util_replace_file(path, 0600, content, 10), 0);
	for (size_t max = 0; max <= 12; max++) {
		_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
		_cleanup_free_ char *text = NULL;
		ssize_t n = util_read_fd(fd, max, &text);

		if (max < 10) {
			assert_int_equal(n, -EFBIG);
			assert_null(text);
		} else {
			assert_int_equal(n, 10);
			assert_string_equal(text, content);
		}
	}
	unlink(path);
	assert_int_equal(util_replace_file(path, 0600, NULL, 0), 0);
	for (size_t max = 0; max < 2; max++) {
		_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
		_cleanup_free_ char *text = NULL;

		assert_int_equal(util_read_fd(fd, max, &text), 0);
		assert_string_equal(text, "");
	}
	unlink(path);
}

/* Content that comes in pieces, and a descriptor that cannot be read. */
static void reads_pieces_and_errors(void **state)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_close_ int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fds[2];
	pid_t child;

	(void)state;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		for (int i = 0; i < 20; i++) {
			if (write(fds[1], "piece ", 6) != 6)
				_exit(1);
		}
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(util_read_fd(fds[0], 1000, &text), 120);
	assert_memory_equal(text + 114, "piece \0", 7);
	close(fds[0]);
	assert_int_equal(waitpid(child, NULL, 0), child);
	free(TAKE_PTR(text));
	assert_int_equal(util_read_fd(dir, 10, &text), -EISDIR);
	assert_int_equal(util_read_fd(-1, 10, &text), -EBADF);
	assert_null(text);
}

static void opens_regular_files_only(void **state)
{
	const char *path = in_directory("file");
	const char *link = in_directory("link");
	struct stat st = {0};
	int fd;

	(void)state;
	assert_int_equal(util_open_regular(path, 0, &st), -ENOENT);
	assert_int_equal(util_replace_file(path, 0640, "x", 1), 0);
	fd = util_open_regular(path, O_NOFOLLOW, &st);
	assert_true(fd >= 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(fd);
	assert_int_equal(symlink(path, link), 0);
	assert_int_equal(util_open_regular(link, O_NOFOLLOW, &st), -EPERM);
	fd = util_open_regular(link, 0, &st);
	assert_true(fd >= 0);
	close(fd);
	unlink(path);
	assert_int_equal(util_open_regular(link, 0, &st), -ENOENT);
	unlink(link);
	/* Neither a directory nor a pipe, which must not block. */
	assert_int_equal(util_open_regular(directory, 0, &st), -EPERM);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(util_open_regular(path, 0, &st), -EPERM);
	unlink(path);
}

static void writes_uuids(void **state)
{
	static const uint8_t uuid[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
					 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10};
	static const uint8_t nil[16];
	char text[UTIL_UUID_TEXT + 1];

	(void)state;
	memset(text, 'x', sizeof(text));
	util_uuid_text(uuid, text);
	assert_string_equal(text, "01234567-89ab-cdef-fedc-ba9876543210");
	assert_int_equal(strlen(text) + 1, UTIL_UUID_TEXT);
	assert_int_equal(text[UTIL_UUID_TEXT], 'x');
	util_uuid_text(nil, text);
	assert_string_equal(text, "00000000-0000-0000-0000-000000000000");
}

static bool reads(const char *text, uint8_t ret[16])
{
	return util_uuid_parse(text, strlen(text), ret);
}

static void reads_uuids(void **state)
{
	static const char *const bad[] = {
		"",
		"01234567-89ab-cdef-fedc-ba987654321",
		"01234567-89ab-cdef-fedc-ba98765432100",
		"0123456789abcdeffedcba9876543210",
		"01234567089ab-cdef-fedc-ba9876543210",
		"01234567-89ab-cdef-fedcb-a9876543210",
		"01234567-89ab-cdef-fedc-ba987654321g",
		"01234567-89ab-cdef-fedc-ba987654321@",
		"0123456`-89ab-cdef-fedc-ba9876543210",
		"+1234567-89ab-cdef-fedc-ba9876543210",
		"{01234567-89ab-cdef-fedc-ba98765432}",
	};
	static const uint8_t expected[16] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
					     0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10};
	uint8_t uuid[16] = {0}, unchanged[16] = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_false(reads(bad[i], uuid));
		assert_memory_equal(uuid, unchanged, 16);
	}
	assert_true(reads("01234567-89ab-cdef-fedc-ba9876543210", uuid));
	assert_memory_equal(uuid, expected, 16);
	memset(uuid, 0, 16);
	assert_true(reads("01234567-89AB-CdEf-FEDC-BA9876543210", uuid));
	assert_memory_equal(uuid, expected, 16);
}

static void random_is_within_its_limit(void **state)
{
	uint8_t a[32] = {0}, b[32] = {0};
	unsigned hits[4] = {0};

	(void)state;
	util_random(a, sizeof(a));
	util_random(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
	util_random(NULL, 0);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(util_random_below(0), 0);
		hits[util_random_below(3)]++; /* the limit itself can come */
		util_random_below(UINT32_MAX);
	}
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(hits[i], 100, 500);
}

static void removes_files(void **state)
{
	char path[sizeof(directory) + 8];

	(void)state;
	snprintf(path, sizeof(path), "%s/file", directory);
	assert_int_equal(util_remove_file(path), -ENOENT);
	assert_int_equal(util_replace_file(path, 0600, "x", 1), 0);
	assert_int_equal(util_remove_file(path), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(symlink("/etc/passwd", path), 0);
	assert_int_equal(util_remove_file(path), 0);
	assert_int_equal(access("/etc/passwd", F_OK), 0);
	assert_int_equal(util_remove_file(directory), -EISDIR);
}

static void the_clock_goes_on(void **state)
{
	uint64_t us = util_now_us(), ms = util_now_ms();

	(void)state;
	assert_true(us > UTIL_CLOCK_AHEAD_US && util_now_us() >= us);
	assert_true(ms >= us / 1000 && ms - us / 1000 < 60000);
}

struct element {
	char name;
	struct list link;
};

static void expect_list(struct list *head, const char *names)
{
	LIST_FOREACH (l, head) {
		assert_ptr_equal(l->next->prev, l);
		assert_int_equal(LIST_ENTRY(l, struct element, link)->name, *names);
		assert_true(*names++);
	}
	assert_int_equal(*names, '\0');
}

static void lists(void **state)
{
	struct element a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'};
	struct list head, other;

	(void)state;
	list_init(&head);
	list_init(&other);
	assert_true(list_empty(&head));
	expect_list(&head, "");
	list_remove(&a.link); /* in no list yet */
	list_append(&head, &a.link);
	assert_false(list_empty(&head));
	list_append(&head, &b.link);
	list_append(&head, &c.link);
	expect_list(&head, "abc");
	list_remove(&b.link);
	list_remove(&b.link);
	expect_list(&head, "ac");
	list_append(&other, &b.link);
	list_remove(&a.link);
	list_append(&head, &a.link);
	expect_list(&head, "ca");
	expect_list(&other, "b");
	LIST_FOREACH_SAFE (l, &head) {
		list_remove(l);
		list_append(&other, l);
	}
	assert_true(list_empty(&head));
	expect_list(&other, "bca");
}

static char *give(char **p)
{
	return TAKE_PTR(*p);
}

static void takes_and_cleans_up(void **state)
{
	_cleanup_free_ char *text = strdup("x");
	char *taken = give(&text);
	int fd = dup(STDERR_FILENO), same = fd;

	(void)state;
	assert_null(text);
	assert_string_equal(taken, "x");
	free(taken);
	{
		_cleanup_close_ int closed = TAKE_FD(fd);
		_cleanup_close_ int none = -1;

		assert_int_equal(closed, same);
		assert_int_equal(none, -1);
	}
	assert_int_equal(fd, -1);
	assert_int_equal(fcntl(same, F_GETFD), -1);
}

static void copies_whole_characters(void **state)
{
	static const struct {
		const char *text;
		size_t size;
		const char *copy;
	} vectors[] = {
		{"", 1, ""},
		{"a", 1, ""},
		{"abc", 4, "abc"},
		{"abc", 3, "ab"},
		{"a\xe2\x82\xac", 5, "a\xe2\x82\xac"},
		{"a\xe2\x82\xac", 4, "a"},
		{"a\xe2\x82", 5, "a??"},
		{"\xff\xc3\xa9\xc0\x80", 16, "?\xc3\xa9??"},
		{"\xff\xff", 2, "?"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		char *copy = malloc(vectors[i].size);

		assert_non_null(copy);
		util_copy_utf8(copy, vectors[i].size, vectors[i].text);
		assert_string_equal(copy, vectors[i].copy);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(replaces_a_file),
		cmocka_unit_test(replaces_a_link),
		cmocka_unit_test(keeps_the_file_where_writing_fails),
		cmocka_unit_test(keeps_what_cannot_be_replaced),
		cmocka_unit_test(replaces_a_file_here),
		cmocka_unit_test(reads_up_to_the_limit),
		cmocka_unit_test(reads_pieces_and_errors),
		cmocka_unit_test(opens_regular_files_only),
		cmocka_unit_test(writes_uuids),
		cmocka_unit_test(reads_uuids),
		cmocka_unit_test(random_is_within_its_limit),
		cmocka_unit_test(removes_files),
		cmocka_unit_test(the_clock_goes_on),
		cmocka_unit_test(lists),
		cmocka_unit_test(takes_and_cleans_up),
		cmocka_unit_test(copies_whole_characters),
	};

	return cmocka_run_group_tests_name("util", tests, make_directory, remove_directory);
}
