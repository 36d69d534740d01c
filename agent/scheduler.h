/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The queue of devices that ask for a connection: whose turn it is, and from which adapter. Pure: the
 * clock comes as an argument, in monotonic milliseconds.
 *
 * Who asks first goes first, and a device that announces itself before all others. One that is heard
 * weakly holds off for a moment, so that of several hubs in reach the nearest takes it. A device asks
 * with every advert: the one that has stopped was taken by another hub, or has gone.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/util.h"
#include "ble/ble.h"

#define SCHEDULER_MAX	   256 /* devices in the queue */
#define SCHEDULER_HEARINGS 4 /* adapters remembered of one device */

struct scheduler_config {
	unsigned max_links; /* in all; 0: no device is ever connected */
	unsigned max_links_per_adapter;
	int rssi_floor_dbm; /* heard more weakly: not connected */
	uint32_t holdoff_ms; /* of the weakest; 0: none */
};

/* What there is already. */
struct scheduler_load {
	bool closed; /* nothing can be started now: no uplink */
	unsigned links;
	unsigned n_adapters;
	struct {
		unsigned adapter; /* N of hciN */
		unsigned links;
		bool attempting; /* it is busy with connecting one device */
	} adapters[BLE_ADAPTERS_MAX];
};

/* Why a device is not connected yet. */
enum scheduler_wait {
	SCHEDULER_READY, /* it is next */
	SCHEDULER_BACKOFF, /* it failed before */
	SCHEDULER_SILENT, /* its next advert is waited for */
	SCHEDULER_WEAK, /* under the floor */
	SCHEDULER_HOLDOFF, /* a nearer hub may take it */
	SCHEDULER_CLOSED, /* no uplink */
	SCHEDULER_NO_SLOT, /* all links are taken */
	SCHEDULER_ATTEMPT, /* its adapter is busy with connecting another */
};
const char *scheduler_wait_name(enum scheduler_wait wait);

/* A device as one adapter hears it. */
struct scheduler_hearing {
	bool used;
	unsigned adapter;
	struct ble_address address;
	int rssi_dbm; /* or BLE_RSSI_NONE */
	uint64_t last_ms;
	uint32_t interval_ms; /* between the last two adverts, 0 for not known */
};

struct scheduler_asker {
	struct list in_queue;
	uint8_t device_id[16];
	uint8_t service_data[ADVERT_LEN];
	bool announces;
	uint64_t since_ms; /* its place in the queue */
	uint64_t number; /* the same, of those since the same time */
	uint64_t last_ms; /* when it was heard last */
	uint64_t fresh_ms; /* an advert since then says that no nearer hub has taken it */
	uint64_t ready_ms; /* end of the hold-off */
	uint64_t retry_ms; /* end of the back-off */
	struct scheduler_hearing heard[SCHEDULER_HEARINGS];
};

struct scheduler {
	struct scheduler_config config;
	struct list queue; /* owns the askers */
	unsigned n;
	uint64_t added; /* askers, ever */
	uint64_t turned_away; /* adverts of devices for which there was no room in the queue */
};

void scheduler_init(struct scheduler *scheduler, const struct scheduler_config *config);
void scheduler_done(struct scheduler *scheduler);

/* An advert of a device that is not connected. Takes the device into the queue where it asks, and out
 * where it does not. retry_ms: not before. */
void scheduler_heard(struct scheduler *scheduler, uint64_t now_ms, const struct ble_advert *advert,
		     uint64_t retry_ms);
/* Whose turn it is, or NULL: it stays in the queue. *ret_on: how to connect it. *ret_wake_ms: when to
 * ask again if nothing happens before, UINT64_MAX for never. */
struct scheduler_asker *scheduler_next(struct scheduler *scheduler, uint64_t now_ms,
				       const struct scheduler_load *load,
				       struct scheduler_hearing **ret_on, uint64_t *ret_wake_ms);
/* It is being connected, or is not to be. */
void scheduler_remove(struct scheduler *scheduler, struct scheduler_asker *asker);
/* Calls each, in the order of the queue. on: the hearing that counts, the best one if any can. */
void scheduler_each(const struct scheduler *scheduler, uint64_t now_ms,
		    const struct scheduler_load *load,
		    void (*each)(void *userdata, const struct scheduler_asker *asker,
				 enum scheduler_wait wait, const struct scheduler_hearing *on),
		    void *userdata);
