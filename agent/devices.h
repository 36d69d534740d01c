/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device table: one entry for each Device ID, and at the same time the queue of what the cloud
 * has not been told. While nothing can be sent, entries go on merging: memory is bounded by the
 * number of devices, and only resolution in time is lost. Pure: the clock comes as an argument, in
 * monotonic milliseconds.
 *
 * What goes to the cloud goes in batches. A batch keeps what it holds until it is done, apart from
 * what is heard meanwhile, so it can be sent again with the same content.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/util.h"
#include "ble/ble.h"

enum device_state {
	DEVICE_STATE_APPEARED, /* present, and the cloud does not know yet */
	DEVICE_STATE_PRESENT,
	DEVICE_STATE_LOST, /* silent for the time configured */
};
const char *device_state_name(enum device_state state);

/* RSSI in dBm; last, min and max are BLE_RSSI_NONE where none was available. */
struct device_rssi {
	int8_t last, min, max;
};

/* Adverts not yet acknowledged. */
struct device_span {
	uint64_t count;
	uint64_t first_ms, last_ms;
	struct device_rssi rssi;
	enum device_state state;
	unsigned adapter;
	uint8_t data[ADVERT_LEN];
};

struct device {
	struct list seen; /* of the table, least recently heard first */
	struct list dirty; /* of the table, while there is something to tell */
	struct list batch; /* of the batch, while it is in it */
	struct device *next; /* with the same hash */

	struct advert advert; /* the last one */
	struct ble_address address;
	unsigned adapter;
	enum device_state state;
	uint64_t count; /* since it is in the table */
	uint64_t first_ms, last_ms;
	struct device_rssi rssi; /* since it appeared */

	bool is_dirty, in_batch;
	bool urgent; /* not to wait for the next regular report */
	struct device_span pending; /* to go into a batch */
	struct device_span sent; /* in the batch */

	/* Of the relay. */
	bool connected; /* so it does not advertise, and is not lost for that */
	enum ble_bearers bearers; /* which are worth trying */
	unsigned failures; /* in a row */
	uint64_t failed_ms; /* the last one */
	uint64_t retry_ms; /* when it may be connected again after it */
	char *failure; /* why; owned, NULL for never */
};

struct devices;

struct devices_counters {
	size_t known, present, dirty;
	uint64_t adverts;
	uint64_t merged; /* adverts that joined others which waited already */
	uint64_t kept; /* sightings that devices_restore took */
	uint64_t evicted; /* devices that made room for another */
	uint64_t evicted_adverts; /* their adverts that nobody was told of */
};

/* Returns 0, or -ENOMEM. max: devices at once. */
int devices_new(size_t max, uint64_t lost_after_ms, struct devices **ret);
void devices_free(struct devices *devices);
/* From now on; devices_expire is to be asked again. */
void devices_configure(struct devices *devices, uint64_t lost_after_ms);

/* One advert heard. Returns its device, valid until the next call, or NULL where memory is out or
 * all entries are in the batch. A device that is new or back, or whose flags changed, is urgent. */
struct device *devices_heard(struct devices *devices, uint64_t now_ms,
			     const struct ble_advert *advert);
/* A sighting that an earlier agent left: its device is lost until it is heard, and urgent. in_batch:
 * it stands in the batch that is out, behind those restored before; those of the batch come first.
 * One that there is no room for, or whose like is there, counts as evicted. */
void devices_restore(struct devices *devices, const struct device_span *span, bool in_batch);
/* It is connected, or no longer. */
void devices_connected(struct devices *devices, struct device *device, uint64_t now_ms,
		       bool connected);
/* A connection with it came to nothing; not again for wait_ms. */
void device_failed(struct device *device, uint64_t now_ms, uint32_t wait_ms, const char *reason);
/* NULL for none. */
struct device *devices_find(struct devices *devices, const uint8_t device_id[16]);
/* Marks what was silent for too long, and is not connected, as lost. Returns when to ask again,
 * UINT64_MAX for not before the next advert. */
uint64_t devices_expire(struct devices *devices, uint64_t now_ms);
/* How many are urgent. */
size_t devices_urgent(const struct devices *devices);

/* Takes up to max devices into a new batch: those that are urgent, or all that have something to
 * tell. There must be no batch. Returns their number. */
size_t devices_batch_begin(struct devices *devices, size_t max, bool urgent_only);
/* The batch is acknowledged. */
void devices_batch_done(struct devices *devices);
/* Calls each with the batch's devices, always in the same order. */
void devices_batch_each(struct devices *devices,
			void (*each)(void *userdata, const struct device *device), void *userdata);
/* The same with all devices, least recently heard first. Where is_dirty is set, pending is to be
 * told. */
void devices_each(struct devices *devices,
		  void (*each)(void *userdata, const struct device *device), void *userdata);
void devices_get_counters(const struct devices *devices, struct devices_counters *ret);
