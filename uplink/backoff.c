/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/backoff.h"

void backoff_init(struct backoff *backoff, uint32_t min_ms, uint32_t max_ms)
{
	backoff->min_ms = min_ms;
	backoff->max_ms = max_ms;
	backoff->ceiling_ms = min_ms;
}

static uint32_t scale(uint32_t random, uint32_t limit)
{
	return (uint32_t)(((uint64_t)random * ((uint64_t)limit + 1)) >> 32);
}

uint32_t backoff_next(struct backoff *backoff, uint32_t random)
{
	uint32_t wait = scale(random, backoff->ceiling_ms);

	if (backoff->ceiling_ms > backoff->max_ms / 2)
		backoff->ceiling_ms = backoff->max_ms;
	else
		backoff->ceiling_ms *= 2;
	return wait;
}

void backoff_reset(struct backoff *backoff)
{
	backoff->ceiling_ms = backoff->min_ms;
}

uint32_t backoff_longest(struct backoff *backoff, uint32_t random)
{
	uint32_t half = backoff->max_ms / 2;

	backoff->ceiling_ms = backoff->max_ms;
	return half + scale(random, backoff->max_ms - half);
}
