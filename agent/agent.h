/* SPDX-License-Identifier: Apache-2.0 */
/* The agent: wires the radio, the device table, the relay, the uplink and the status socket. */
#pragma once

#include <stdint.h>

#include "agent/cloud.h"
#include "agent/devices.h"
#include "agent/identity.h"
#include "agent/relay.h"
#include "agent/reload.h"
#include "agent/reporter.h"
#include "agent/settings.h"
#include "ble/ble.h"
#include "uplink/message.h"
#include "uplink/uplink.h"

struct events;
struct loop;

/* Its parts; for the wiring and for the status alone. */
struct agent {
	struct settings *settings; /* owned; replaced by a reload */
	const char *config_file; /* not owned */
	const struct identity *identity; /* not owned */
	struct loop *loop; /* not owned */
	struct uplink_identity uplink_identity;
	uint8_t run[MESSAGE_RUN_LEN];
	struct ble *ble;
	struct devices *devices;
	struct reporter *reporter;
	struct relay *relay;
	struct cloud *cloud; /* what the uplink runs with */
	struct uplink *uplink;
	struct reload *reload;
	struct status_socket *status_socket;
	struct probe *probe; /* NULL: it is the daemon */
	struct events *events;
	uint64_t started_ms;
	struct agent_private *private;
};

/* Starts everything. identity, loop and config_file must outlive it; settings, read from that file,
 * are taken over, and all zero then; settings_done is right in any case. Returns 0 and an agent for
 * agent_free, or -errno with a line in the log. */
int agent_new(struct loop *loop, struct settings *settings, const char *config_file,
	      const struct identity *identity, struct agent **ret);
/* Takes over its settings as they are now, but for the connection to the cloud. */
void agent_apply(struct agent *agent);
/* NULL is fine. */
void agent_free(struct agent *agent);
/* Ends in good order: sessions closed, sightings sent, then loop_quit; within seconds. */
void agent_stop(struct agent *agent);
