/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/process.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "agent/util.h"

#define TEXT_MAX 8192 /* it has less than 2,000 bytes, but for very many CPUs */

/* "\nVmRSS:\t    4716 kB\n" */
static uint64_t number_of(const char *text, const char *name)
{
	const char *line = strstr(text, name);

	return line ? strtoull(line + strlen(name), NULL, 10) : 0;
}

void process_parse_memory(const char *text, struct process_memory *ret)
{
	ret->rss_kb = number_of(text, "\nVmRSS:");
	ret->peak_rss_kb = number_of(text, "\nVmHWM:");
}

void process_get_memory(struct process_memory *ret)
{
	_cleanup_close_ int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	char text[TEXT_MAX + 1];
	ssize_t len = fd < 0 ? 0 : util_read(fd, text, TEXT_MAX);

	text[MAX(len, (ssize_t)0)] = '\0';
	process_parse_memory(text, ret);
}
