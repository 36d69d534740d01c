/* SPDX-License-Identifier: Apache-2.0 */
/* One hub, its radio, the network and its cloud, in virtual time. */
#pragma once

#include "tests/sim/sim_agent.h"
#include "tests/sim/sim_cloud.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_net.h"
#include "tests/sim/sim_radio.h"

struct sim_world {
	struct loop *loop;
	struct sim_net net;
	struct sim_host *host; /* the cloud's */
	struct sim_cloud cloud;
	struct sim_radio radio;
	struct sim_agent agent;
	uint64_t counts[SIM_DEVICES_MAX]; /* adverts the cloud has, as radio.devices */
	uint64_t unknown; /* sightings of devices there are not */
	void *userdata; /* not owned; of whoever set cloud.on_send */
};

/* All but the agent's start. To be followed by sim_world_free. */
struct sim_world *sim_world_new(void);
void sim_world_free(struct sim_world *world);
void sim_world_run(struct sim_world *world, uint64_t for_ms);
bool sim_world_is_up(const struct sim_world *world);
