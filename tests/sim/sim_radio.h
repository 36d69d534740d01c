/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The radio of a simulation, which is ble/ble.h: devices that advertise, come and go, and ask for
 * sessions, in which they send frames and check that each comes back once, equal and in order.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/loop.h"
#include "ble/ble.h"

#define SIM_DEVICES_MAX	 512
#define SIM_ADAPTERS_MAX 2

struct ble;
struct ble_link;
struct sim_radio;

/* How a device's session is meant to end. */
enum sim_end {
	SIM_END_CLOUD, /* with the last echo */
	SIM_END_DEVICE, /* it disconnects, having had the last echo */
	SIM_END_NOBODY, /* nothing more is said */
	SIM_END_NEVER, /* it says something from time to time */
};

struct sim_plan {
	uint32_t frames; /* that it sends; of SIM_END_NEVER no end of them */
	uint32_t gap_ms; /* at most, between two */
	enum sim_end end;
};

struct sim_device {
	struct sim_radio *radio; /* not owned */
	unsigned index; /* in radio->devices; its address says it too */
	uint8_t generation; /* of its address, which changes with what it says */
	uint8_t id[16];
	uint32_t interval_ms; /* between adverts */
	uint64_t present_ms, absent_ms; /* on average; 0: it stays */
	uint64_t asks_ms; /* between two times that it asks, on average; 0: never */
	bool fixed_plan; /* plan stands; else there is another each time */
	bool fair; /* its link does not fail */
	struct sim_plan plan;

	bool present, asking;
	struct ble_link *link; /* owned by the radio; NULL while it has none */
	struct loop_timer advert_timer, presence_timer, ask_timer;
	uint64_t heard; /* adverts the agent was given */
	uint64_t asked, complete; /* sessions in which all frames came back */
	uint64_t wrong; /* frames that did not come back equal, once, in order */
};

struct sim_radio {
	struct loop *loop; /* not owned */
	struct ble *ble; /* the agent's; NULL while there is none */
	unsigned n_adapters;
	bool off; /* bluetoothd is away */
	unsigned hears, fails, goes_away; /* per mille: of adverts, of connections, of links */
	struct sim_device devices[SIM_DEVICES_MAX];
	unsigned n_devices;
	uint32_t links; /* ever */
	uint64_t adverts, frames_up, frames_down, switched_off;
};

void sim_radio_init(struct sim_radio *radio, struct loop *loop);
/* Devices are silent from here on. */
void sim_radio_done(struct sim_radio *radio);
/* A device with that ID that is there; more can be set in it, then it is to be started. */
struct sim_device *sim_radio_add(struct sim_radio *radio, uint64_t id, uint32_t interval_ms);
void sim_device_start(struct sim_device *device);
/* Ends its link too. */
void sim_device_stop(struct sim_device *device);
/* From now on, until it has been served or for minutes. */
void sim_device_ask(struct sim_device *device);
struct sim_device *sim_radio_find(struct sim_radio *radio, const uint8_t id[16]);
/* bluetoothd goes, with all links, or is back. */
void sim_radio_switch(struct sim_radio *radio, bool on);

/* --- Between sim_radio.c and sim_link.c --- */

struct ble {
	struct sim_radio *radio; /* not owned */
	struct ble_handler handler;
	void *userdata; /* not owned */
	struct list links; /* owned */
};

/* All links end, for that reason. */
void sim_links_drop(struct ble *ble, enum ble_down why, const char *text);
/* The device's own link goes. */
void sim_link_lose(struct ble_link *link, const char *text);
/* Without a callback. */
void sim_links_free(struct ble *ble);
/* The link is gone. served: it came up. */
void sim_device_released(struct sim_device *device, bool served);
