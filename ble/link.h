/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All links: each connects one device, waits for its services, opens a bearer and lets the device
 * go in the end. Defines ble_link_send and ble_link_close of ble.h too.
 */
#pragma once

#include "agent/util.h"
#include "ble/ble.h"
#include "ble/bluez.h"
#include "ble/channels.h"

#define LINKS_MAX     32 /* at once, closing ones included; controllers do 3 to 10 each */
#define LINKS_ALL     UINT32_MAX /* in place of an adapter */
#define LINK_TEXT_MAX 192

struct links {
	struct loop *loop; /* not owned */
	struct bluez *bluez; /* not owned */
	const struct channels *channels; /* not owned */
	struct list list; /* owns the links */
	unsigned n;
};

void links_init(struct links *links, struct loop *loop, struct bluez *bluez,
		const struct channels *channels);
/* As ble_link_open, on an adapter that is usable. */
int links_open(struct links *links, const struct object_key *key,
	       const struct ble_link_handler *handler, void *userdata, struct ble_link **ret);
/* A device's properties were told; its object is gone; its channel 0 was seen. */
void links_device(struct links *links, const struct object_key *key,
		  const struct device_props *props);
void links_device_removed(struct links *links, const struct object_key *key);
void links_channel(struct links *links, const struct object_key *key);
/* The links of that adapter, or LINKS_ALL, ended and there is nobody to tell. */
void links_lost(struct links *links, unsigned adapter, const char *text);
/* Whether there are any on that adapter. */
bool links_any(const struct links *links, unsigned adapter);
/* Lets all devices go and frees the links, without callbacks. Returns whether anything was sent. */
bool links_stop(struct links *links);

/* Drops a device's connection and object, without waiting. */
void link_forget_device(struct bluez *bluez, const struct object_key *key, bool connected);
