/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the hotspot works, and if not why and what to do, in one line for people. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/agent.h"

#define SUMMARY_MAX 2048 /* bytes of it, NUL included */

/* Returns whether it works; ret says so, and what is wrong or partly wrong. */
bool summary_write(const struct agent *agent, const struct ble_status *ble,
		   const struct uplink_status *uplink, const struct devices_counters *devices,
		   char *ret, size_t size);
