/* SPDX-License-Identifier: Apache-2.0 */
/* uplink/websocket.h over the simulated network: the client's end of a connection. */
#include "uplink/websocket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_conn.h"
#include "tests/sim/sim_loop.h"

#define SOCKET_BYTES	  32768 /* on their way, until the socket takes no more */
#define CLOSE_DEADLINE_MS 3000 /* as websocket.c's */
#define STALL_POLL_MS	  100

enum state { STATE_IDLE, STATE_CONNECTING, STATE_OPEN, STATE_CLOSING, STATE_CLOSED };

struct websocket {
	struct sim_net *net; /* not owned */
	struct websocket_handler handler;
	void *userdata; /* not owned */
	size_t max_message;
	unsigned bad_message_code;
	enum state state;
	struct sim_host *host; /* not owned; NULL for an address where nobody is */
	struct sim_conn *conn; /* while open or closing */
	bool settled; /* end says how it ends */
	struct websocket_end end;
	char reason[WEBSOCKET_REASON];
	struct loop_timer step_timer;
	struct loop_timer write_timer;
	struct loop_timer closed_timer;
	struct loop_timer deadline_timer; /* of closing */
};

static void settle(struct websocket *ws, bool by_peer, unsigned code, const char *reason)
{
	if (ws->settled)
		return;
	ws->settled = true;
	snprintf(ws->reason, sizeof(ws->reason), "%s", reason);
	ws->end.by_peer = by_peer;
	ws->end.code = code;
	ws->end.reason = ws->reason;
}

/* The connection is over; reset: the server does not know. */
static void closed(struct websocket *ws, bool reset)
{
	if (ws->state == STATE_IDLE || ws->state == STATE_CLOSED)
		return;
	ws->state = STATE_CLOSED;
	loop_timer_stop(&ws->step_timer);
	loop_timer_stop(&ws->write_timer);
	loop_timer_stop(&ws->deadline_timer);
	if (ws->conn)
		sim_conn_leave(TAKE_PTR(ws->conn), reset);
	loop_timer_start(&ws->closed_timer, 0);
}

static void on_closed_timer(void *userdata)
{
	struct websocket *ws = userdata;

	ws->state = STATE_IDLE;
	ws->handler.on_closed(ws->userdata, &ws->end);
}

static void fail(struct websocket *ws, const char *reason)
{
	settle(ws, false, WEBSOCKET_NO_HANDSHAKE, reason);
	closed(ws, true);
}

/* --- Connecting --- */

static bool tcp_is_refused(struct websocket *ws)
{
	if (ws->host)
		ws->host->attempts++;
	if (ws->host && ws->host->on_attempt)
		ws->host->on_attempt(ws->host->userdata, false);
	if (ws->host && !ws->host->down)
		return false;
	ws->net->refused++;
	fail(ws, "Connection refused");
	return true;
}

static bool certificate_is_refused(struct websocket *ws)
{
	if (!ws->net->clock_unset)
		return false;
	ws->net->not_valid_yet++;
	fail(ws, "the server's certificate is not valid yet");
	return true;
}

static bool upgrade_is_refused(struct websocket *ws)
{
	char reason[64];

	if (ws->host->down) {
		fail(ws, "Connection reset by peer");
		return true;
	}
	if (ws->host->http_status == 0)
		return false;
	ws->net->http_refused++;
	ws->end.http_status = ws->host->http_status;
	ws->end.retry_after_s = ws->host->retry_after_s;
	snprintf(reason, sizeof(reason), "the server answers HTTP %u", ws->host->http_status);
	fail(ws, reason);
	return true;
}

static void establish(struct websocket *ws)
{
	ws->state = STATE_OPEN;
	ws->host->opened++;
	if (ws->host->on_attempt)
		ws->host->on_attempt(ws->host->userdata, true);
	ws->conn = sim_conn_new(ws->net, ws->host, ws);
	ws->handler.on_step(ws->userdata, WEBSOCKET_STEP_OPEN);
}

static void start_step(struct websocket *ws)
{
	loop_timer_start(&ws->step_timer, sim_net_latency(ws->net) + sim_net_latency(ws->net));
}

/* A round trip is over. */
static void on_step_timer(void *userdata)
{
	struct websocket *ws = userdata;
	static bool (*const refused[])(struct websocket * ws) = {
		[WEBSOCKET_STEP_TCP] = tcp_is_refused,
		[WEBSOCKET_STEP_TLS] = certificate_is_refused,
		[WEBSOCKET_STEP_UPGRADE] = upgrade_is_refused,
	};

	if (ws->net->stalled) {
		loop_timer_start(&ws->step_timer, STALL_POLL_MS);
		return;
	}
	if (refused[ws->end.step](ws))
		return;
	ws->end.step++;
	if (ws->end.step == WEBSOCKET_STEP_OPEN) {
		establish(ws);
		return;
	}
	start_step(ws);
	ws->handler.on_step(ws->userdata, ws->end.step);
}

void websocket_connect(struct websocket *ws, const struct websocket_target *target)
{
	/* It would go wrong in a way hard to understand. */
	if (ws->state != STATE_IDLE)
		abort();
	ws->state = STATE_CONNECTING;
	ws->settled = false;
	ws->end = (struct websocket_end){.step = WEBSOCKET_STEP_TCP};
	ws->host = sim_net_find(ws->net, target->address);
	start_step(ws);
}

/* --- Messages --- */

static void on_write_timer(void *userdata)
{
	struct websocket *ws = userdata;
	uint8_t buf[WEBSOCKET_TX_MAX];
	size_t len;

	while (ws->state == STATE_OPEN && ws->conn->up.bytes < SOCKET_BYTES) {
		len = ws->handler.on_writable(ws->userdata, buf, sizeof(buf));
		if (len == 0 || ws->state != STATE_OPEN)
			return;
		sim_conn_push(&ws->conn->up, SIM_PACKET_MESSAGE, 0, buf, len);
	}
}

void websocket_want_write(struct websocket *ws)
{
	if (ws->state == STATE_OPEN && !ws->write_timer.armed)
		loop_timer_start(&ws->write_timer, 0);
}

void sim_websocket_room(struct websocket *ws)
{
	websocket_want_write(ws);
}

static void receive_message(struct websocket *ws, const struct sim_packet *packet)
{
	ws->handler.on_alive(ws->userdata, false);
	if (ws->state != STATE_OPEN)
		return;
	ws->net->evil += packet->kind == SIM_PACKET_EVIL;
	if (packet->len > ws->max_message)
		websocket_close(ws, ws->bad_message_code, "a message over the size limit");
	else
		ws->handler.on_message(ws->userdata, packet->data, packet->len);
}

void sim_websocket_receive(struct websocket *ws, const struct sim_packet *packet)
{
	char reason[WEBSOCKET_REASON];

	switch (packet->kind) {
	case SIM_PACKET_MESSAGE:
	case SIM_PACKET_EVIL:
		if (ws->state == STATE_OPEN)
			receive_message(ws, packet);
		break;
	case SIM_PACKET_PONG:
		ws->handler.on_alive(ws->userdata, true);
		break;
	case SIM_PACKET_PING:
		break;
	case SIM_PACKET_CLOSE:
		snprintf(reason, sizeof(reason), "%.*s", (int)packet->len,
			 (const char *)packet->data);
		settle(ws, true, packet->code, reason);
		closed(ws, false);
		break;
	case SIM_PACKET_RESET:
		/* As websocket.c has it: the other side may be gone. */
		settle(ws, true, WEBSOCKET_NO_HANDSHAKE, "connection lost");
		closed(ws, true);
		break;
	}
}

void websocket_ping(struct websocket *ws)
{
	if (ws->state == STATE_OPEN)
		sim_conn_push(&ws->conn->up, SIM_PACKET_PING, 0, NULL, 0);
}

static void on_deadline(void *userdata)
{
	closed(userdata, true);
}

void websocket_close(struct websocket *ws, unsigned code, const char *reason)
{
	if (ws->state != STATE_CONNECTING && ws->state != STATE_OPEN)
		return;
	settle(ws, false, code ? code : WEBSOCKET_NO_HANDSHAKE, reason);
	if (ws->state == STATE_CONNECTING || code == 0) {
		closed(ws, true);
		return;
	}
	ws->state = STATE_CLOSING;
	sim_conn_push(&ws->conn->up, SIM_PACKET_CLOSE, code, reason, strlen(reason));
	loop_timer_start(&ws->deadline_timer, CLOSE_DEADLINE_MS);
}

int64_t websocket_certificate_end(const struct websocket *ws)
{
	(void)ws;
	return 0;
}

int websocket_new(struct loop *loop, const struct websocket_config *config,
		  const struct websocket_handler *handler, void *userdata, struct websocket **ret)
{
	struct websocket *ws = calloc(1, sizeof(*ws));

	if (!ws)
		return -ENOMEM;
	ws->net = loop->net;
	ws->handler = *handler;
	ws->userdata = userdata;
	ws->max_message = config->max_message;
	ws->bad_message_code = config->bad_message_code;
	loop_timer_init(loop, &ws->step_timer, on_step_timer, ws);
	loop_timer_init(loop, &ws->write_timer, on_write_timer, ws);
	loop_timer_init(loop, &ws->closed_timer, on_closed_timer, ws);
	loop_timer_init(loop, &ws->deadline_timer, on_deadline, ws);
	*ret = ws;
	return 0;
}

void websocket_free(struct websocket *ws)
{
	if (!ws)
		return;
	loop_timer_stop(&ws->step_timer);
	loop_timer_stop(&ws->write_timer);
	loop_timer_stop(&ws->closed_timer);
	loop_timer_stop(&ws->deadline_timer);
	if (ws->conn)
		sim_conn_leave(TAKE_PTR(ws->conn), true);
	free(ws);
}
