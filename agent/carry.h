/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Carries what was not reported over a planned restart, in one file in the state directory: written
 * once, at the stop, if there is anything; removed at the next start, before anything is sent, so
 * that no crash after that can tell the cloud twice.
 */
#pragma once

#include <stdint.h>

#include "agent/devices.h"
#include "agent/relay.h"
#include "agent/reporter.h"
#include "uplink/message.h"

#define CARRY_FILE "sightings.cbor"

/* What goes on. Nothing in it is owned. */
struct carry {
	const char *state_dir;
	uint8_t *run; /* MESSAGE_RUN_LEN bytes */
	struct devices *devices;
	struct reporter *reporter;
	struct relay *relay;
};

/* Before anything is heard or sent: takes what an earlier agent left; without that, and where it is
 * no good or cannot be removed, run is random. Logs what it did. */
void carry_in(const struct carry *carry);
/* After the last message: leaves what is not reported to the next agent. Logs what it did. */
void carry_out(const struct carry *carry);
