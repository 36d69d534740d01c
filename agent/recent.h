/* SPDX-License-Identifier: Apache-2.0 */
/* The last lines of the log, for a hub whose log goes nowhere, and the last events. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/log.h"

#define RECENT_BYTES (32 * 1024) /* of all lines, with what there is to each */
#define RECENT_TEXT  1023 /* bytes of one; what is longer is cut off in whole characters */

/* All zero: no line. */
struct recent {
	uint8_t data[RECENT_BYTES]; /* a ring of heads and texts */
	size_t first, used;
};

struct recent_line {
	int64_t wall_ms; /* Unix time, right or not */
	enum log_level level;
	enum log_event event;
	const char *text; /* valid during the callback */
};

/* The oldest lines make room. */
void recent_add(struct recent *recent, const struct recent_line *line);
/* Oldest first. */
void recent_each(const struct recent *recent,
		 void (*on_line)(void *userdata, const struct recent_line *line), void *userdata);
