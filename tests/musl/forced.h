/* SPDX-License-Identifier: Apache-2.0 */
/* What elogind takes of glibc and musl does not have, for tests/musl/build. */
#pragma once
#ifndef __ASSEMBLER__

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <dirent.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>

/* The kernel's <linux/prctl.h> has what musl's own has. */
#define _LINUX_PRCTL_H

#undef getdents64
#define getdents64(fd, entries, size) getdents(fd, (void *)(entries), size)
#define malloc_trim(pad)	      ((void)(pad), 0)

/* That of POSIX returns a number. */
static inline char *gnu_strerror_r(int error, char *text, size_t size)
{
	strerror_r(error, text, size);
	return text;
}
#define strerror_r gnu_strerror_r

#endif
