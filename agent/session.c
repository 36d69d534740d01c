/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/flow.h"
#include "agent/log.h"
#include "agent/loop.h"
#include "agent/util.h"

_Static_assert(FLOW_FRAME_MAX >= BLE_FRAME_MAX, "a queue slot must hold any frame of a link");

/* After the cloud has closed: for frames to the device that still wait. */
#define FLUSH_MS 5000
/* After the device has gone: for credits, so that its last frames reach the cloud. */
#define DRAIN_MS 5000

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
	struct loop_timer limit_timer; /* duration while open, then DRAIN_MS or FLUSH_MS */
	struct loop_timer resume_timer; /* while the uplink is down */
	struct flow flow;
};

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

static void session_set_state(struct session *session, enum session_state state)
{
	log_debug("session %u: %s -> %s", session->status.id, state_names[session->status.state],
		  state_names[state]);
	session->status.state = state;
	session->status.since_ms = util_now_ms();
}

static void check_ended(struct session *session)
{
	if (session->status.state != SESSION_STATE_ENDING || session->link || session->close_due)
		return;
	session_set_state(session, SESSION_STATE_ENDED);
	loop_timer_stop(&session->limit_timer);
	loop_timer_stop(&session->resume_timer);
	log_event(session->status.failed ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, LOG_EVENT_SESSION,
		  "session %u with %s: ended: %s; %llu frames up, %llu down", session->status.id,
		  session->device, session->reason, (unsigned long long)session->status.frames_up,
		  (unsigned long long)session->status.frames_down);
	session->owner->on_ended(session->owner->userdata);
}

static void start_ending(struct session *session, const char *reason)
{
	snprintf(session->reason, sizeof(session->reason), "%.*s", MESSAGE_REASON_MAX, reason);
	loop_timer_stop(&session->idle_timer);
	loop_timer_stop(&session->limit_timer);
	session_set_state(session, SESSION_STATE_ENDING);
}

static void let_go(struct session *session)
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
		let_go(session);
		return;
	}
	if (session->status.state == SESSION_STATE_ENDED)
		return;
	session->status.failed = code == MESSAGE_CLOSE_PROTOCOL || code == MESSAGE_CLOSE_RADIO;
	start_ending(session, reason);
	announce_end(session, code);
	let_go(session);
	check_ended(session);
}

/* The cloud does not have its half any more, and needs not be told. */
static void lose_cloud(struct session *session, const char *reason)
{
	session->close_due = session->draining = false;
	if (session->status.state < SESSION_STATE_ENDING) {
		session->status.broken = true;
		start_ending(session, reason);
	}
	let_go(session);
	check_ended(session);
}

/* The cloud that has just been told of it by HELLO goes on with it: it is to hear of the end too, or,
 * without a WELCOME, nobody is in another such time. */
static void on_resume_timer(void *userdata)
{
	struct session *session = userdata;
	static const char reason[] = "the uplink was down for too long";

	if (!session->wanted) {
		lose_cloud(session, reason);
		return;
	}
	session->wanted = false;
	session->status.broken = true;
	loop_timer_start(&session->resume_timer, session->window_ms);
	session_end(session, MESSAGE_CLOSE_RESUME, reason);
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
		let_go(session);
	}
}

static void moved(struct session *session)
{
	if (session->status.state == SESSION_STATE_OPEN && !session->status.suspended)
		loop_timer_start(&session->idle_timer, session->config->idle_ms);
}

static void hold(struct session *session)
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

/* Hands frames to the link until it takes no more. */
static void pump_down(struct session *session)
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
		moved(session);
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
	log_event(LOG_LEVEL_INFO, LOG_EVENT_SESSION,
		  "session %u with %s: open over %s, %u channel%s, frames up to %zu bytes",
		  session->status.id, session->device, ble_bearer_name(bearer), channels,
		  channels == 1 ? "" : "s", max_frame);
	loop_timer_start(&session->limit_timer, session->config->duration_ms);
	moved(session);
	session->owner->want_write(session->owner->userdata);
}

static void on_link_frame(void *userdata, unsigned channel, const uint8_t *data, size_t len)
{
	struct session *session = userdata;

	if (session->status.state != SESSION_STATE_OPENING &&
	    session->status.state != SESSION_STATE_OPEN)
		return;
	if (flow_push_up(&session->flow, channel, data, len) < 0) {
		session_end(session, MESSAGE_CLOSE_RADIO, "the cloud takes frames too slowly");
		return;
	}
	hold(session);
	moved(session);
	session->owner->want_write(session->owner->userdata);
}

static void on_link_writable(void *userdata)
{
	pump_down(userdata);
}

static void on_link_flushed(void *userdata)
{
	struct session *session = userdata;

	if (session->flushing)
		let_go(session);
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
		start_ending(session, reason);
	} else if (session->status.state == SESSION_STATE_OPEN) {
		session->status.failed = why != BLE_DOWN_PEER;
		start_ending(session, reason);
		/* What was sent over the last connection may have to go again. */
		session->draining = session->status.suspended || !flow_all_sent(&session->flow);
		if (!session->status.suspended)
			loop_timer_start(&session->limit_timer, DRAIN_MS);
		announce_end(session, why == BLE_DOWN_PEER ? MESSAGE_CLOSE_DISCONNECTED
							   : MESSAGE_CLOSE_RADIO);
	}
	check_ended(session);
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
	session->status.since_ms = util_now_ms();
	memcpy(session->status.device_id, target->device_id, 16);
	memcpy(session->service_data, target->service_data, ADVERT_LEN);
	util_uuid_text(target->device_id, session->device);
	flow_init(&session->flow, credits);
	loop_timer_init(loop, &session->idle_timer, on_idle, session);
	loop_timer_init(loop, &session->limit_timer, on_limit, session);
	loop_timer_init(loop, &session->resume_timer, on_resume_timer, session);
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

static void on_data(struct session *session, const struct message_data *data)
{
	int r;

	if (session->status.state != SESSION_STATE_OPEN)
		return;
	if (data->channel >= session->status.channels) {
		session_end(session, MESSAGE_CLOSE_PROTOCOL, "DATA for a channel that is not open");
		return;
	}
	if (data->len == 0 || data->len > session->status.max_frame) {
		session_end(session, MESSAGE_CLOSE_PROTOCOL,
			    data->len ? "DATA over max_frame" : "DATA without a frame");
		return;
	}
	r = flow_push_down(&session->flow, data->channel, data->seq, data->payload, data->len);
	if (r < 0)
		session_end(session, MESSAGE_CLOSE_PROTOCOL, "DATA out of order or without credit");
	else
		pump_down(session);
}

static void on_credit(struct session *session, const struct message_credit *credit)
{
	if (flow_credit(&session->flow, credit->credits, credit->next_seq) < 0)
		session_end(session, MESSAGE_CLOSE_PROTOCOL, "CREDIT for frames never sent");
	hold(session);
	session->owner->want_write(session->owner->userdata);
}

static void on_close(struct session *session, const struct message_close *close)
{
	char reason[sizeof(session->reason) + 64];
	size_t up, down;

	session->close_due = session->draining = false;
	flow_get_waiting(&session->flow, &up, &down);
	if (session->status.state == SESSION_STATE_OPEN) {
		session->status.failed =
			close->code != MESSAGE_CLOSE_DONE && close->code != MESSAGE_CLOSE_IDLE;
		snprintf(reason, sizeof(reason), "closed by the cloud (%u)%s%s", close->code,
			 *close->reason ? ": " : "", close->reason);
		start_ending(session, reason);
		if (close->code == MESSAGE_CLOSE_DONE && down + session->status.frames_down > 0) {
			session->flushing = true;
			loop_timer_start(&session->limit_timer, FLUSH_MS);
			pump_down(session);
		} else {
			let_go(session);
		}
	}
	check_ended(session);
}

void session_message(struct session *session, const struct message *message)
{
	switch (message->type) {
	case MESSAGE_ACCEPT:
		session->status.accepted = true;
		break;
	case MESSAGE_DATA:
		session->status.accepted = true;
		on_data(session, &message->data);
		break;
	case MESSAGE_CREDIT:
		session->status.accepted = true;
		on_credit(session, &message->credit);
		break;
	case MESSAGE_CLOSE:
		on_close(session, &message->close);
		break;
	case MESSAGE_CHALLENGE:
	case MESSAGE_HELLO:
	case MESSAGE_WELCOME:
	case MESSAGE_SIGHTINGS:
	case MESSAGE_SIGHTINGS_ACK:
	case MESSAGE_OPEN:
	case MESSAGE_STATS:
	case MESSAGE_GOAWAY:
		break;
	}
}

static size_t encode_open(const struct session *session, uint8_t *buf, size_t size)
{
	const struct message_open open = {
		.session = session->status.id,
		.device_id = session->status.device_id,
		.service_data = session->service_data,
		.service_data_len = sizeof(session->service_data),
		.bearer = session->status.bearer,
		.max_frame = session->status.max_frame,
		.rssi = session->status.rssi_dbm,
		.channels = session->status.channels,
	};

	return message_encode_open(&open, buf, size);
}

static size_t encode_data(struct session *session, const struct flow_frame *frame, uint64_t seq,
			  uint8_t *buf, size_t size)
{
	const struct message_data data = {
		.session = session->status.id,
		.channel = frame->channel,
		.seq = seq,
		.payload = frame->data,
		.len = frame->len,
	};
	size_t len = message_encode_data(&data, buf, size);

	if (flow_sent_up(&session->flow)) {
		session->status.frames_up++;
		session->status.bytes_up += frame->len;
	}
	moved(session);
	return len;
}

static size_t encode_credit(struct session *session, uint8_t *buf, size_t size)
{
	struct message_credit credit = {.session = session->status.id};

	flow_grant(&session->flow, &credit.credits, &credit.next_seq);
	return message_encode_credit(&credit, buf, size);
}

static size_t encode_close(struct session *session, uint8_t *buf, size_t size)
{
	struct message_close close = {.session = session->status.id, .code = session->code};

	memcpy(close.reason, session->reason, sizeof(close.reason));
	session->close_due = session->draining = false;
	check_ended(session);
	return message_encode_close(&close, buf, size);
}

size_t session_next_message(struct session *session, uint8_t *buf, size_t size)
{
	bool open = session->status.state == SESSION_STATE_OPEN;
	const struct flow_frame *frame;
	uint64_t seq;

	if (session->open_due) {
		session->open_due = false;
		session->opened = true;
		return encode_open(session, buf, size);
	}
	if ((open || session->draining) && (frame = flow_next_up(&session->flow, &seq)))
		return encode_data(session, frame, seq, buf, size);
	if (open && flow_grant_due(&session->flow))
		return encode_credit(session, buf, size);
	if (session->close_due && !(session->draining && !flow_all_sent(&session->flow)))
		return encode_close(session, buf, size);
	return 0;
}

/* --- Without an uplink --- */

void session_suspend(struct session *session, uint64_t window_ms)
{
	if (session->status.state == SESSION_STATE_ENDED)
		return;
	if (window_ms == 0) {
		lose_cloud(session, "the uplink is down");
		return;
	}
	session->status.suspended = true;
	session->wanted = false;
	session->window_ms = window_ms;
	loop_timer_stop(&session->idle_timer);
	if (session->draining)
		loop_timer_stop(&session->limit_timer);
	session->status.expires_ms = util_now_ms() + window_ms;
	loop_timer_start(&session->resume_timer, window_ms);
}

/* Whether the cloud may have a half of it. */
static bool is_shared(const struct session *session)
{
	return session->opened &&
	       (session->status.state == SESSION_STATE_OPEN || session->close_due);
}

bool session_want(struct session *session, struct message_resume *ret)
{
	if (!is_shared(session))
		return false;
	session->wanted = true;
	ret->session = session->status.id;
	flow_want(&session->flow, &ret->credits, &ret->next_seq);
	return true;
}

/* The cloud has answered nothing, so it may never have heard of it. */
static void open_again(struct session *session, uint32_t *next_id)
{
	log_debug("session %u: opened again as %u", session->status.id, *next_id);
	session->status.id = (*next_id)++;
	session->opened = false;
	session->open_due = true;
}

void session_resume(struct session *session, const struct message_resume *wanted, uint32_t *next_id,
		    uint32_t credits)
{
	if (!session->status.suspended || session->status.state == SESSION_STATE_ENDED)
		return;
	session->status.suspended = session->wanted = false;
	loop_timer_stop(&session->resume_timer);
	moved(session);
	if (session->draining)
		loop_timer_start(&session->limit_timer, DRAIN_MS);
	if (is_shared(session) && wanted) {
		session->status.resumed++;
		session->status.accepted = true;
		log_event(LOG_LEVEL_INFO, LOG_EVENT_SESSION, "session %u with %s: goes on",
			  session->status.id, session->device);
		if (flow_resume(&session->flow, wanted->credits, wanted->next_seq) < 0)
			session_end(session, MESSAGE_CLOSE_PROTOCOL,
				    "the cloud wants frames it cannot want");
	} else if (is_shared(session) && session->status.accepted) {
		lose_cloud(session, "the cloud does not have the session any more");
		return;
	} else {
		if (is_shared(session))
			open_again(session, next_id);
		flow_restart(&session->flow, credits);
	}
	hold(session);
	session->owner->want_write(session->owner->userdata);
}

void session_get_status(const struct session *session, struct session_status *ret)
{
	*ret = session->status;
	ret->reason = session->reason;
	flow_get_waiting(&session->flow, &ret->waiting_up, &ret->waiting_down);
}
