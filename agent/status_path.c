/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_path.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/util.h"

/* 0 where nobody listens at the address and it may be bound. */
static int clear_address(const struct sockaddr_un *address)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		return -EADDRINUSE;
	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int make_directory(const char *path)
{
	_cleanup_free_ char *directory = strdup(path);

	if (!directory)
		return -ENOMEM;
	*strrchr(directory, '/') = '\0';
	if (*directory && mkdir(directory, 0755) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static void give_to_group(const char *path)
{
	const struct group *group = getgrnam(STATUS_PATH_GROUP);
	struct stat st;

	if (!group)
		log_debug("status socket %s: there is no group %s", path, STATUS_PATH_GROUP);
	else if (stat(path, &st) == 0 && st.st_gid == group->gr_gid)
		return; /* of a service's own group; its sandbox need not allow chown */
	else if (chown(path, (uid_t)-1, group->gr_gid) < 0)
		log_debug("status socket %s: cannot give it to group %s: %s", path,
			  STATUS_PATH_GROUP, strerror(errno));
}

int status_path_listen(const struct sockaddr_un *address)
{
	_cleanup_close_ int fd = -1;
	int r = make_directory(address->sun_path);

	if (r == 0)
		r = clear_address(address);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
		return -errno;
	/* Before anybody can connect. */
	give_to_group(address->sun_path);
	if (chmod(address->sun_path, 0660) < 0 || listen(fd, STATUS_PATH_WAITING) < 0)
		return -errno;
	return TAKE_FD(fd);
}
