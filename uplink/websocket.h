/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebSocket client (RFC 6455) over TLS, one connection at a time, on libwebsockets. Messages go
 * out when the socket takes them: it asks for the next one, so nothing queues up in here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uplink/failure.h"

struct loop;
struct pin;
struct websocket;

#define WEBSOCKET_TX_MAX       16384 /* bytes of the longest message sent */
#define WEBSOCKET_REASON       400 /* bytes of a reason, NUL included */
#define WEBSOCKET_NO_HANDSHAKE 1006 /* ended without a close frame: RFC 6455, section 7.4.1 */

/* How far a connection has come. */
enum websocket_step {
	WEBSOCKET_STEP_TCP,
	WEBSOCKET_STEP_TLS, /* behind a proxy with its CONNECT (RFC 9110, section 9.3.6) */
	WEBSOCKET_STEP_UPGRADE,
	WEBSOCKET_STEP_OPEN,
};

/* How a connection ended. Valid during the callback. */
struct websocket_end {
	enum websocket_step step; /* reached */
	bool by_peer; /* the other side sent the code */
	unsigned code; /* the WebSocket close code, WEBSOCKET_NO_HANDSHAKE where none came */
	const char *reason;
	enum failure_cause cause; /* of the reason */
	unsigned http_status; /* of an upgrade that was refused, 0 for none */
	uint32_t retry_after_s; /* asked for with it (RFC 9110, section 10.2.3), 0 for nothing */
};

struct websocket_handler {
	/* It has come one step further; at WEBSOCKET_STEP_OPEN messages may go both ways. */
	void (*on_step)(void *userdata, enum websocket_step step);
	/* One whole binary message, valid during the callback. */
	void (*on_message)(void *userdata, const uint8_t *data, size_t len);
	/* A frame of any kind came. */
	void (*on_alive)(void *userdata, bool pong);
	/* Fills in the next message and returns its length, 0 for none. */
	size_t (*on_writable)(void *userdata, uint8_t *buf, size_t size);
	/* Exactly once for each connection begun, always from the loop. */
	void (*on_closed)(void *userdata, const struct websocket_end *end);
};

/* Strings and pins must outlive the object. */
struct websocket_config {
	const char *ca_file; /* PEM: all certificates a server may be verified against */
	const struct pin
		*pins; /* instead of ca_file, where there are any: keys the server may have */
	size_t n_pins;
	const char *certificate_file; /* PEM, for TLS client authentication; NULL for none */
	const char *key_file; /* PEM, its key */
	size_t max_message; /* longer ones and text close the connection with bad_message_code */
	unsigned bad_message_code;
};

struct websocket_target {
	const char *address; /* where to connect to, in numbers; of the proxy, if there is one */
	uint16_t port;
	bool proxy; /* it is an HTTP proxy that is asked for a tunnel to authority */
	const char *proxy_credentials; /* "user:password", NULL for none */
	const char *authority; /* host:port for the Host header; its host is what TLS verifies */
	const char *path;
	const char *subprotocol; /* the server must agree to it */
	const char *bearer_token; /* for the Authorization header (RFC 6750), NULL for none */
};

/* Returns 0 and an object for websocket_free, or -errno. handler is copied, userdata not owned. */
int websocket_new(struct loop *loop, const struct websocket_config *config,
		  const struct websocket_handler *handler, void *userdata, struct websocket **ret);
/* Drops the connection without a callback; not from within one. NULL is fine. */
void websocket_free(struct websocket *ws);

/* Begins a connection; on_step or on_closed follows. There must be none. target's strings are
 * copied. Has no deadline of its own. */
void websocket_connect(struct websocket *ws, const struct websocket_target *target);
/* Calls on_writable as soon as the socket takes a message. Nothing where not open. */
void websocket_want_write(struct websocket *ws);
void websocket_ping(struct websocket *ws);
/* Ends the connection: with a close frame if it is open and code is not 0, else at once. on_closed
 * follows in any case, within seconds, with this code and reason. The first call counts. */
void websocket_close(struct websocket *ws, unsigned code, const char *reason);
/* Until when the server's certificate is valid, Unix time; 0 where not known. */
int64_t websocket_certificate_end(const struct websocket *ws);
