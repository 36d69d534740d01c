/* SPDX-License-Identifier: Apache-2.0 */
/* How long to wait before the next attempt: exponential with full jitter. Pure. */
#pragma once

#include <stdint.h>

struct backoff {
	uint32_t min_ms;
	uint32_t max_ms;
	uint32_t ceiling_ms; /* of the next wait, doubled at each */
};

/* min_ms at least 1, max_ms at least min_ms. */
void backoff_init(struct backoff *backoff, uint32_t min_ms, uint32_t max_ms);
/* The next wait: anything up to the ceiling, so that hubs that lost the same server do not come
 * back together. random is uniform over its range. */
uint32_t backoff_next(struct backoff *backoff, uint32_t random);
/* The attempt was good: start over. */
void backoff_reset(struct backoff *backoff);
/* It makes no sense to try soon: the next wait is from the upper half of the longest. */
uint32_t backoff_longest(struct backoff *backoff, uint32_t random);
