/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/util.h"

static uint64_t random_state;

void sim_seed(uint64_t seed)
{
	random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
}

uint64_t sim_seed_or(uint64_t seed)
{
	const char *text = getenv("SIM_SEED");

	return text && *text ? strtoull(text, NULL, 0) : seed;
}

/* SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators). */
uint64_t sim_random(void)
{
	uint64_t z = random_state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint32_t sim_between(uint32_t low, uint32_t high)
{
	return low + (uint32_t)(sim_random() % ((uint64_t)high - low + 1));
}

bool sim_chance(unsigned per_mille)
{
	return sim_random() % 1000 < per_mille;
}

uint64_t sim_wait(uint64_t mean_ms)
{
	double uniform = ((double)(sim_random() >> 11) + 1) / 9007199254740993.0;

	return (uint64_t)(-log(uniform) * (double)mean_ms);
}

void sim_fill(void *buf, size_t len)
{
	uint8_t *p = buf;

	for (; len > 0; len -= MIN(len, sizeof(uint64_t)), p += sizeof(uint64_t)) {
		uint64_t word = sim_random();

		memcpy(p, &word, MIN(len, sizeof(word)));
	}
}

/* --- In place of util.c's, by the linker's --wrap --- */

void __wrap_util_random(void *buf, size_t len);
uint32_t __wrap_util_random_below(uint32_t limit);

void __wrap_util_random(void *buf, size_t len)
{
	sim_fill(buf, len);
}

uint32_t __wrap_util_random_below(uint32_t limit)
{
	return sim_between(0, limit);
}
