/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a diagnosis, for its unit tests. */
#pragma once

#include "uplink/diagnosis.h"

#define DIAGNOSE_MS 20000 /* it takes no such time, unless something is wrong */

struct diagnose {
	struct websocket_config config;
	struct websocket_target target;
	uint32_t timeout_ms; /* 0: DIAGNOSE_MS */
	bool cancel_within; /* the callback */
};

/* Returns what it finds, valid until the next call. Checks that it is told once, not at once, and
 * that no descriptor is left. */
const char *diagnose(const struct diagnose *what);
/* The cause and the step that were told with it. */
enum failure_cause diagnose_cause(void);
enum websocket_step diagnose_step(void);
