/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/timing.h"

#include <stddef.h>

#include "agent/util.h"

static const struct span {
	const char *name;
	size_t from, to; /* in struct timing */
} spans[] = {
	{"connect_ms", offsetof(struct timing, begun_ms), offsetof(struct timing, connected_ms)},
	{"discover_ms", offsetof(struct timing, connected_ms), offsetof(struct timing, open_ms)},
	{"first_frame_ms", offsetof(struct timing, begun_ms),
	 offsetof(struct timing, first_frame_ms)},
	{"first_answer_ms", offsetof(struct timing, begun_ms),
	 offsetof(struct timing, first_answer_ms)},
	{"total_ms", offsetof(struct timing, begun_ms), offsetof(struct timing, ended_ms)},
};

static uint64_t at(const struct timing *timing, size_t offset)
{
	return *(const uint64_t *)((const char *)timing + offset);
}

void timing_each(const struct timing *timing,
		 void (*each)(void *userdata, const char *name, uint64_t ms), void *userdata)
{
	for (size_t i = 0; i < ARRAY_SIZE(spans); i++) {
		uint64_t from = at(timing, spans[i].from), to = at(timing, spans[i].to);

		if (from != 0 && to != 0)
			each(userdata, spans[i].name, to - from);
	}
}
