/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An advertisement monitor on one adapter, where bluetoothd offers them: with it the controller
 * reports every advert instead of filtering duplicates. Not having it is fine.
 */
#pragma once

#include <stdbool.h>

#include "ble/bluez.h"

enum monitor_state {
	MONITOR_IDLE,
	MONITOR_REGISTERING,
	MONITOR_EXPORTED, /* bluetoothd reads it and may still refuse */
	MONITOR_ACTIVE,
	MONITOR_REFUSED, /* until monitor_stop */
};

struct monitor {
	struct bluez *bluez; /* not owned */
	void (*on_change)(void *userdata);
	void *userdata; /* not owned */
	unsigned adapter;
	enum monitor_state state;
	struct bus_call call;
	sd_bus_slot *manager_slot;
	sd_bus_slot *object_slot;
};

void monitor_init(struct monitor *monitor, struct bluez *bluez, unsigned adapter,
		  void (*on_change)(void *userdata), void *userdata);
/* Nothing where it was started before. on_change follows when monitor_active changes. */
void monitor_start(struct monitor *monitor);
/* tell: also unregister it with bluetoothd. on_change does not follow. */
void monitor_stop(struct monitor *monitor, bool tell);
bool monitor_active(const struct monitor *monitor);
