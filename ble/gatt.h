/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GATT bearer: bluetoothd's sockets for notifications and for writes without response, one
 * packet a frame (org.bluez.GattCharacteristic1, AcquireWrite and AcquireNotify).
 */
#pragma once

#include "ble/bearer.h"
#include "ble/bluez.h"

struct gatt {
	struct bluez *bluez; /* not owned */
	struct bearer_handler handler;
	void *userdata; /* not owned */
	struct bus_call call; /* AcquireWrite, then AcquireNotify */
	char path[OBJECT_PATH_MAX];
	const char *step; /* static: the call that is awaited, NULL for none */
	int write_fd; /* owned, -1 while not open */
	int notify_fd; /* owned, -1 while not open */
	struct loop_fd write_watch;
	struct loop_fd notify_watch;
	size_t max_frame;
};

/* Before the others. handler is copied, userdata not owned. */
void gatt_init(struct gatt *gatt, struct bluez *bluez, const struct bearer_handler *handler,
	       void *userdata);
/* path: of the characteristic; copied. on_open or on_fail follows, later, or neither where
 * bluetoothd does not answer: deadlines are the caller's. */
void gatt_open(struct gatt *gatt, const char *path);
/* The call that is awaited, or NULL. */
const char *gatt_step(const struct gatt *gatt);
/* As ble_link_send; -ENOTCONN also where the socket is found broken, on_fail follows then. */
int gatt_send(struct gatt *gatt, const uint8_t *data, size_t len);
/* Delivers what was received before the connection ended. */
void gatt_drain(struct gatt *gatt);
/* In any state, more than once. */
void gatt_close(struct gatt *gatt);
