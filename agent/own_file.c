/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/own_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent/util.h"

ssize_t own_file_read(const char *path, size_t max, char **ret)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	fd = util_open_regular(path, O_NOFOLLOW, &st);
	if (fd < 0)
		return fd;
	if (st.st_uid != geteuid())
		return -EPERM;
	if ((size_t)st.st_size > max)
		return -EFBIG;
	return util_read_fd(fd, (size_t)st.st_size, ret);
}

const char *own_file_error(int error)
{
	switch (error) {
	case -EPERM:
		return "it is no regular file of this user";
	case -EPROTONOSUPPORT:
		return "it is from another version of blecon-hotspotd";
	case -EBADMSG:
	case -EFBIG:
		return "it is damaged";
	default:
		return strerror(-error);
	}
}
