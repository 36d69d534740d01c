/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How often something happens: events in the last ten full seconds, so tenths of an event per
 * second. Pure and without division where an event is counted: the clock comes as an argument, in
 * monotonic milliseconds that never go back.
 */
#pragma once

#include <stdint.h>

#define RATE_SECONDS 10

/* All zero: nothing has happened. */
struct rate {
	uint64_t end_ms; /* of the second that counts[now] is of */
	unsigned now;
	uint32_t counts[RATE_SECONDS + 1]; /* by second, in a ring */
};

/* One more event. */
void rate_add(struct rate *rate, uint64_t now_ms);
/* Events in the ten seconds before the one that has begun: tenths of an event per second. */
uint32_t rate_tenths(const struct rate *rate, uint64_t now_ms);
