/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/websocket.h"

#include <errno.h>
#include <libwebsockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/loop.h"
#include "agent/lws_log.h"
#include "agent/util.h"
#include "uplink/probe.h"

#define CLOSE_DEADLINE_MS 3000 /* for the close handshake (RFC 6455, section 7.1.1) */
#define WRITES_PER_TURN	  16
#define RESOLVED_ADDRESS  64 /* bytes of an address in numbers, NUL included */
#define RX_CHUNK	  4096 /* what libwebsockets hands over at once */

enum websocket_state {
	STATE_IDLE,
	STATE_CONNECTING,
	STATE_OPEN,
	STATE_CLOSING, /* the close frame waits to be sent, or was */
	STATE_CLOSED, /* over, on_closed is due */
};

struct websocket {
	struct loop *loop; /* not owned */
	struct lws_vhost *vhost;
	struct lws *wsi; /* owned by libwebsockets, NULL while none */
	struct websocket_handler handler;
	void *userdata; /* not owned */
	size_t max_message;
	unsigned bad_message_code;

	enum websocket_state state;
	bool ping_due;
	bool by_peer;
	bool has_reason; /* code and reason are settled */
	unsigned code;
	char reason[WEBSOCKET_REASON];
	struct loop_timer closed_timer; /* on_closed, outside of libwebsockets' calls */
	struct loop_timer deadline_timer;
	struct probe probe; /* after a connection that failed without a word */
	char address[RESOLVED_ADDRESS];
	uint16_t port;

	uint8_t *rx; /* the beginning of a message that comes in pieces */
	size_t rx_len;
	struct websocket_counters counters;
	uint8_t tx[LWS_PRE + WEBSOCKET_TX_MAX];
};

static void settle(struct websocket *ws, bool by_peer, unsigned code, const char *reason,
		   size_t len)
{
	if (ws->has_reason)
		return;
	ws->has_reason = true;
	ws->by_peer = by_peer;
	ws->code = code;
	snprintf(ws->reason, sizeof(ws->reason), "%.*s", (int)MIN(len, sizeof(ws->reason) - 1),
		 reason);
}

static void settle_text(struct websocket *ws, const char *reason)
{
	settle(ws, false, WEBSOCKET_NO_HANDSHAKE, reason, strlen(reason));
}

static void closed(struct websocket *ws)
{
	if (ws->state == STATE_IDLE || ws->state == STATE_CLOSED)
		return;
	settle(ws, true, WEBSOCKET_NO_HANDSHAKE, "connection lost", strlen("connection lost"));
	ws->state = STATE_CLOSED;
	ws->wsi = NULL;
	free(TAKE_PTR(ws->rx));
	ws->rx_len = 0;
	loop_timer_stop(&ws->deadline_timer);
	loop_timer_start(&ws->closed_timer, 0);
}

static void on_closed_timer(void *userdata)
{
	struct websocket *ws = userdata;

	ws->state = STATE_IDLE;
	ws->handler.on_closed(ws->userdata, ws->by_peer, ws->code, ws->reason);
}

/* libwebsockets drops the socket soon; what it still says of it no longer reaches us. */
static void abandon(struct websocket *ws)
{
	if (!ws->wsi)
		return;
	lws_set_opaque_user_data(ws->wsi, NULL);
	lws_set_timeout(ws->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
	ws->wsi = NULL;
}

static void on_deadline(void *userdata)
{
	struct websocket *ws = userdata;

	abandon(ws);
	closed(ws);
}

static void on_probed(void *userdata, int error)
{
	struct websocket *ws = userdata;

	settle_text(ws,
		    error == 0 ? "the connection was lost before it was open" : strerror(error));
	closed(ws);
}

/* The connection could not be made, and libwebsockets says why in its log or not at all. */
static void failed(struct websocket *ws)
{
	const char *cause = lws_log_cause();

	ws->wsi = NULL;
	if (cause)
		settle_text(ws, cause);
	if (ws->has_reason)
		closed(ws);
	else
		probe_start(&ws->probe, ws->address, ws->port);
}

static void deliver(struct websocket *ws, const uint8_t *data, size_t len)
{
	ws->counters.messages_in++;
	ws->counters.bytes_in += len;
	ws->handler.on_message(ws->userdata, data, len);
}

static void receive(struct websocket *ws, const uint8_t *data, size_t len)
{
	bool final = lws_is_final_fragment(ws->wsi) && lws_remaining_packet_payload(ws->wsi) == 0;
	uint8_t *rx;

	if (!lws_frame_is_binary(ws->wsi)) {
		websocket_close(ws, ws->bad_message_code, "a text message");
		return;
	}
	if (len > ws->max_message - ws->rx_len) {
		websocket_close(ws, ws->bad_message_code, "a message over the size limit");
		return;
	}
	if (final && ws->rx_len == 0) {
		deliver(ws, data, len);
		return;
	}
	rx = realloc(ws->rx, ws->rx_len + len + 1);
	if (!rx) {
		websocket_close(ws, 0, "out of memory");
		return;
	}
	ws->rx = rx;
	if (len > 0)
		memcpy(ws->rx + ws->rx_len, data, len);
	ws->rx_len += len;
	if (!final)
		return;
	rx = TAKE_PTR(ws->rx);
	len = ws->rx_len;
	ws->rx_len = 0;
	deliver(ws, rx, len);
	free(rx);
}

/* Returns what libwebsockets wants of a callback: -1 to close. */
static int write_messages(struct websocket *ws)
{
	if (ws->ping_due) {
		ws->ping_due = false;
		if (lws_write(ws->wsi, ws->tx + LWS_PRE, 0, LWS_WRITE_PING) < 0)
			return -1;
		lws_callback_on_writable(ws->wsi);
		return 0;
	}
	for (int i = 0; i < WRITES_PER_TURN; i++) {
		size_t len =
			ws->handler.on_writable(ws->userdata, ws->tx + LWS_PRE, WEBSOCKET_TX_MAX);

		if (len == 0 || ws->state != STATE_OPEN)
			return 0;
		ws->counters.messages_out++;
		ws->counters.bytes_out += len;
		if (lws_write(ws->wsi, ws->tx + LWS_PRE, len, LWS_WRITE_BINARY) < (int)len)
			return -1;
		if (lws_send_pipe_choked(ws->wsi))
			break;
	}
	lws_callback_on_writable(ws->wsi);
	return 0;
}

static int writeable(struct websocket *ws)
{
	if (ws->state == STATE_OPEN)
		return write_messages(ws);
	if (ws->state != STATE_CLOSING)
		return 0;
	lws_close_reason(ws->wsi, (enum lws_close_status)ws->code, (uint8_t *)ws->reason,
			 MIN(strlen(ws->reason), (size_t)123)); /* RFC 6455, section 5.5 */
	return -1;
}

static void peer_closes(struct websocket *ws, const uint8_t *in, size_t len)
{
	if (len >= 2)
		settle(ws, true, (unsigned)in[0] << 8 | in[1], (const char *)in + 2, len - 2);
	else
		settle(ws, true, 1005, "", 0); /* no code: RFC 6455, section 7.4.1 */
}

/* Returns -1 where the server did not take up the subprotocol. */
static int check_subprotocol(struct websocket *ws, struct lws *wsi)
{
	if (lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) > 0)
		return 0;
	settle_text(ws, "the server does not speak the subprotocol");
	return -1;
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
		  size_t len)
{
	struct websocket *ws = lws_get_opaque_user_data(wsi);

	(void)user;
	if (!ws)
		return 0;
	switch ((int)reason) {
	case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
		return check_subprotocol(ws, wsi);
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		lws_log_cause();
		ws->state = STATE_OPEN;
		ws->handler.on_open(ws->userdata);
		return 0;
	case LWS_CALLBACK_CLIENT_RECEIVE:
		if (ws->state != STATE_OPEN)
			return 0;
		ws->handler.on_alive(ws->userdata, false);
		receive(ws, in, len);
		return 0;
	case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
		ws->handler.on_alive(ws->userdata, true);
		return 0;
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return writeable(ws);
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		peer_closes(ws, in, len);
		return 0;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		if (in)
			log_debug("libwebsockets: %.*s", (int)len, (const char *)in);
		failed(ws);
		return 0;
	case LWS_CALLBACK_CLIENT_CLOSED:
	case LWS_CALLBACK_WSI_DESTROY:
		if (ws->wsi == wsi)
			closed(ws);
		return 0;
	}
	return 0;
}

static const struct lws_protocols protocols[] = {
	{.name = "websocket", .callback = on_lws, .rx_buffer_size = RX_CHUNK},
	{0},
};

int websocket_new(struct loop *loop, const char *ca_file, size_t max_message,
		  unsigned bad_message_code, const struct websocket_handler *handler,
		  void *userdata, struct websocket **ret)
{
	const struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.vhost_name = "uplink",
		.protocols = protocols,
		.client_ssl_ca_filepath = ca_file,
		/* The configured file alone counts. */
		.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT |
			   LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS,
	};
	struct websocket *ws = calloc(1, sizeof(*ws));

	if (!ws)
		return -ENOMEM;
	ws->vhost = lws_create_vhost(loop_lws(loop), &info);
	if (!ws->vhost) {
		free(ws);
		return -EINVAL;
	}
	ws->loop = loop;
	ws->handler = *handler;
	ws->userdata = userdata;
	ws->max_message = max_message;
	ws->bad_message_code = bad_message_code;
	loop_timer_init(loop, &ws->closed_timer, on_closed_timer, ws);
	loop_timer_init(loop, &ws->deadline_timer, on_deadline, ws);
	probe_init(&ws->probe, loop, on_probed, ws);
	*ret = ws;
	return 0;
}

void websocket_free(struct websocket *ws)
{
	if (!ws)
		return;
	loop_timer_stop(&ws->closed_timer);
	loop_timer_stop(&ws->deadline_timer);
	probe_stop(&ws->probe);
	abandon(ws);
	lws_vhost_destroy(ws->vhost);
	free(ws->rx);
	free(ws);
}

void websocket_connect(struct websocket *ws, const struct websocket_target *target)
{
	const struct lws_client_connect_info info = {
		.context = loop_lws(ws->loop),
		.vhost = ws->vhost,
		.address = target->address,
		.port = target->port,
		.ssl_connection = LCCSCF_USE_SSL,
		.path = target->path,
		.host = target->authority,
		.origin = target->authority,
		.protocol = target->subprotocol,
		.local_protocol_name = protocols[0].name,
		.ietf_version_or_minus_one = -1,
		.alpn = "http/1.1",
		.pwsi = &ws->wsi,
		.opaque_user_data = ws,
	};

	ws->state = STATE_CONNECTING;
	ws->has_reason = false;
	ws->ping_due = false;
	snprintf(ws->address, sizeof(ws->address), "%s", target->address);
	ws->port = target->port;
	lws_log_watch();
	/* Mostly it has said so in a callback already. */
	if (!lws_client_connect_via_info(&info) && ws->state == STATE_CONNECTING &&
	    !ws->probe.timer.armed)
		failed(ws);
}

void websocket_want_write(struct websocket *ws)
{
	if (ws->state == STATE_OPEN)
		lws_callback_on_writable(ws->wsi);
}

void websocket_ping(struct websocket *ws)
{
	ws->ping_due = true;
	websocket_want_write(ws);
}

void websocket_close(struct websocket *ws, unsigned code, const char *reason)
{
	if (ws->state != STATE_CONNECTING && ws->state != STATE_OPEN)
		return;
	settle(ws, false, code ? code : WEBSOCKET_NO_HANDSHAKE, reason, strlen(reason));
	if (ws->state == STATE_OPEN && code != 0) {
		ws->state = STATE_CLOSING;
		loop_timer_start(&ws->deadline_timer, CLOSE_DEADLINE_MS);
		lws_callback_on_writable(ws->wsi);
		return;
	}
	lws_log_cause();
	probe_stop(&ws->probe);
	abandon(ws);
	closed(ws);
}

void websocket_get_counters(const struct websocket *ws, struct websocket_counters *ret)
{
	*ret = ws->counters;
}
