/* SPDX-License-Identifier: Apache-2.0 */
/* What the kernel says of this process. */
#pragma once

#include <stdint.h>

struct process_memory {
	uint64_t rss_kb, peak_rss_kb; /* in RAM, now and at most; 0 where not known */
};

/* Of /proc/self/status: proc(5). */
void process_get_memory(struct process_memory *ret);
/* The same, of its text. Pure. */
void process_parse_memory(const char *text, struct process_memory *ret);
