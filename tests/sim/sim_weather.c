/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_weather.h"

#include "tests/sim/sim_random.h"

#define MINUTE 60000

static void cut(struct sim_world *world, bool on)
{
	if (on)
		sim_net_cut(&world->net, NULL);
}

static void stall(struct sim_world *world, bool on)
{
	world->net.stalled = on;
}

static void forgotten(struct sim_world *world, bool on)
{
	if (on)
		sim_net_forget(&world->net);
}

static void mute(struct sim_world *world, bool on)
{
	world->cloud.mute = on;
	if (on)
		sim_net_cut(&world->net, world->host);
}

static void dns_fails(struct sim_world *world, bool on)
{
	world->net.dns = on ? SIM_DNS_FAILS : SIM_DNS_ANSWERS;
}

static void dns_silent(struct sim_world *world, bool on)
{
	world->net.dns = on ? SIM_DNS_SILENT : SIM_DNS_ANSWERS;
}

static void restart(struct sim_world *world, bool on)
{
	world->host->down = on;
	if (on)
		sim_net_cut(&world->net, world->host);
}

static void crash(struct sim_world *world, bool on)
{
	restart(world, on);
	sim_cloud_forget(&world->cloud);
}

static void busy(struct sim_world *world, bool on)
{
	world->host->http_status = on ? 503 : 0;
	world->host->retry_after_s = sim_chance(500) ? sim_between(1, 60) : 0;
	if (on && sim_chance(500))
		sim_net_cut(&world->net, world->host);
}

static void goaway(struct sim_world *world, bool on)
{
	if (on)
		sim_cloud_goaway(&world->cloud, sim_between(0, 60000));
}

static void radio(struct sim_world *world, bool on)
{
	sim_radio_switch(&world->radio, !on);
}

static const struct kind {
	const char *name;
	void (*set)(struct sim_world *world, bool on);
	uint64_t every_ms; /* on average, from the end of one to the next */
	uint32_t min_ms, max_ms; /* how long one lasts */
} kinds[] = {
	[SIM_TROUBLE_CUT] = {"reset", cut, 12 * MINUTE, 1, 1},
	[SIM_TROUBLE_STALL] = {"stall", stall, 20 * MINUTE, 1000, 3 * MINUTE},
	[SIM_TROUBLE_FORGOTTEN] = {"forgotten", forgotten, 90 * MINUTE, 1, 1},
	[SIM_TROUBLE_MUTE] = {"mute", mute, 90 * MINUTE, 10000, 60000},
	[SIM_TROUBLE_DNS_FAILS] = {"DNS fails", dns_fails, 180 * MINUTE, 5000, 4 * MINUTE},
	[SIM_TROUBLE_DNS_SILENT] = {"DNS silent", dns_silent, 180 * MINUTE, 5000, 4 * MINUTE},
	[SIM_TROUBLE_RESTART] = {"restart", restart, 90 * MINUTE, 500, 90000},
	[SIM_TROUBLE_CRASH] = {"crash", crash, 240 * MINUTE, 2000, 3 * MINUTE},
	[SIM_TROUBLE_BUSY] = {"HTTP 503", busy, 120 * MINUTE, 10000, 3 * MINUTE},
	[SIM_TROUBLE_GOAWAY] = {"GOAWAY", goaway, 90 * MINUTE, 1, 1},
	[SIM_TROUBLE_RADIO] = {"bluetoothd", radio, 240 * MINUTE, 2000, 20000},
};

const char *sim_trouble_name(enum sim_trouble trouble)
{
	return kinds[trouble].name;
}

static void on_timer(void *userdata)
{
	__typeof__(((struct sim_weather *)0)->troubles[0]) *trouble = userdata;
	const struct kind *kind = &kinds[trouble - trouble->weather->troubles];

	trouble->on = !trouble->on;
	trouble->n += trouble->on;
	trouble->weather->n_on += trouble->on ? 1 : -1u;
	trouble->weather->ended_ms = sim_now_ms();
	kind->set(trouble->weather->world, trouble->on);
	loop_timer_start(&trouble->timer, trouble->on ? sim_between(kind->min_ms, kind->max_ms)
						      : sim_wait(kind->every_ms));
}

void sim_weather_start(struct sim_weather *weather, struct sim_world *world)
{
	*weather = (struct sim_weather){.world = world, .ended_ms = sim_now_ms()};
	for (size_t i = 0; i < SIM_TROUBLES; i++) {
		weather->troubles[i].weather = weather;
		loop_timer_init(world->loop, &weather->troubles[i].timer, on_timer,
				&weather->troubles[i]);
		loop_timer_start(&weather->troubles[i].timer, sim_wait(kinds[i].every_ms));
	}
}

void sim_weather_stop(struct sim_weather *weather)
{
	for (size_t i = 0; i < SIM_TROUBLES; i++) {
		loop_timer_stop(&weather->troubles[i].timer);
		if (weather->troubles[i].on)
			kinds[i].set(weather->world, false);
		weather->troubles[i].on = false;
	}
}
