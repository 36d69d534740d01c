/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/log.h"
#include "tests/sim/sim_loop.h"

static bool wanted;

void __wrap_log_write(enum log_level level, enum log_event event, const char *fmt, ...)
	_printf_(3, 4);

/* In place of log.c's, by the linker's --wrap. */
void __wrap_log_write(enum log_level level, enum log_event event, const char *fmt, ...)
{
	uint64_t now_ms = sim_now_ms();
	va_list args;

	(void)event;
	if (!wanted || level > log_get_level())
		return;
	fprintf(stderr, "%8llu.%03u %-7s ", (unsigned long long)(now_ms / 1000),
		(unsigned)(now_ms % 1000), log_level_name(level));
	va_start(args, fmt);
	vfprintf(stderr, fmt, args);
	va_end(args);
	fputc('\n', stderr);
}

void sim_log_init(void)
{
	const char *name = getenv("SIM_LOG");
	enum log_level level = LOG_LEVEL_ERROR;

	wanted = name && log_level_parse(name, &level) == 0;
	log_set_level(level);
}
