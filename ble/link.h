/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One link: connects a device, opens a bearer over the connection and lets the device go in the
 * end. L2CAP is tried first where it may be; GATT needs the device's services resolved.
 */
#pragma once

#include "ble/ble.h"
#include "ble/bluez.h"
#include "ble/channels.h"
#include "ble/gatt.h"
#include "ble/l2cap.h"

#define LINK_TEXT_MAX 192

enum link_state {
	LINK_STATE_CONNECTING, /* Connect, and Connected */
	LINK_STATE_L2CAP, /* that bearer is being opened */
	LINK_STATE_RESOLVING, /* ServicesResolved and the characteristic of channel 0 */
	LINK_STATE_GATT, /* that bearer is being opened */
	LINK_STATE_UP,
	LINK_STATE_CLOSING, /* Disconnect */
	LINK_STATE_DOWN, /* to be told and freed from a clean stack */
};

struct ble_link {
	struct list in_list; /* in links.list */
	struct links *links; /* not owned */
	struct object_key key;
	struct ble_address local, peer;
	enum ble_bearers bearers;
	struct ble_link_handler handler;
	void *userdata; /* not owned */
	enum link_state state;
	enum ble_bearer bearer; /* from L2CAP or GATT on */
	enum ble_down why; /* from CLOSING on */
	char text[LINK_TEXT_MAX];
	bool connected; /* Device1.Connected */
	bool resolved; /* Device1.ServicesResolved */
	struct loop_timer timer; /* of the state */
	struct bus_call connect;
	struct bus_call query; /* of Connected */
	struct bus_call disconnect;
	struct l2cap l2cap;
	struct gatt gatt;
};

/* Starts connecting. All zero but links, key, local, peer, bearers, handler and userdata. */
void link_start(struct ble_link *link);
/* Nothing is told any more; link is out of its list, and freed. */
void link_free(struct ble_link *link);
/* Its device's properties were told; its object is gone; one of its attributes was seen. */
void link_update(struct ble_link *link, const struct device_props *props);
void link_removed(struct ble_link *link);
void link_check_resolved(struct ble_link *link);
/* bluetoothd or the adapter is gone: there is nobody to tell. */
void link_lost(struct ble_link *link, const char *text);
/* Whether the adapter is busy with connecting it, or with giving that up. */
bool link_is_attempt(const struct ble_link *link);

/* Drops a device's connection and object, without waiting. */
void link_forget_device(struct bluez *bluez, const struct object_key *key, bool connected);
