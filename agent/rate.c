/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rate.h"

#include <string.h>

#include "agent/util.h"

#define SECOND_MS 1000

/* Seconds that have begun since the one of the last event, at most as many as there are counts. */
static unsigned passed(const struct rate *rate, uint64_t now_ms)
{
	unsigned n = 0;

	for (uint64_t end_ms = rate->end_ms; now_ms >= end_ms && n < ARRAY_SIZE(rate->counts);
	     end_ms += SECOND_MS)
		n++;
	return n;
}

void rate_add(struct rate *rate, uint64_t now_ms)
{
	unsigned n = passed(rate, now_ms);

	if (n == ARRAY_SIZE(rate->counts)) {
		memset(rate, 0, sizeof(*rate));
		rate->end_ms = now_ms + SECOND_MS;
		n = 0;
	}
	for (; n > 0; n--) {
		rate->now = rate->now == RATE_SECONDS ? 0 : rate->now + 1;
		rate->counts[rate->now] = 0;
		rate->end_ms += SECOND_MS;
	}
	rate->counts[rate->now]++;
}

uint32_t rate_tenths(const struct rate *rate, uint64_t now_ms)
{
	unsigned n = passed(rate, now_ms), at = rate->now;
	uint32_t sum = 0;

	/* From the newest back; what is n seconds old now may be up to RATE_SECONDS. */
	for (unsigned age = n; age <= RATE_SECONDS; age++) {
		if (age > 0)
			sum += rate->counts[at];
		at = at == 0 ? RATE_SECONDS : at - 1;
	}
	return sum;
}
