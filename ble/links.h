/* SPDX-License-Identifier: Apache-2.0 */
/* All links: which there are, and who is told what bluetoothd says. */
#pragma once

#include "agent/util.h"
#include "ble/ble.h"
#include "ble/bluez.h"
#include "ble/channels.h"

#define LINKS_MAX 48 /* at once, closing ones included; controllers do 3 to 10 each */
#define LINKS_ALL UINT32_MAX /* in place of an adapter */

struct links {
	struct loop *loop; /* not owned */
	struct bluez *bluez; /* not owned */
	const struct channels *channels; /* not owned */
	struct list list; /* owns the links */
	unsigned n;
};

void links_init(struct links *links, struct loop *loop, struct bluez *bluez,
		const struct channels *channels);
/* As ble_link_open, on an adapter that is usable and has the address local. */
int links_open(struct links *links, unsigned adapter, const struct ble_address *local,
	       const struct ble_address *peer, enum ble_bearers bearers,
	       const struct ble_link_handler *handler, void *userdata, struct ble_link **ret);
/* A device's properties were told; its object is gone; one of its attributes was seen. */
void links_device(struct links *links, const struct object_key *key,
		  const struct device_props *props);
void links_device_removed(struct links *links, const struct object_key *key);
void links_attribute(struct links *links, const struct object_key *key);
/* The links of that adapter, or LINKS_ALL, ended and there is nobody to tell. */
void links_lost(struct links *links, unsigned adapter, const char *text);
/* Whether there are any on that adapter. */
bool links_any(const struct links *links, unsigned adapter);
/* Lets all devices go and frees the links, without callbacks. Returns whether anything was sent. */
bool links_stop(struct links *links);
