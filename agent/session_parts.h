/* SPDX-License-Identifier: Apache-2.0 */
/* A session from within: session.c is the device's side and its life, session_cloud.c the cloud's. */
#pragma once

#include "agent/flow.h"
#include "agent/loop.h"
#include "agent/session.h"
#include "agent/util.h"

/* After the device has gone: for credits, so that its last frames reach the cloud. */
#define SESSION_DRAIN_MS 5000

struct session {
	const struct session_config *config; /* not owned */
	const struct session_owner *owner; /* not owned */
	struct ble_link *link; /* of ble; NULL once down */
	struct session_status status;
	char device[UTIL_UUID_TEXT];
	char reason[MESSAGE_REASON_MAX + 1];
	uint8_t service_data[ADVERT_LEN];
	bool open_due, close_due;
	bool opened; /* OPEN was sent under this id */
	bool wanted; /* HELLO has told the cloud of it, and WELCOME has not come */
	uint64_t window_ms; /* how long it waits for an uplink */
	bool draining; /* the frames in flow.up go before CLOSE */
	bool flushing; /* the frames in flow.down go before the link is let go */
	enum message_close_code code;
	struct loop_timer idle_timer;
	struct loop_timer limit_timer; /* duration while open, then SESSION_DRAIN_MS or FLUSH_MS */
	struct loop_timer resume_timer; /* while the uplink is down */
	struct flow flow;
};

/* Its timers stop, and the reason is kept. */
void session_start_ending(struct session *session, const char *reason);
/* Closes the device's link, if it is there. */
void session_let_go(struct session *session);
/* It has ended once neither the link is left nor anything to be told. */
void session_check_ended(struct session *session);
/* A frame went one way or the other: it is not idle. */
void session_moved(struct session *session);
/* Holds the device back, or no longer, as the frames that wait for the cloud ask for it. */
void session_hold(struct session *session);
/* Hands frames to the link until it takes no more. */
void session_pump_down(struct session *session);

/* Of resume_timer: no uplink within the time there was. */
void session_on_resume_timer(void *userdata);
