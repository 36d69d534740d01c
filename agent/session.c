/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/flow.h"
#include "agent/log.h"
#include "agent/loop.h"
#include "agent/session_parts.h"
#include "agent/util.h"

_Static_assert(FLOW_FRAME_MAX >= BLE_FRAME_MAX, "a queue slot must hold any frame of a link");

static const char *const state_names[] = {
	[SESSION_STATE_CONNECTING] = "connecting",
	[SESSION_STATE_OPENING] = "opening",
	[SESSION_STATE_OPEN] = "open",
	[SESSION_STATE_ENDING] = "ending",
	[SESSION_STATE_ENDED] = "ended",
};

const char *session_state_name(enum session_state state)
{
	return state_names[state];
}

static const char *const result_names[] = {
	[SESSION_RESULT_SERVED] = "served",
	[SESSION_RESULT_BROKEN] = "broken",
	[SESSION_RESULT_FAILED] = "failed",
	[SESSION_RESULT_GIVEN_UP] = "given-up",
};

const char *session_result_name(enum session_result result)
{
	return result_names[result];
}

static void session_set_state(struct session *session, enum session_state state)
{
	log_debug("session %u: %s -> %s", session->status.id, state_names[session->status.state],
		  state_names[state]);
	session->status.state = state;
	session->status.since_ms = util_now_ms();
}

void session_check_ended(struct session *session)
{
	if (session->status.state != SESSION_STATE_ENDING || session->link || session->close_due)
		return;
	session_set_state(session, SESSION_STATE_ENDED);
	session->status.timing.ended_ms = session->status.since_ms;
	loop_timer_stop(&session->limit_timer);
	loop_timer_stop(&session->resume_timer);
	log_event(session->status.failed ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, LOG_EVENT_SESSION,
		  "session %u with %s: ended: %s; %llu frames up, %llu down", session->status.id,
		  session->device, session->reason, (unsigned long long)session->status.frames_up,
		  (unsigned long long)session->status.frames_down);
	session->owner->on_ended(session->owner->userdata);
}

void session_start_ending(struct session *session, const char *reason)
{
	snprintf(session->reason, sizeof(session->reason), "%.*s", MESSAGE_REASON_MAX, reason);
	loop_timer_stop(&session->idle_timer);
	loop_timer_stop(&session->limit_timer);
	session_set_state(session, SESSION_STATE_ENDING);
}

void session_let_go(struct session *session)
{
	session->flushing = false;
	if (session->link)
		ble_link_close(session->link);
}

/* The cloud is to hear of the end, where it has heard of the beginning or is about to. */
static void announce_end(struct session *session, enum message_close_code code)
{
	session->code = code;
	session->close_due = session->status.was_up;
	if (session->close_due)
		session->owner->want_write(session->owner->userdata);
}

void session_end(struct session *session, enum message_close_code code, const char *reason)
{
	if (session->status.state == SESSION_STATE_ENDING) {
		session_let_go(session);
		return;
	}
	if (session->status.state == SESSION_STATE_ENDED)
		return;
	session->status.failed = code == MESSAGE_CLOSE_PROTOCOL || code == MESSAGE_CLOSE_RADIO;
	session_start_ending(session, reason);
	announce_end(session, code);
	session_let_go(session);
	session_check_ended(session);
}

static void on_idle(void *userdata)
{
	struct session *session = userdata;
	size_t up, down;

	flow_get_waiting(&session->flow, &up, &down);
	session->status.broken = true;
	if (down > 0)
		session_end(session, MESSAGE_CLOSE_RADIO, "the radio takes no frames");
	else if (!flow_all_sent(&session->flow))
		session_end(session, MESSAGE_CLOSE_RADIO, "the cloud takes no frames");
	else
		session_end(session, MESSAGE_CLOSE_IDLE,
			    "no frame in either direction for too long");
}

static void on_limit(void *userdata)
{
	struct session *session = userdata;

	if (session->status.state == SESSION_STATE_OPEN) {
		session->status.broken = true;
		session_end(session, MESSAGE_CLOSE_IDLE, "open for too long");
	} else if (session->draining) {
		session->draining = false;
		session->owner->want_write(session->owner->userdata);
	} else {
		session_let_go(session);
	}
}

void session_moved(struct session *session)
{
	if (session->status.state == SESSION_STATE_OPEN && !session->status.suspended)
		loop_timer_start(&session->idle_timer, session->config->idle_ms);
}

void session_hold(struct session *session)
{
	/* Over GATT it cannot be. */
	bool held = session->status.bearer == BLE_BEARER_L2CAP &&
		    flow_hold(&session->flow, session->status.held);

	if (held == session->status.held)
		return;
	session->status.held = held;
	if (session->link)
		ble_link_hold(session->link, held);
}

void session_pump_down(struct session *session)
{
	const struct flow_frame *frame;

	while (session->link && (frame = flow_next_down(&session->flow))) {
		int r = ble_link_send(session->link, frame->channel, frame->data, frame->len);

		/* Broken: on_down follows, after what the device sent before. */
		if (r == -EAGAIN || r == -ENOTCONN)
			return;
		if (r < 0) {
			session_end(session, MESSAGE_CLOSE_RADIO, strerror(-r));
			return;
		}
		session->status.frames_down++;
		session->status.bytes_down += frame->len;
		flow_pop_down(&session->flow);
		session_moved(session);
	}
	if (flow_grant_due(&session->flow))
		session->owner->want_write(session->owner->userdata);
	if (session->flushing && session->link)
		ble_link_flush(session->link);
}

static void on_link_connected(void *userdata)
{
	struct session *session = userdata;

	session->status.was_connected = true;
	session->status.timing.connected_ms = util_now_ms();
	if (session->status.state == SESSION_STATE_CONNECTING)
		session_set_state(session, SESSION_STATE_OPENING);
	session->owner->on_connected(session->owner->userdata, session->status.device_id, true);
}

static void on_link_up(void *userdata, enum ble_bearer bearer, size_t max_frame, unsigned channels)
{
	struct session *session = userdata;

	session->status.was_up = true;
	session->status.bearer = bearer;
	session->status.max_frame = max_frame;
	session->status.channels = channels;
	session->open_due = true;
	session_set_state(session, SESSION_STATE_OPEN);
	session->status.timing.open_ms = session->status.since_ms;
	log_event(LOG_LEVEL_INFO, LOG_EVENT_SESSION,
		  "session %u with %s: open over %s, %u channel%s, frames up to %zu bytes",
		  session->status.id, session->device, ble_bearer_name(bearer), channels,
		  channels == 1 ? "" : "s", max_frame);
	loop_timer_start(&session->limit_timer, session->config->duration_ms);
	session_moved(session);
	session->owner->want_write(session->owner->userdata);
}

static void on_link_frame(void *userdata, unsigned channel, const uint8_t *data, size_t len)
{
	struct session *session = userdata;

	if (session->status.state != SESSION_STATE_OPENING &&
	    session->status.state != SESSION_STATE_OPEN)
		return;
	if (session->status.timing.first_frame_ms == 0)
		session->status.timing.first_frame_ms = util_now_ms();
	if (flow_push_up(&session->flow, channel, data, len) < 0) {
		session_end(session, MESSAGE_CLOSE_RADIO, "the cloud takes frames too slowly");
		return;
	}
	session_hold(session);
	session_moved(session);
	session->owner->want_write(session->owner->userdata);
}

static void on_link_writable(void *userdata)
{
	session_pump_down(userdata);
}

static void on_link_flushed(void *userdata)
{
	struct session *session = userdata;

	if (session->flushing)
		session_let_go(session);
}

static void on_link_down(void *userdata, enum ble_down why, const char *text)
{
	struct session *session = userdata;
	char reason[MESSAGE_REASON_MAX + 1];

	session->link = NULL;
	session->status.has_link = false;
	if (session->status.was_connected)
		session->owner->on_connected(session->owner->userdata, session->status.device_id,
					     false);
	snprintf(reason, sizeof(reason), "%s: %s", ble_down_name(why), text);
	if (session->status.state == SESSION_STATE_CONNECTING ||
	    session->status.state == SESSION_STATE_OPENING) {
		session->status.failed = true;
		session_start_ending(session, reason);
	} else if (session->status.state == SESSION_STATE_OPEN) {
		session->status.failed = why != BLE_DOWN_PEER;
		session_start_ending(session, reason);
		/* What was sent over the last connection may have to go again. */
		session->draining = session->status.suspended || !flow_all_sent(&session->flow);
		if (!session->status.suspended)
			loop_timer_start(&session->limit_timer, SESSION_DRAIN_MS);
		announce_end(session, why == BLE_DOWN_PEER ? MESSAGE_CLOSE_DISCONNECTED
							   : MESSAGE_CLOSE_RADIO);
	}
	session_check_ended(session);
}

int session_new(struct loop *loop, struct ble *ble, uint32_t id,
		const struct session_target *target, uint32_t credits,
		const struct session_config *config, const struct session_owner *owner,
		struct session **ret)
{
	static const struct ble_link_handler handler = {
		.on_connected = on_link_connected,
		.on_up = on_link_up,
		.on_frame = on_link_frame,
		.on_writable = on_link_writable,
		.on_flushed = on_link_flushed,
		.on_down = on_link_down,
	};
	_cleanup_free_ struct session *session = calloc(1, sizeof(*session));
	int r;

	if (!session)
		return -ENOMEM;
	session->config = config;
	session->owner = owner;
	session->status.id = id;
	session->status.adapter = target->adapter;
	session->status.has_link = true;
	session->status.rssi_dbm = target->rssi_dbm;
	session->status.since_ms = session->status.timing.begun_ms = util_now_ms();
	memcpy(session->status.device_id, target->device_id, 16);
	memcpy(session->service_data, target->service_data, ADVERT_LEN);
	util_uuid_text(target->device_id, session->device);
	flow_init(&session->flow, credits);
	loop_timer_init(loop, &session->idle_timer, on_idle, session);
	loop_timer_init(loop, &session->limit_timer, on_limit, session);
	loop_timer_init(loop, &session->resume_timer, session_on_resume_timer, session);
	r = ble_link_open(ble, target->adapter, &target->address, target->bearers, &handler,
			  session, &session->link);
	if (r < 0)
		return r;
	log_event(LOG_LEVEL_INFO, LOG_EVENT_SESSION,
		  "session %u with %s: it asks, connecting from hci%u", id, session->device,
		  target->adapter);
	*ret = TAKE_PTR(session);
	return 0;
}

void session_free(struct session *session)
{
	if (!session)
		return;
	loop_timer_stop(&session->idle_timer);
	loop_timer_stop(&session->limit_timer);
	loop_timer_stop(&session->resume_timer);
	flow_done(&session->flow);
	free(session);
}

uint32_t session_get_id(const struct session *session)
{
	return session->status.id;
}

void session_get_status(const struct session *session, struct session_status *ret)
{
	*ret = session->status;
	ret->reason = session->reason;
	flow_get_waiting(&session->flow, &ret->waiting_up, &ret->waiting_down);
}

enum session_result session_get_result(const struct session_status *status)
{
	if (status->failed)
		return SESSION_RESULT_FAILED;
	if (status->broken)
		return SESSION_RESULT_BROKEN;
	return status->was_up ? SESSION_RESULT_SERVED : SESSION_RESULT_GIVEN_UP;
}
