/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One relay session: a device's link on one side, OPEN/DATA/CREDIT/CLOSE of the cloud on the other
 * (PROTOCOL.md, "Sessions"), which outlives the uplink's connection for a while. Frames pass as they
 * are; what is in them only the two ends can read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/devices.h"
#include "agent/timing.h"
#include "ble/ble.h"
#include "uplink/message.h"

struct loop;
struct session;

enum session_state {
	SESSION_STATE_CONNECTING, /* the device's connection is being made */
	SESSION_STATE_OPENING, /* its channels are; the cloud knows nothing yet */
	SESSION_STATE_OPEN,
	SESSION_STATE_ENDING, /* the link is being let go, or the cloud is still to be told */
	SESSION_STATE_ENDED, /* to be freed */
};
const char *session_state_name(enum session_state state);

/* What became of one that has ended. */
enum session_result {
	SESSION_RESULT_SERVED, /* one of its two ends ended it */
	SESSION_RESULT_BROKEN, /* ended in the middle: idle, too long, without an uplink */
	SESSION_RESULT_FAILED,
	SESSION_RESULT_GIVEN_UP, /* before it was up, and that is nobody's failure */
};
const char *session_result_name(enum session_result result);

struct session_config {
	uint64_t idle_ms; /* no frame either way for that long: ended */
	uint64_t duration_ms; /* the longest time open */
};

struct session_owner {
	void (*want_write)(void *userdata); /* session_next_message has something */
	/* It has its device's connection, so the adapter is free for another attempt; or had it. */
	void (*on_connected)(void *userdata, const uint8_t device_id[16], bool connected);
	void (*on_ended)(void *userdata); /* a session is in SESSION_STATE_ENDED; not freed yet */
	void *userdata; /* not owned */
};

struct session_status {
	uint32_t id;
	uint8_t device_id[16];
	enum session_state state;
	uint64_t since_ms; /* monotonic, of state */
	struct timing timing;
	unsigned adapter; /* N of hciN */
	bool has_link; /* it takes one of the radio's slots */
	bool accepted; /* by the cloud */
	bool suspended; /* the uplink is down */
	uint64_t expires_ms; /* monotonic, until when it waits for it, where suspended */
	unsigned resumed; /* times it went on over a new connection */
	bool was_connected; /* the device was, its channels or not */
	bool was_up; /* the link came up */
	bool failed; /* ended for a reason that makes an early retry pointless */
	bool broken; /* ended in the middle, for another reason than the two ends' */
	enum ble_bearer bearer;
	size_t max_frame;
	unsigned channels;
	int rssi_dbm;
	uint64_t frames_up, frames_down; /* up: device to cloud */
	uint64_t bytes_up, bytes_down;
	size_t waiting_up, waiting_down; /* bytes held here */
	bool held; /* the device is held back */
	const char *reason; /* why it ends, empty before */
};

/* Where to connect a device. */
struct session_target {
	uint8_t device_id[16];
	uint8_t service_data[ADVERT_LEN];
	unsigned adapter;
	struct ble_address address;
	int rssi_dbm;
	enum ble_bearers bearers;
};

/* Connects the device. credits: of each side, 1 to FLOW_CREDITS_MAX. config and owner must outlive
 * the session. Returns 0, or what ble_link_open returns. */
int session_new(struct loop *loop, struct ble *ble, uint32_t id,
		const struct session_target *target, uint32_t credits,
		const struct session_config *config, const struct session_owner *owner,
		struct session **ret);
/* Only in SESSION_STATE_ENDED, or after ble_free. */
void session_free(struct session *session);

/* ACCEPT, DATA, CREDIT or CLOSE of the cloud for this session. */
void session_message(struct session *session, const struct message *message);
/* Encodes the next message for the cloud, 0 for none. */
size_t session_next_message(struct session *session, uint8_t *buf, size_t size);
/* Ends it from this side. */
void session_end(struct session *session, enum message_close_code code, const char *reason);

/* The uplink is down: the session waits for it, for at most window_ms; 0 ends it. */
void session_suspend(struct session *session, uint64_t window_ms);
/* For HELLO. Returns whether there is something to go on with. */
bool session_want(struct session *session, struct message_resume *ret);
/* The uplink is up again. wanted: what the cloud said of the session, or NULL. next_id: taken where it
 * has to be opened again; credits: of each side then. */
void session_resume(struct session *session, const struct message_resume *wanted, uint32_t *next_id,
		    uint32_t credits);
uint32_t session_get_id(const struct session *session);
void session_get_status(const struct session *session, struct session_status *ret);
/* Of one in SESSION_STATE_ENDED. */
enum session_result session_get_result(const struct session_status *status);
