/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a person should do next, in one sentence. Pure. The reasons and errors in the status say what
 * is wrong, and only these what to do about it.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ble/ble.h"

struct uplink_status;

#define ADVICE_MAX 320 /* bytes of one, NUL included */

/* About the radio, to follow "what is wrong: "; of several things the one that matters most. "" where
 * there is nothing to do, as while it starts. */
void advice_bluetooth(const struct ble_status *s, char *ret, size_t size);

/* What the advice about the cloud goes by. */
struct advice_uplink_facts {
	const struct uplink_status *uplink;
	const char *config_file;
	uint64_t late_ms; /* the cloud has owed an acknowledgement for so long; 0: it does not */
	int64_t own_certificate_end; /* Unix time, 0 for no certificate */
	int64_t now_s; /* by the hub's clock, Unix time */
};

/* About the way to the cloud, and the cloud; to stand alone, as errors have colons in them. "" where
 * there is nothing to do. */
void advice_uplink(const struct advice_uplink_facts *facts, char *ret, size_t size);
/* That the hotspot's own certificate ends soon, or has ended, and what to do; "" where it does not,
 * or where the clock cannot tell. */
void advice_own_certificate(const struct advice_uplink_facts *facts, char *ret, size_t size);
