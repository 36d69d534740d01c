/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/websocket.h"

#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/loop.h"
#include "agent/util.h"
#include "uplink/diagnosis.h"
#include "uplink/server.h"
#include "uplink/target.h"
#include "uplink/tls.h"

#define CLOSE_DEADLINE_MS 3000 /* for the close handshake (RFC 6455, section 7.1.1) */
#define WRITES_PER_TURN	  16
#define PROXY_TEXT	  256 /* credentials and address of a proxy */
#define DIAGNOSIS_MS	  5000
#define PROXIED_HOST_MAX  90 /* libwebsockets 4.1 has no room for more in its CONNECT */
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
	struct websocket_config config;
	struct websocket_handler handler;
	void *userdata; /* not owned */

	enum websocket_state state;
	bool ping_due;
	struct websocket_target target; /* owned, with what it points to */
	struct websocket_end end;
	bool settled; /* end is */
	char reason[WEBSOCKET_REASON];
	struct loop_timer closed_timer; /* on_closed, outside of libwebsockets' calls */
	struct loop_timer deadline_timer;
	struct loop_fd tcp_watch; /* until TCP is connected */
	int tcp_fd; /* owned, -1 for none: a duplicate of libwebsockets' socket */
	struct diagnosis *diagnosis; /* NULL while none runs */
	int64_t certificate_end;

	uint8_t *rx; /* the beginning of a message that comes in pieces */
	size_t rx_len;
	uint8_t tx[LWS_PRE + WEBSOCKET_TX_MAX];
};

static void settle(struct websocket *ws, bool by_peer, unsigned code, const char *reason,
		   size_t len)
{
	if (ws->settled)
		return;
	ws->settled = true;
	ws->end.by_peer = by_peer;
	ws->end.code = code;
	snprintf(ws->reason, sizeof(ws->reason), "%.*s", (int)MIN(len, sizeof(ws->reason) - 1),
		 reason);
}

static void settle_text(struct websocket *ws, const char *reason)
{
	settle(ws, false, WEBSOCKET_NO_HANDSHAKE, reason, strlen(reason));
}

static void settle_cause(struct websocket *ws, enum failure_cause cause, const char *reason)
{
	if (!ws->settled)
		ws->end.cause = cause;
	settle_text(ws, reason);
}

static void forget_tcp(struct websocket *ws)
{
	loop_fd_remove(&ws->tcp_watch);
	util_closep(&ws->tcp_fd);
	ws->tcp_fd = -1;
}

static void closed(struct websocket *ws)
{
	if (ws->state == STATE_IDLE || ws->state == STATE_CLOSED)
		return;
	settle(ws, true, WEBSOCKET_NO_HANDSHAKE, "connection lost", strlen("connection lost"));
	ws->state = STATE_CLOSED;
	ws->wsi = NULL;
	forget_tcp(ws);
	target_done(&ws->target);
	diagnosis_cancel(TAKE_PTR(ws->diagnosis));
	free(TAKE_PTR(ws->rx));
	ws->rx_len = 0;
	loop_timer_stop(&ws->deadline_timer);
	loop_timer_start(&ws->closed_timer, 0);
}

static void came_to(struct websocket *ws, enum websocket_step step)
{
	if (step <= ws->end.step)
		return;
	ws->end.step = step;
	forget_tcp(ws);
	ws->handler.on_step(ws->userdata, step);
}

static void on_closed_timer(void *userdata)
{
	struct websocket *ws = userdata;

	ws->state = STATE_IDLE;
	ws->end.reason = ws->reason;
	ws->handler.on_closed(ws->userdata, &ws->end);
}

/* libwebsockets drops the socket; what it still says of it no longer reaches us. when:
 * LWS_TO_KILL_ASYNC for soon, LWS_TO_KILL_SYNC for at once, not from within its callbacks. */
static void abandon(struct websocket *ws, int when)
{
	if (!ws->wsi)
		return;
	lws_set_opaque_user_data(ws->wsi, NULL);
	lws_set_timeout(ws->wsi, PENDING_TIMEOUT_USER_OK, when);
	ws->wsi = NULL;
}

static void on_deadline(void *userdata)
{
	struct websocket *ws = userdata;

	abandon(ws, LWS_TO_KILL_ASYNC);
	closed(ws);
}

static void on_diagnosed(void *userdata, const char *text)
{
	struct websocket *ws = userdata;

	if (*text) {
		/* A server that ends it at once is not seen to be connected. */
		ws->end.step = MAX(ws->end.step, diagnosis_step(ws->diagnosis));
		settle_cause(ws, diagnosis_cause(ws->diagnosis), text);
	} else {
		settle_text(ws, ws->end.step == WEBSOCKET_STEP_TCP
					? "the connection was lost before it was open"
					: "the server ended the connection before it was open");
	}
	closed(ws);
}

/* The connection could not be made, and libwebsockets hardly says why. */
static void failed(struct websocket *ws, struct lws *wsi, const char *cause)
{
	char reason[WEBSOCKET_REASON];

	ws->wsi = NULL;
	forget_tcp(ws);
	if (ws->state != STATE_CONNECTING)
		return;
	if (wsi && ws->end.step == WEBSOCKET_STEP_UPGRADE && !ws->settled &&
	    server_refused(wsi, cause, &ws->end, reason))
		settle_text(ws, reason);
	if (!ws->settled && diagnosis_start(ws->loop, &ws->config, &ws->target, DIAGNOSIS_MS,
					    on_diagnosed, ws, &ws->diagnosis) == 0)
		return;
	settle_text(ws, cause ? cause : "no connection");
	closed(ws);
}

static void receive(struct websocket *ws, const uint8_t *data, size_t len)
{
	bool final = lws_is_final_fragment(ws->wsi) && lws_remaining_packet_payload(ws->wsi) == 0;
	uint8_t *rx;

	if (!lws_frame_is_binary(ws->wsi)) {
		websocket_close(ws, ws->config.bad_message_code, "a text message");
		return;
	}
	if (len > ws->config.max_message - ws->rx_len) {
		websocket_close(ws, ws->config.bad_message_code, "a message over the size limit");
		return;
	}
	if (final && ws->rx_len == 0) {
		ws->handler.on_message(ws->userdata, data, len);
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
	ws->handler.on_message(ws->userdata, rx, len);
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
	lws_close_reason(ws->wsi, (enum lws_close_status)ws->end.code, (uint8_t *)ws->reason,
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

static int add_token(struct websocket *ws, struct lws *wsi, uint8_t **p, size_t len)
{
	static const char scheme[] = "Bearer ";
	const char *token = ws->target.bearer_token;
	size_t token_len = token ? strlen(token) : 0;
	_cleanup_free_ char *value = NULL;
	int r;

	if (token_len == 0)
		return 0;
	if (asprintf(&value, "%s%s", scheme, token) < 0) {
		value = NULL;
		return -1;
	}
	r = lws_add_http_header_by_token(wsi, WSI_TOKEN_HTTP_AUTHORIZATION, (uint8_t *)value,
					 (int)strlen(value), p, *p + len);
	explicit_bzero(value, strlen(value));
	if (r != 0)
		settle_text(ws, "the token is too long for libwebsockets");
	return r != 0 ? -1 : 0;
}

/* The upgrade request is about to be sent. */
static int on_request(struct websocket *ws, struct lws *wsi, uint8_t **p, size_t len)
{
	char reason[WEBSOCKET_REASON] = "";

	if (ws->settled)
		return -1;
	ws->certificate_end = server_certificate_end(wsi);
	if (tls_check_server(wsi, &ws->config, &ws->target, reason) < 0) {
		/* What else is wrong is found by diagnosis. */
		if (*reason)
			settle_cause(ws, FAILURE_PIN, reason);
		return -1;
	}
	came_to(ws, WEBSOCKET_STEP_UPGRADE);
	return add_token(ws, wsi, p, len);
}

/* Returns -1 where the server did not take up the subprotocol. */
static int check_subprotocol(struct websocket *ws, struct lws *wsi)
{
	if (lws_hdr_total_length(wsi, WSI_TOKEN_PROTOCOL) > 0)
		return 0;
	settle_cause(ws, FAILURE_SUBPROTOCOL, "the server does not speak the subprotocol");
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
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		return on_request(ws, wsi, in, len);
	case LWS_CALLBACK_CLIENT_FILTER_PRE_ESTABLISH:
		return check_subprotocol(ws, wsi);
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		ws->state = STATE_OPEN;
		came_to(ws, WEBSOCKET_STEP_OPEN);
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
		failed(ws, wsi, in);
		return 0;
	case LWS_CALLBACK_CLIENT_CLOSED:
	case LWS_CALLBACK_WSI_DESTROY:
		/* Sometimes without a word: a server that resets TLS in the middle. */
		if (ws->wsi == wsi && ws->state == STATE_CONNECTING)
			failed(ws, NULL, NULL);
		else if (ws->wsi == wsi)
			closed(ws);
		return 0;
	}
	return 0;
}

static const struct lws_protocols protocols[] = {
	{.name = "websocket", .callback = on_lws, .rx_buffer_size = RX_CHUNK},
	{0},
};

int websocket_new(struct loop *loop, const struct websocket_config *config,
		  const struct websocket_handler *handler, void *userdata, struct websocket **ret)
{
	struct websocket *ws = calloc(1, sizeof(*ws));
	int r;

	if (!ws)
		return -ENOMEM;
	r = tls_vhost_new(loop_lws(loop), config, protocols, &ws->vhost);
	if (r < 0) {
		free(ws);
		return r;
	}
	ws->loop = loop;
	ws->config = *config;
	ws->handler = *handler;
	ws->userdata = userdata;
	ws->tcp_fd = -1;
	loop_timer_init(loop, &ws->closed_timer, on_closed_timer, ws);
	loop_timer_init(loop, &ws->deadline_timer, on_deadline, ws);
	*ret = ws;
	return 0;
}

void websocket_free(struct websocket *ws)
{
	if (!ws)
		return;
	loop_timer_stop(&ws->closed_timer);
	loop_timer_stop(&ws->deadline_timer);
	diagnosis_cancel(ws->diagnosis);
	forget_tcp(ws);
	target_done(&ws->target);
	/* At once, or the vhost would go later, and what comes after it would share its TLS context:
	 * libwebsockets tells these apart by the names of the files, whatever is in them by now. */
	abandon(ws, LWS_TO_KILL_SYNC);
	lws_vhost_destroy(ws->vhost);
	free(ws->rx);
	free(ws);
}

static void on_tcp(void *userdata, uint32_t revents)
{
	struct websocket *ws = userdata;
	socklen_t len = sizeof(struct tcp_info);
	struct tcp_info info = {0};

	(void)revents;
	/* Not SO_ERROR, which is told once: libwebsockets asks for it too. */
	if (getsockopt(ws->tcp_fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	    info.tcpi_state == TCP_ESTABLISHED)
		came_to(ws, WEBSOCKET_STEP_TLS);
	else
		forget_tcp(ws);
}

/* libwebsockets does not tell when TCP is connected. */
static void watch_tcp(struct websocket *ws)
{
	ws->tcp_fd = fcntl(lws_get_socket_fd(ws->wsi), F_DUPFD_CLOEXEC, 0);
	if (ws->tcp_fd >= 0 &&
	    loop_fd_add(ws->loop, &ws->tcp_watch, ws->tcp_fd, EPOLLOUT, on_tcp, ws) < 0)
		forget_tcp(ws);
}

/* The vhost keeps it from one connection to the next. */
static int set_proxy(struct websocket *ws, const struct websocket_target *target)
{
	char text[PROXY_TEXT];
	bool v6 = strchr(target->address, ':') != NULL;
	int r;

	/* Port 0: none. */
	if (!target->proxy)
		return lws_set_proxy(ws->vhost, ":0");
	snprintf(text, sizeof(text), "%s%s%s%s%s:%u",
		 target->proxy_credentials ? target->proxy_credentials : "",
		 target->proxy_credentials ? "@" : "", v6 ? "[" : "", target->address,
		 v6 ? "]" : "", target->port);
	r = lws_set_proxy(ws->vhost, text);
	explicit_bzero(text, sizeof(text));
	return r;
}

static void begin(struct websocket *ws, const struct websocket_target *target)
{
	char host[PROXIED_HOST_MAX + 1];
	struct lws_client_connect_info info = {
		.context = loop_lws(ws->loop),
		.vhost = ws->vhost,
		.address = target->address,
		.port = target->port,
		.ssl_connection = (int)tls_flags(&ws->config, target),
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

	if (target->proxy) {
		info.port = target_host(target, host, sizeof(host));
		info.address = host;
	}
	/* Mostly it has said so in a callback already. */
	if (!lws_client_connect_via_info(&info)) {
		if (ws->state == STATE_CONNECTING && !ws->diagnosis)
			failed(ws, NULL, NULL);
	} else if (ws->wsi && ws->end.step == WEBSOCKET_STEP_TCP) {
		watch_tcp(ws);
	}
}

void websocket_connect(struct websocket *ws, const struct websocket_target *target)
{
	const char *error = NULL;

	ws->state = STATE_CONNECTING;
	ws->settled = false;
	ws->end = (struct websocket_end){0};
	ws->ping_due = false;
	ws->certificate_end = 0;
	if (target_copy(target, &ws->target) < 0)
		error = "out of memory";
	else if (target->proxy && strlen(target->authority) > PROXIED_HOST_MAX)
		error = "the host's name is too long to ask a proxy for it";
	else if (set_proxy(ws, target) != 0)
		error = "libwebsockets refuses the proxy";
	if (!error) {
		begin(ws, target);
		return;
	}
	settle_text(ws, error);
	closed(ws);
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
	abandon(ws, LWS_TO_KILL_ASYNC);
	closed(ws);
}

int64_t websocket_certificate_end(const struct websocket *ws)
{
	return ws->certificate_end;
}
