/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay: gives each device that asks a session when its turn comes (scheduler.h), hands the
 * cloud's messages to the sessions, and keeps these while the uplink is down.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/devices.h"
#include "agent/past.h"
#include "agent/scheduler.h"
#include "agent/session.h"

#define RELAY_LINKS_MAX	   16 /* links at once, whatever the configuration says */
#define RELAY_SESSIONS_MAX 32 /* with those that only have to tell the cloud of their end */

struct loop;
struct relay;

struct relay_config {
	struct scheduler_config scheduler;
	enum ble_bearers bearers;
	uint32_t retry_min_ms, retry_max_ms; /* back-off of one device after a failure */
	uint64_t
		resume_max_ms; /* how long sessions outlive the uplink, whatever the cloud offers */
	struct session_config session;
};

struct relay_counters {
	uint64_t started; /* sessions */
	uint64_t served, broken, failed; /* of them, what enum session_result says */
	uint64_t resumed; /* times a session went on over a new connection */
	uint64_t turned_away; /* adverts of devices for which there was no room in the queue */
	uint64_t frames_up, frames_down, bytes_up, bytes_down; /* of ended sessions */
};

/* devices, ble and loop must outlive it; want_write is called when relay_next_message has
 * something. Returns 0 or -ENOMEM. */
int relay_new(struct loop *loop, struct ble *ble, struct devices *devices,
	      const struct relay_config *config, void (*want_write)(void *userdata), void *userdata,
	      struct relay **ret);
/* From now on; sessions there are go on, with the time limits they began with. */
void relay_configure(struct relay *relay, const struct relay_config *config);
/* After ble_free, so that no link calls back any more. NULL is fine. */
void relay_free(struct relay *relay);

/* The number of the next session: it starts at 1. Numbers do not repeat within one run. */
uint32_t relay_next_session(const struct relay *relay);
/* Before the first session: an earlier agent used the numbers below. */
void relay_set_next_session(struct relay *relay, uint32_t number);

/* This advert of this device was heard. */
void relay_heard(struct relay *relay, const struct device *device, const struct ble_advert *advert);

/* For HELLO: the sessions there are, at most RELAY_SESSIONS_MAX. Returns their number. */
size_t relay_want(struct relay *relay, struct message_resume *ret);
/* The uplink is up. */
void relay_up(struct relay *relay, const struct message_settings *settings);
/* It will be down soon: no session is started before it is up again. */
void relay_drain(struct relay *relay);
/* It is down: the sessions wait. */
void relay_down(struct relay *relay);
/* ACCEPT, DATA, CREDIT or CLOSE. For a session that is over it is ignored: it crossed our CLOSE. */
void relay_message(struct relay *relay, const struct message *message);
/* Encodes the next message of the sessions in turn; 0 for none. */
size_t relay_next_message(struct relay *relay, uint8_t *buf, size_t size);

/* Starts no session any more and ends those there are. */
void relay_stop(struct relay *relay);
/* No session is left. */
bool relay_idle(const struct relay *relay);

/* The links in use, of all and for each adapter. */
void relay_get_load(const struct relay *relay, struct scheduler_load *ret);
const struct scheduler *relay_scheduler(const struct relay *relay);
void relay_each(const struct relay *relay,
		void (*each)(void *userdata, const struct session_status *status), void *userdata);
/* The sessions that ended last. */
const struct past *relay_past(const struct relay *relay);
void relay_get_counters(const struct relay *relay, struct relay_counters *ret);
