/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which device is connected when: a device that asks gets a session while there is a slot, the
 * uplink is up and its last failure is long enough ago. A device asks with every advert, so nothing
 * has to queue.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/devices.h"
#include "agent/session.h"

struct loop;
struct relay;

struct relay_config {
	unsigned max_links; /* sessions at once; 0: no device is ever connected */
	int rssi_floor_dbm; /* a device heard more weakly is not connected */
	uint32_t retry_min_ms, retry_max_ms; /* back-off of one device after a failure */
	struct session_config session;
};

struct relay_counters {
	uint64_t started, served, failed; /* sessions; served: ended without a failure */
	uint64_t frames_up, frames_down, bytes_up, bytes_down; /* of ended sessions */
};

/* devices, ble and loop must outlive it; want_write is called when relay_next_message has
 * something. Returns 0 or -ENOMEM. */
int relay_new(struct loop *loop, struct ble *ble, struct devices *devices,
	      const struct relay_config *config, void (*want_write)(void *userdata), void *userdata,
	      struct relay **ret);
/* After ble_free, so that no link calls back any more. NULL is fine. */
void relay_free(struct relay *relay);

/* An advert of this device was heard with this RSSI. */
void relay_heard(struct relay *relay, struct device *device, int rssi_dbm);
/* The uplink is up. credits: of each side in each session, 0 for the default. */
void relay_up(struct relay *relay, uint32_t credits);
/* The uplink is lost: so are all sessions. */
void relay_down(struct relay *relay);
/* ACCEPT, DATA, CREDIT or CLOSE. For a session that is over it is ignored: it crossed our CLOSE. */
void relay_message(struct relay *relay, const struct message *message);
/* Encodes the next message of the sessions in turn; 0 for none. */
size_t relay_next_message(struct relay *relay, uint8_t *buf, size_t size);
/* Starts no session any more and ends those there are. */
void relay_stop(struct relay *relay);
/* No session is left. */
bool relay_idle(const struct relay *relay);
void relay_each(const struct relay *relay,
		void (*each)(void *userdata, const struct session_status *status), void *userdata);
void relay_get_counters(const struct relay *relay, struct relay_counters *ret);
