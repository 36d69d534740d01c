/* SPDX-License-Identifier: Apache-2.0 */
/* The agent: wires the radio, the device table, the relay, the uplink and the status socket. */
#pragma once

#include <stdint.h>

#include "agent/devices.h"
#include "agent/identity.h"
#include "agent/relay.h"
#include "agent/reporter.h"
#include "agent/settings.h"
#include "ble/ble.h"
#include "uplink/uplink.h"

struct loop;

/* Its parts; for the wiring and for the status alone. */
struct agent {
	const struct settings *settings; /* not owned */
	const struct identity *identity; /* not owned */
	struct loop *loop; /* not owned */
	struct uplink_identity uplink_identity;
	struct ble *ble;
	struct devices *devices;
	struct reporter *reporter;
	struct relay *relay;
	struct uplink *uplink;
	struct status_socket *status_socket;
	uint64_t started_ms;
	struct agent_private *private;
};

/* Starts everything. settings, identity and loop must outlive it. Returns 0 and an agent for
 * agent_free, or -errno with a line in the log. */
int agent_new(struct loop *loop, const struct settings *settings, const struct identity *identity,
	      struct agent **ret);
/* NULL is fine. */
void agent_free(struct agent *agent);
/* Ends in good order: sessions closed, sightings sent, then loop_quit; within seconds. */
void agent_stop(struct agent *agent);
