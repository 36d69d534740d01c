/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/token.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/util.h"

#define FILE_MAX (TOKEN_MAX + 2) /* with CR LF */

static const char characters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				 "-._~+/";

static int refuse(char *error, int r, const char *path, const char *what)
{
	snprintf(error, TOKEN_ERROR, "%s: %s", path, what);
	return r;
}

static int open_file(const char *path, char *error)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	fd = util_open_regular(path, 0, &st);
	if (fd == -EPERM)
		return refuse(error, fd, path, "not a regular file");
	if (fd < 0)
		return refuse(error, fd, path, strerror(-fd));
	if (st.st_mode & 07) {
		snprintf(error, TOKEN_ERROR,
			 "%s: others can read or write it (mode %04o): chmod 600 it", path,
			 (unsigned)st.st_mode & 07777);
		return -EPERM;
	}
	return TAKE_FD(fd);
}

static size_t without_line_end(const char *buf, size_t len)
{
	if (len > 0 && buf[len - 1] == '\n')
		len--;
	if (len > 0 && buf[len - 1] == '\r')
		len--;
	return len;
}

/* b64token. buf is NUL-terminated. */
static int check(const char *path, const char *buf, size_t len, char *error)
{
	size_t good = strspn(buf, characters);

	if (len == 0)
		return refuse(error, -EINVAL, path, "it is empty: expected a bearer token");
	if (memchr(buf, '\n', len))
		return refuse(error, -EINVAL, path, "more than one line: expected a bearer token");
	if (len > TOKEN_MAX) {
		snprintf(error, TOKEN_ERROR, "%s: longer than a bearer token of %d bytes", path,
			 TOKEN_MAX);
		return -EFBIG;
	}
	if (good > 0)
		good += strspn(buf + good, "=");
	if (good >= len)
		return 0;
	snprintf(error, TOKEN_ERROR,
		 "%s: character %zu is none of a bearer token: letters, digits, -._~+/, and = at "
		 "its end",
		 path, good + 1);
	return -EINVAL;
}

int token_read(const char *path, char ret[TOKEN_MAX + 1], char ret_error[TOKEN_ERROR])
{
	_cleanup_close_ int fd = open_file(path, ret_error);
	char buf[FILE_MAX + 2]; /* one byte more shows that there is more */
	ssize_t n;
	int r;

	if (fd < 0)
		return fd;
	/* Not into memory that is freed, and not wiped. */
	n = util_read(fd, buf, FILE_MAX + 1);
	if (n < 0)
		return refuse(ret_error, (int)n, path, strerror((int)-n));
	buf[n] = '\0';
	n = (ssize_t)without_line_end(buf, (size_t)n);
	r = check(path, buf, (size_t)n, ret_error);
	if (r == 0) {
		memcpy(ret, buf, (size_t)n);
		ret[n] = '\0';
	}
	explicit_bzero(buf, sizeof(buf));
	return r;
}
