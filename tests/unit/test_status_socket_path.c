/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_socket.h"

#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/status_path.h"
#include "tests/unit/common.h"
#include "tests/unit/status_client.h"

/* The group there is said to be, and whether a socket may be given to it. */
static struct group *hotspot_group;
static bool may_chown;

struct group *getgrnam(const char *name)
{
	assert_string_equal(name, STATUS_PATH_GROUP);
	return hotspot_group;
}

int chown(const char *file, uid_t owner, gid_t group)
{
	if (may_chown)
		return fchownat(AT_FDCWD, file, owner, group, 0);
	errno = EPERM;
	return -1;
}

static gid_t group_of_the_socket(mode_t *ret_mode)
{
	struct fixture *f = fixture_new();
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	*ret_mode = st.st_mode & 07777;
	fixture_free(f);
	return st.st_gid;
}

static void is_for_the_hotspots_group(void **state)
{
	struct group group = {.gr_name = (char *)STATUS_PATH_GROUP, .gr_gid = 65533};
	mode_t mode;

	(void)state;
	/* Nobody else can give a file to a group that it is not in. */
	if (geteuid() != 0)
		skip();
	hotspot_group = &group;
	may_chown = true;
	assert_int_equal(group_of_the_socket(&mode), 65533);
	assert_int_equal(mode, 0660);
	hotspot_group = NULL;
}

/* It stays with the group of the daemon's user, and works. */
static void does_without_that_group(void **state)
{
	struct group group = {.gr_name = (char *)STATUS_PATH_GROUP, .gr_gid = 65533};
	mode_t mode;

	(void)state;
	assert_int_equal(group_of_the_socket(&mode), getegid());
	assert_int_equal(mode, 0660);
	hotspot_group = &group;
	may_chown = false;
	assert_int_equal(group_of_the_socket(&mode), getegid());
	assert_int_equal(mode, 0660);
	hotspot_group = NULL;
}

static void is_for_its_user_and_group(void **state)
{
	mode_t masks[] = {0, 077, 0177};
	struct stat st;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(masks); i++) {
		mode_t mask = umask(masks[i]);
		struct fixture *f = fixture_new();

		umask(mask);
		assert_int_equal(stat(path, &st), 0);
		assert_true(S_ISSOCK(st.st_mode));
		assert_int_equal(st.st_mode & 07777, 0660);
		fixture_free(f);
	}
}

static int try(struct fixture *f, const char *where)
{
	struct status_socket *server = NULL;
	int r = status_socket_new(f->loop, where, on_request, f, &server);

	status_socket_free(server);
	return r;
}

static void makes_one_directory(void **state)
{
	char deep[sizeof(path) + 16];
	struct fixture *f = fixture_new();
	struct stat st;
	mode_t mask = umask(022);

	(void)state;
	snprintf(deep, sizeof(deep), "%s/a/b", directory);
	assert_int_equal(try(f, deep), 0);
	*strrchr(deep, '/') = '\0';
	assert_int_equal(stat(deep, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0755);
	rmdir(deep);
	snprintf(deep, sizeof(deep), "%s/a/b/c", directory);
	assert_int_equal(try(f, deep), -ENOENT);
	umask(mask);
	fixture_free(f);
}

static void paths_have_a_length(void **state)
{
	struct fixture *f = fixture_new();
	char longest[sizeof(((struct sockaddr_un *)0)->sun_path) + 1];

	(void)state;
	memset(longest, 'x', sizeof(longest));
	memcpy(longest, directory, strlen(directory));
	longest[strlen(directory)] = '/';
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(try(f, longest), -ENAMETOOLONG);
	longest[sizeof(longest) - 2] = '\0';
	assert_int_equal(try(f, longest), 0);
	fixture_free(f);
}

/* A listening socket of our own at path. */
static int listen_here(int backlog)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void replaces_a_dead_socket(void **state)
{
	struct fixture *f;

	(void)state;
	close(listen_here(1));
	assert_int_equal(access(path, F_OK), 0);
	f = fixture_new();
	client_join(f, 0);
	client_say(f, 0, "x\n");
	client_hear(f, 0, "[x]\n");
	fixture_free(f);
}

static void leaves_a_living_socket(void **state)
{
	struct fixture *f = fixture_new();
	int fd, client;

	(void)state;
	assert_int_equal(try(f, path), -EADDRINUSE);
	client_join(f, 0);
	client_say(f, 0, "x\n");
	client_hear(f, 0, "[x]\n");
	fixture_free(f);

	/* One that is too busy to take a further client. */
	fd = listen_here(0);
	client = connect_to(path);
	f = calloc(1, sizeof(*f));
	assert_non_null(f);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(try(f, path), -EADDRINUSE);
	assert_int_equal(access(path, F_OK), 0);
	loop_free(f->loop);
	free(f);
	close(client);
	close(fd);
	unlink(path);
}

static void leaves_what_is_no_socket(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char text[8] = "";
	int fd;

	(void)state;
	assert_non_null(f);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(util_replace_file(path, 0600, "keep", 4), 0);
	assert_int_equal(try(f, path), -EEXIST);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 4);
	assert_string_equal(text, "keep");
	close(fd);
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(try(f, path), -EEXIST);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(symlink("nowhere", path), 0);
	assert_int_equal(try(f, path), -EEXIST);
	unlink(path);
	loop_free(f->loop);
	free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(is_for_its_user_and_group), TEST(is_for_the_hotspots_group),
		TEST(does_without_that_group),	 TEST(makes_one_directory),
		TEST(paths_have_a_length),	 TEST(replaces_a_dead_socket),
		TEST(leaves_a_living_socket),	 TEST(leaves_what_is_no_socket),
	};

	return cmocka_run_group_tests_name("status_socket_path", tests, name_path,
					   remove_directory);
}
