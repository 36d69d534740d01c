/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The GATT bearer: bluetoothd's sockets for notifications and for writes without response
 * (org.bluez.GattCharacteristic1, AcquireWrite and AcquireNotify).
 *
 * bluetoothd takes writes without limit, whatever the radio does. So frames are paced: at most
 * GATT_WINDOW are under way until a read of a descriptor has come back from the device, which ATT
 * and bluetoothd carry after the writes before it.
 */
#pragma once

#include "ble/bearer.h"
#include "ble/bluez.h"
#include "ble/channels.h"

#define GATT_WINDOW 64 /* frames sent that the device has not confirmed */

struct gatt_channel {
	struct gatt *gatt; /* not owned */
	unsigned number;
	char path[OBJECT_PATH_MAX]; /* of the characteristic; empty: the device has none */
	int write_fd; /* owned, -1 while not open */
	int notify_fd; /* owned, -1 while not open */
	struct loop_fd write_watch;
	struct loop_fd notify_watch;
	size_t max_frame;
};

struct gatt {
	struct bluez *bluez; /* not owned */
	struct bearer_handler handler;
	void *userdata; /* not owned */
	struct gatt_channel channels[BEARER_CHANNELS];
	char ccc[OBJECT_PATH_MAX]; /* the descriptor that is read */
	struct bus_call call; /* Acquire* */
	const char *step; /* static: the call that is awaited, NULL for none */
	struct loop_timer second_timer; /* for channel 1 to open */
	struct bus_call confirm; /* ReadValue */
	struct loop_timer confirm_timer; /* to look again whether bluetoothd has read the sockets */
	unsigned confirm_wait_ms; /* until then, longer from time to time */
	unsigned unconfirmed, confirming; /* frames; confirming: those the read stands for */
	bool blocked; /* on_writable is due */
	bool flushing; /* on_flushed is due */
};

/* Before the others. handler is copied, userdata not owned. */
void gatt_init(struct gatt *gatt, struct bluez *bluez, const struct bearer_handler *handler,
	       void *userdata);
/* second: channel 1, or NULL where the device has none. on_open or on_fail follows, later, or
 * neither where bluetoothd does not answer: the deadline is the caller's. */
void gatt_open(struct gatt *gatt, const struct channel *first, const struct channel *second);
/* The call that is awaited, or NULL. */
const char *gatt_step(const struct gatt *gatt);
/* As ble_link_send; -ENOTCONN also where the socket is found broken, on_fail follows then. */
int gatt_send(struct gatt *gatt, unsigned channel, const uint8_t *data, size_t len);
/* Delivers what was received before the connection ended. */
void gatt_drain(struct gatt *gatt);
/* on_flushed follows when the device has all frames. */
void gatt_flush(struct gatt *gatt);
/* In any state, more than once. */
void gatt_close(struct gatt *gatt);
