/* SPDX-License-Identifier: Apache-2.0 */
/* The cloud's side of a session: its messages, and life without an uplink. */
#include "agent/session.h"

#include <stdio.h>
#include <string.h>

#include "agent/log.h"
#include "agent/session_parts.h"

/* After the cloud has closed: for frames to the device that still wait. */
#define FLUSH_MS 5000

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
	if (session->status.timing.first_answer_ms == 0)
		session->status.timing.first_answer_ms = util_now_ms();
	r = flow_push_down(&session->flow, data->channel, data->seq, data->payload, data->len);
	if (r < 0)
		session_end(session, MESSAGE_CLOSE_PROTOCOL, "DATA out of order or without credit");
	else
		session_pump_down(session);
}

static void on_credit(struct session *session, const struct message_credit *credit)
{
	if (flow_credit(&session->flow, credit->credits, credit->next_seq) < 0)
		session_end(session, MESSAGE_CLOSE_PROTOCOL, "CREDIT for frames never sent");
	session_hold(session);
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
		session_start_ending(session, reason);
		if (close->code == MESSAGE_CLOSE_DONE && down + session->status.frames_down > 0) {
			session->flushing = true;
			loop_timer_start(&session->limit_timer, FLUSH_MS);
			session_pump_down(session);
		} else {
			session_let_go(session);
		}
	}
	session_check_ended(session);
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
	session_moved(session);
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
	session_check_ended(session);
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

/* The cloud does not have its half any more, and needs not be told. */
static void lose_cloud(struct session *session, const char *reason)
{
	session->close_due = session->draining = false;
	if (session->status.state < SESSION_STATE_ENDING) {
		session->status.broken = true;
		session_start_ending(session, reason);
	}
	session_let_go(session);
	session_check_ended(session);
}

/* The cloud that has just been told of it by HELLO goes on with it: it is to hear of the end too, or,
 * without a WELCOME, nobody is in another such time. */
void session_on_resume_timer(void *userdata)
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
	session_moved(session);
	if (session->draining)
		loop_timer_start(&session->limit_timer, SESSION_DRAIN_MS);
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
	session_hold(session);
	session->owner->want_write(session->owner->userdata);
}
