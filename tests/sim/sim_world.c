/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_world.h"

#include <stdlib.h>

static const char *const urls[] = {"wss://cloud.example/hub"};

static void on_sighting(void *userdata, const struct sim_sighting *sighting)
{
	struct sim_world *world = userdata;
	struct sim_device *device = sim_radio_find(&world->radio, sighting->device_id);

	if (device)
		world->counts[device->index] += sighting->count;
	else
		world->unknown++;
}

struct sim_world *sim_world_new(void)
{
	static const struct sim_cloud_config config = {
		.authority = "cloud.example:443",
		.credits = 8,
		.resume_ms = 60000,
		.report_ms = 60000,
		.tells = true,
	};
	struct sim_world *world = calloc(1, sizeof(*world));
	struct sim_server server;

	if (!world || loop_new(&world->loop) < 0)
		abort();
	sim_outcomes_reset();
	sim_net_init(&world->net, world->loop);
	sim_cloud_init(&world->cloud, world->loop, &world->net, &config);
	world->cloud.on_sighting = on_sighting;
	world->cloud.userdata = world;
	server = sim_cloud_server(&world->cloud);
	world->host = sim_net_add(&world->net, "cloud.example", &server);
	sim_radio_init(&world->radio, world->loop);
	sim_agent_init(&world->agent, urls, 1);
	return world;
}

void sim_world_free(struct sim_world *world)
{
	if (!world)
		return;
	sim_agent_done(&world->agent);
	sim_radio_done(&world->radio);
	sim_net_done(&world->net);
	sim_cloud_done(&world->cloud);
	loop_free(world->loop);
	free(world);
}

void sim_world_run(struct sim_world *world, uint64_t for_ms)
{
	sim_run_until(world->loop, sim_now_ms() + for_ms);
}

bool sim_world_is_up(const struct sim_world *world)
{
	struct uplink_status status;

	if (!world->agent.agent)
		return false;
	uplink_get_status(world->agent.agent->uplink, &status);
	return status.state == UPLINK_STATE_UP;
}
