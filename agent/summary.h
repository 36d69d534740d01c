/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the hotspot works, and if not why and what to do, in one line for people. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "agent/advice.h"
#include "agent/agent.h"

#define SUMMARY_MAX 2048 /* bytes of it, NUL included */

/* What is known of all parts at one moment. */
struct summary_facts {
	uint64_t now_ms; /* monotonic */
	struct timespec clock; /* the hub's */
	struct ble_status ble;
	struct uplink_status uplink;
	struct advice_uplink_facts advice; /* points to uplink */
	struct devices_counters devices;
};

void summary_gather(const struct agent *agent, struct summary_facts *ret);
/* Returns whether it works; ret says so, and what is wrong or partly wrong. */
bool summary_write(const struct agent *agent, const struct summary_facts *facts, char *ret,
		   size_t size);
