/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/util.h"

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts = {0};

	clock_gettime(id, &ts);
	return ts.tv_sec < 0 ? 0 : (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void read_boot_id(uint8_t ret[16])
{
	_cleanup_close_ int fd = open(BOOT_ID_FILE, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	size_t n = 0;

	memset(ret, 0, 16);
	if (fd < 0 || util_read_fd(fd, 64, &text) < 0)
		return;
	for (const char *p = text; n < 16 && *p; p += *p == '-' ? 1 : 2) {
		if (*p != '-' && sscanf(p, "%2hhx", &ret[n++]) != 1)
			break;
	}
}

uint64_t clock_wall_ms(void)
{
	return read_clock(CLOCK_REALTIME);
}

void clock_read(struct kept_clock *ret)
{
	read_boot_id(ret->boot_id);
	ret->boottime_ms = read_clock(CLOCK_BOOTTIME);
	ret->wall_ms = clock_wall_ms();
}
