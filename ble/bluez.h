/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bluetoothd as a whole: whether it is there, and what it says of its objects, told in the order
 * of its messages. A new bluetoothd is a new generation; nothing of the one before is valid then.
 */
#pragma once

#include "ble/ble.h"
#include "ble/bus.h"
#include "ble/objects.h"

enum bluez_source {
	BLUEZ_SNAPSHOT, /* of what was there when we came */
	BLUEZ_ADDED,
	BLUEZ_CHANGED,
};

/* props and keys are valid during the callback. */
struct bluez_handler {
	/* No bus or no bluetoothd, by state. Everything told before is void; calls must be dropped. */
	void (*on_gone)(void *userdata, enum ble_state state, enum ble_fault fault,
			const char *reason);
	void (*on_adapter)(void *userdata, unsigned adapter, const struct adapter_props *props);
	void (*on_adapter_removed)(void *userdata, unsigned adapter);
	/* The adapter has an AdvertisementMonitorManager1. */
	void (*on_monitor_manager)(void *userdata, unsigned adapter);
	/* All adapters of the snapshot were told; its devices follow. */
	void (*on_adapters_known)(void *userdata);
	void (*on_device)(void *userdata, const struct object_key *key,
			  const struct device_props *props, enum bluez_source source);
	void (*on_device_removed)(void *userdata, const struct object_key *key);
	/* The characteristic of a channel, or a Client Characteristic Configuration. */
	void (*on_attribute)(void *userdata, const struct object_key *key,
			     enum object_attribute attribute, const char *path);
	void (*on_characteristic_removed)(void *userdata, const char *path);
};

#define BLUEZ_SIGNALS 5

struct bluez {
	struct bus bus;
	struct loop *loop; /* not owned */
	struct bluez_handler handler;
	void *userdata; /* not owned */
	char owner[64]; /* unique name of bluetoothd; empty: none */
	bool known; /* the snapshot was read */
	unsigned generation; /* of bluetoothd, as it was seen */
	bool reported; /* the log knows that bluetoothd is not there */
	sd_bus_slot *slots[BLUEZ_SIGNALS];
	struct bus_call call; /* GetNameOwner, then GetManagedObjects */
	struct loop_timer retry;
};

/* Starts at once. No callback comes before this returns. */
void bluez_init(struct bluez *bluez, struct loop *loop, const struct bluez_handler *handler,
		void *userdata);
/* Calls of others must be dropped before. No callback comes any more. */
void bluez_done(struct bluez *bluez);

/* A method call to bluetoothd, with arguments as of sd_bus_message_append. NULL where there is no
 * bluetoothd, or no memory, which ends the connection. */
sd_bus_message *bluez_message(struct bluez *bluez, const char *path, const char *interface,
			      const char *member, const char *types, ...);
/* Waits until bluetoothd has taken what was sent, at most timeout_ms. For the end of the process. */
void bluez_sync(struct bluez *bluez, uint64_t timeout_ms);
