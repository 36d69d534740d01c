/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The L2CAP bearer: LE credit-based channels (Bluetooth Core, Vol 3 Part A, section 10.1) on the
 * kernel's sockets, over a connection that bluetoothd has made. One SDU is one frame. The kernel's
 * credits hold back whoever is too fast, in both directions.
 */
#pragma once

#include "agent/loop.h"
#include "ble/bearer.h"

struct l2cap_channel {
	struct l2cap *l2cap; /* not owned */
	unsigned number;
	int fd; /* owned, -1 while not open */
	struct loop_fd watch;
	int idle_outq; /* what bearer_outq says while nothing waits */
	size_t max_frame;
	bool blocked; /* on_writable is due */
};

struct l2cap {
	struct loop *loop; /* not owned */
	struct bearer_handler handler;
	void *userdata; /* not owned */
	struct ble_address local, peer;
	struct l2cap_channel channels[BEARER_CHANNELS];
	bool open; /* on_open was called */
	bool held;
	bool draining; /* the end has come: nothing is held any more */
	struct loop_timer timer; /* the start, then the time channel 1 has to open */
	struct loop_timer flush_timer;
	bool lingering; /* all is with the controller */
};

/* Before the others. handler is copied, userdata not owned. */
void l2cap_init(struct l2cap *l2cap, struct loop *loop, const struct bearer_handler *handler,
		void *userdata);
/* local: the adapter. on_open or on_fail follows, later; BLE_DOWN_NOT_SERVED where the device does
 * not take channel 0. It may take long: the deadline is the caller's. */
void l2cap_open(struct l2cap *l2cap, const struct ble_address *local,
		const struct ble_address *peer);
/* As ble_link_send; -ENOTCONN also where the socket is found broken, on_fail follows then. */
int l2cap_send(struct l2cap *l2cap, unsigned channel, const uint8_t *data, size_t len);
/* Nothing is read while held: the device runs out of credits. */
void l2cap_hold(struct l2cap *l2cap, bool hold);
/* Delivers what was received before the connection ended. */
void l2cap_drain(struct l2cap *l2cap);
/* on_flushed follows when the controller has all frames. */
void l2cap_flush(struct l2cap *l2cap);
/* In any state, more than once. */
void l2cap_close(struct l2cap *l2cap);
