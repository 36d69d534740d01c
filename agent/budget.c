/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/budget.h"

#include "agent/util.h"

#define BURSTS_PER_DAY 24

void budget_init(struct budget *budget, uint64_t per_day, uint64_t least_burst, uint64_t now_ms)
{
	*budget = (struct budget){
		.per_day = MIN(per_day, BUDGET_PER_DAY_MAX),
		.at_ms = now_ms,
	};
	least_burst = MIN(least_burst, budget->per_day / 2);
	budget->burst = MAX(budget->per_day / BURSTS_PER_DAY, least_burst);
	budget->left = (int64_t)(budget->burst * BUDGET_DAY_MS);
}

/* What flows in, in parts a millisecond as in bytes a day. */
static uint64_t rate_of(const struct budget *budget)
{
	return budget->per_day - budget->burst;
}

static int64_t left_now(const struct budget *budget, uint64_t now_ms)
{
	int64_t full = (int64_t)(budget->burst * BUDGET_DAY_MS);
	uint64_t missing = (uint64_t)(full - budget->left);

	/* Compared in time: the other product could be of any size. */
	if (now_ms - budget->at_ms > missing / rate_of(budget))
		return full;
	return budget->left + (int64_t)((now_ms - budget->at_ms) * rate_of(budget));
}

void budget_change(struct budget *budget, uint64_t per_day, uint64_t least_burst, uint64_t now_ms)
{
	struct budget before = *budget;

	budget_init(budget, per_day, least_burst, now_ms);
	if (before.per_day > 0)
		budget->left = MIN(budget->left, left_now(&before, now_ms));
}

uint64_t budget_left(const struct budget *budget, uint64_t now_ms)
{
	if (budget->per_day == 0)
		return UINT64_MAX;
	return (uint64_t)MAX(left_now(budget, now_ms), (int64_t)0) / BUDGET_DAY_MS;
}

uint64_t budget_wait_ms(const struct budget *budget, uint64_t now_ms, uint64_t bytes)
{
	int64_t missing = (int64_t)(MIN(bytes, budget->burst) * BUDGET_DAY_MS);

	if (budget->per_day == 0)
		return 0;
	missing -= left_now(budget, now_ms);
	if (missing <= 0)
		return 0;
	return ((uint64_t)missing + rate_of(budget) - 1) / rate_of(budget);
}

void budget_spend(struct budget *budget, uint64_t now_ms, uint64_t bytes)
{
	if (budget->per_day == 0)
		return;
	budget->left = left_now(budget, now_ms) - (int64_t)(bytes * BUDGET_DAY_MS);
	budget->at_ms = now_ms;
}
