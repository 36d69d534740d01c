/* SPDX-License-Identifier: Apache-2.0 */
/* Files that an earlier run of the agent has left to this one, in a form of their own. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Reads the whole file into a new NUL-terminated buffer for the caller to free. Returns its length,
 * or -errno: -EPERM for what is no regular file of this user, a link included, -EFBIG over max bytes. */
ssize_t own_file_read(const char *path, size_t max, char **ret);
/* What is wrong with it, for a log line. error: of own_file_read, or -EBADMSG or -EPROTONOSUPPORT of
 * what decodes it. */
const char *own_file_error(int error);
