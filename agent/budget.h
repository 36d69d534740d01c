/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes that may be spent in a day: a token bucket. What it holds at most and what flows into it in
 * a day are the budget together, so no 24 hours have more, whenever they begin. Pure: the clock
 * comes as an argument, in monotonic milliseconds.
 */
#pragma once

#include <stdint.h>

#define BUDGET_DAY_MS	   UINT64_C(86400000)
#define BUDGET_PER_DAY_MAX UINT64_C(10000000000) /* bytes */

struct budget {
	uint64_t per_day; /* bytes; 0: no limit */
	uint64_t burst; /* bytes at once */
	/* In parts of a byte, BUDGET_DAY_MS of which are one, so nothing is rounded. Below 0 after
	 * something went that is larger than the burst. */
	int64_t left;
	uint64_t at_ms; /* of left */
};

/* per_day: bytes, at most BUDGET_PER_DAY_MAX; 0 for no limit. 1/24 of them may go at once, or
 * least_burst if that is more and no more than half. It begins full. */
void budget_init(struct budget *budget, uint64_t per_day, uint64_t least_burst, uint64_t now_ms);
/* Another limit from now on; what is left stays so, as far as there is room for it. */
void budget_change(struct budget *budget, uint64_t per_day, uint64_t least_burst, uint64_t now_ms);
/* Bytes that may go now, UINT64_MAX without a limit. */
uint64_t budget_left(const struct budget *budget, uint64_t now_ms);
/* Milliseconds until so many bytes may go, 0 for now. More than the burst may go when it is full:
 * their 24 hours are the only ones that can have more than the budget. */
uint64_t budget_wait_ms(const struct budget *budget, uint64_t now_ms, uint64_t bytes);
void budget_spend(struct budget *budget, uint64_t now_ms, uint64_t bytes);
