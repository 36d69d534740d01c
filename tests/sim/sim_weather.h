/* SPDX-License-Identifier: Apache-2.0 */
/* What a bad day does to a link and to the servers: each kind of trouble comes at random, and
 * ends. */
#pragma once

#include "tests/sim/sim_world.h"

enum sim_trouble {
	SIM_TROUBLE_CUT, /* the connection is reset */
	SIM_TROUBLE_STALL, /* nothing gets through, without a word */
	SIM_TROUBLE_FORGOTTEN, /* the same of one connection, for good */
	SIM_TROUBLE_MUTE, /* connections come about, and then nothing */
	SIM_TROUBLE_DNS_FAILS,
	SIM_TROUBLE_DNS_SILENT,
	SIM_TROUBLE_RESTART, /* the server is down, and hands its sessions over */
	SIM_TROUBLE_CRASH, /* the same, and they are lost */
	SIM_TROUBLE_BUSY, /* upgrades are refused: HTTP 503 and Retry-After */
	SIM_TROUBLE_GOAWAY,
	SIM_TROUBLE_RADIO, /* bluetoothd restarts */
	SIM_TROUBLES,
};

struct sim_weather {
	struct sim_world *world; /* not owned */
	struct {
		struct sim_weather *weather;
		struct loop_timer timer;
		bool on;
		uint64_t n;
	} troubles[SIM_TROUBLES];
	unsigned n_on;
	uint64_t ended_ms; /* the last one began or ended then */
};

void sim_weather_start(struct sim_weather *weather, struct sim_world *world);
/* All is well from here on. */
void sim_weather_stop(struct sim_weather *weather);
const char *sim_trouble_name(enum sim_trouble trouble);
