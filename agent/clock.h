/* SPDX-License-Identifier: Apache-2.0 */
/* The clocks that go on while no agent runs, as the hub has them. */
#pragma once

#include "agent/kept.h"

/* Unix time, right or not. */
uint64_t clock_wall_ms(void);
void clock_read(struct kept_clock *ret);
