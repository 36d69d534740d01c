/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One adapter: powers it on, sets the discovery filter and keeps discovery running, for as long as
 * it is used. Failures are tried again with a growing delay, and an adapter that scans and hears
 * nothing is helped as its supervisor says.
 */
#pragma once

#include "agent/rate.h"
#include "ble/monitor.h"
#include "ble/supervisor.h"

struct adapter_config {
	bool duplicate_data; /* DuplicateData of SetDiscoveryFilter */
	uint32_t silence_ms; /* of the supervisor, 0: off */
};

struct adapter_handler {
	/* Something a person would be told changed. */
	void (*on_status)(void *userdata);
	/* It is no longer powered: what was connected is not. */
	void (*on_off)(void *userdata, unsigned index);
	/* Whether there are links on it, which a power cycle would break. */
	bool (*has_links)(void *userdata, unsigned index);
};

struct adapter {
	struct bluez *bluez; /* not owned */
	struct adapter_handler handler;
	void *userdata; /* not owned */
	struct adapter_config config;
	/* What BlueZ says. */
	bool present;
	unsigned index; /* N of hciN */
	char address[BLE_ADDRESS_TEXT];
	bool random; /* address type */
	bool no_le; /* Roles were told, and that of a central is none of them */
	bool powered;
	bool blocked; /* by rfkill, as far as it is told */
	bool discovering;
	bool has_monitors;
	/* What we do. */
	bool used;
	bool cycling; /* we have switched it off, to switch it on again */
	unsigned n_busy; /* StartDiscovery answered InProgress, times in a row */
	bool discovery; /* StartDiscovery succeeded, and nothing has ended it since */
	enum ble_adapter_state state;
	char reason[BUS_ERROR_TEXT];
	enum ble_fault fault; /* what failed last */
	uint64_t since_ms;
	uint64_t retry_ms;
	struct bus_call call; /* the one step under way */
	struct loop_timer timer;
	struct monitor monitor;
	struct loop_timer watch_timer; /* of the supervisor's next step */
	/* These outlive the adapter's absence, which a power cycle of ours may be the cause of. */
	struct supervisor supervisor;
	uint64_t adverts, dropped, others;
	uint64_t last_advert_ms, last_heard_ms;
	struct rate rate; /* of adverts */
};

/* All zero, or lost, before. Comes present with what is told of it. config is copied. */
void adapter_init(struct adapter *adapter, struct bluez *bluez, unsigned index,
		  const struct adapter_config *config, const struct adapter_handler *handler,
		  void *userdata);
void adapter_update(struct adapter *adapter, const struct adapter_props *props);
void adapter_has_monitors(struct adapter *adapter);
/* Scans with it from now on, until it is lost. Nothing where it is used already. */
void adapter_use(struct adapter *adapter);
/* An advert was heard on it, of whatever device. */
void adapter_heard(struct adapter *adapter, uint64_t now_ms);
/* That advert was a Blecon device's. */
void adapter_count_advert(struct adapter *adapter, uint64_t now_ms);
/* It or bluetoothd is gone; counters stay. No callback comes of it until adapter_init. */
void adapter_lost(struct adapter *adapter);
/* Whether connections can be made with it. */
bool adapter_usable(const struct adapter *adapter);
/* Its own address, as a local socket is bound to. */
void adapter_get_address(const struct adapter *adapter, struct ble_address *ret);
/* Tells bluetoothd to stop; returns whether anything was sent. Then as adapter_lost. */
bool adapter_stop(struct adapter *adapter);
void adapter_get_status(const struct adapter *adapter, struct ble_adapter_status *ret);
