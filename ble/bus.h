/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to the system bus, inside the event loop, made again by itself whenever it is
 * lost. Every call goes through here, so that the loop always knows what sd-bus waits for.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/loop.h"
#include "ble/sdbus.h"

#define BUS_ERROR_TEXT 128 /* bytes for bus_error_text */

struct bus_handler {
	/* There is a connection: matches may be added, calls made. */
	void (*on_up)(void *userdata);
	/* There is none, with a negative errno. All slots and calls have to be dropped now. Also
	 * where a first or renewed attempt failed. */
	void (*on_down)(void *userdata, int error);
};

struct bus {
	struct loop *loop; /* not owned */
	sd_bus *sd; /* NULL while there is no connection */
	struct bus_handler handler;
	void *userdata; /* not owned */
	struct loop_fd watch;
	struct loop_timer timer; /* deadlines of sd-bus, end of a pause, postponed failure */
	struct loop_timer retry;
	uint64_t retry_ms;
	uint64_t last_read_us; /* when messages were last taken */
	unsigned n_prompt; /* reasons not to pause: calls that wait for a reply, bus_hold */
	int error; /* negative: the connection ends as soon as the stack is unwound */
	bool answered; /* over this connection, or the one that has just ended */
	bool processing;
	bool paused; /* not reading for a moment, so that signals come in batches */
	bool reported; /* the log knows that there is no connection */
};

/* Starts at once. handler is copied, userdata not owned. No callback comes before this returns. */
void bus_init(struct bus *bus, struct loop *loop, const struct bus_handler *handler,
	      void *userdata);
/* No callback comes any more. Calls and slots must be dropped before. */
void bus_done(struct bus *bus);
/* Gives the connection up, from any stack, and makes a new one. error: negative errno. */
void bus_fail(struct bus *bus, int error);
/* After anything was sent through sd-bus itself. */
void bus_update(struct bus *bus);
/* While held, signals are read at once instead of in batches. */
void bus_hold(struct bus *bus);
void bus_release(struct bus *bus);

/* A method call whose reply is awaited, embedded in its owner. All zero is idle. */
struct bus_call {
	struct bus *bus; /* not owned */
	sd_bus_slot *slot; /* NULL while idle */
	/* reply may be an error, also one made here (timeout). Idle again when this is called. */
	void (*on_reply)(void *userdata, sd_bus_message *reply);
	void *userdata; /* not owned */
};
/* Sends m, which is consumed; nothing where m is NULL. call must be idle. What cannot be sent ends
 * the connection, on_down follows and on_reply does not. */
void bus_call(struct bus *bus, struct bus_call *call, sd_bus_message *m, uint64_t timeout_ms,
	      void (*on_reply)(void *userdata, sd_bus_message *reply), void *userdata);
/* The reply will be ignored. Fine where call is idle. */
void bus_call_cancel(struct bus_call *call);
bool bus_call_pending(const struct bus_call *call);
/* Sends m, which is consumed, and asks for no reply. Fine where m is NULL. */
void bus_send(struct bus *bus, sd_bus_message *m);
/* Sends m, which is consumed, and blocks until there is a reply: for the end of the process only. */
void bus_call_blocking(struct bus *bus, sd_bus_message *m, uint64_t timeout_ms);

/* "name: message" of an error reply, or that a policy denies the call. Returns ret. */
const char *bus_error_text(sd_bus_message *reply, char ret[BUS_ERROR_TEXT]);
