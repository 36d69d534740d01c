/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebSocket client (RFC 6455) over TLS, one connection at a time, on libwebsockets. Messages go
 * out when the socket takes them: it asks for the next one, so nothing queues up in here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct websocket;

#define WEBSOCKET_TX_MAX       16384 /* bytes of the longest message sent */
#define WEBSOCKET_REASON       160 /* bytes of a reason, NUL included */
#define WEBSOCKET_NO_HANDSHAKE 1006 /* ended without a close frame: RFC 6455, section 7.4.1 */

struct websocket_handler {
	/* Upgraded: messages may go both ways. */
	void (*on_open)(void *userdata);
	/* One whole binary message, valid during the callback. */
	void (*on_message)(void *userdata, const uint8_t *data, size_t len);
	/* A frame of any kind came. */
	void (*on_alive)(void *userdata, bool pong);
	/* Fills in the next message and returns its length, 0 for none. */
	size_t (*on_writable)(void *userdata, uint8_t *buf, size_t size);
	/* Exactly once for each connection begun, always from the loop. code: the WebSocket close
	 * code, WEBSOCKET_NO_HANDSHAKE where none came. by_peer: the other side sent it. */
	void (*on_closed)(void *userdata, bool by_peer, unsigned code, const char *reason);
};

struct websocket_target {
	const char *address; /* where to connect to, in numbers */
	uint16_t port;
	const char *authority; /* host:port for the Host header; its host is what TLS verifies */
	const char *path;
	const char *subprotocol; /* the server must agree to it */
};

struct websocket_counters {
	uint64_t messages_out, messages_in;
	uint64_t bytes_out, bytes_in; /* of messages, without framing and TLS */
};

/* ca_file: PEM, all certificates a server may be verified against. max_message: longer ones and
 * text close the connection with bad_message_code. Returns 0 and an object for websocket_free, or
 * -errno. handler is copied, userdata not owned. */
int websocket_new(struct loop *loop, const char *ca_file, size_t max_message,
		  unsigned bad_message_code, const struct websocket_handler *handler,
		  void *userdata, struct websocket **ret);
/* Drops the connection without a callback. NULL is fine. */
void websocket_free(struct websocket *ws);

/* Begins a connection; on_open or on_closed follows. There must be none. target's strings are
 * copied. Has no deadline of its own. */
void websocket_connect(struct websocket *ws, const struct websocket_target *target);
/* Calls on_writable as soon as the socket takes a message. Nothing where not open. */
void websocket_want_write(struct websocket *ws);
void websocket_ping(struct websocket *ws);
/* Ends the connection: with a close frame if it is open and code is not 0, else at once. on_closed
 * follows in any case, within seconds, with this code and reason. The first call counts. */
void websocket_close(struct websocket *ws, unsigned code, const char *reason);
void websocket_get_counters(const struct websocket *ws, struct websocket_counters *ret);
