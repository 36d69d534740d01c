/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chance in a simulation: one seeded stream for the world and for the agent's util_random, so
 * that a run can be had again with its seed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void sim_seed(uint64_t seed);
/* SIM_SEED of the environment, or the given one. */
uint64_t sim_seed_or(uint64_t seed);
uint64_t sim_random(void);
/* Uniform, both ends included. */
uint32_t sim_between(uint32_t low, uint32_t high);
/* True in that many of a thousand cases. */
bool sim_chance(unsigned per_mille);
/* Until something that happens every mean_ms on average, at random. */
uint64_t sim_wait(uint64_t mean_ms);
void sim_fill(void *buf, size_t len);
