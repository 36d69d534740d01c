/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud's end of the relay's bench: connections to an agent, or to socat. Blocking, and with no
 * more checks than are needed to notice a bug.
 */
#pragma once

#include <openssl/ssl.h>

#include "frames.h"

struct connection {
	int fd; /* owned */
	SSL *ssl; /* owned; NULL: without TLS */
	uint8_t buf[65536]; /* what was read and not yet used: from at to end */
	size_t at, end;
};

/* Message types of uplink/PROTOCOL.md. */
enum wire_type {
	WIRE_CHALLENGE = 1,
	WIRE_HELLO = 2,
	WIRE_WELCOME = 3,
	WIRE_SIGHTINGS = 10,
	WIRE_SIGHTINGS_ACK = 11,
	WIRE_OPEN = 20,
	WIRE_ACCEPT = 21,
	WIRE_DATA = 22,
	WIRE_CREDIT = 23,
	WIRE_CLOSE = 24,
};

struct wire_message {
	enum wire_type type;
	uint64_t fields[3]; /* the first ones, where they are numbers */
	const uint8_t *payload; /* of DATA, until the next read */
};

/* Prints and ends the program. */
void wire_fail(const char *what) __attribute__((noreturn));
void wire_accept(struct connection *connection, int listener, SSL_CTX *tls);
/* Whether a read needs no wait for the network. */
bool wire_has_more(const struct connection *connection);
/* The next len bytes, until the next read. */
const uint8_t *wire_read(struct connection *connection, size_t len);
void wire_write(struct connection *connection, const void *data, size_t len);

/* The upgrade to WebSocket, and the handshake: whatever HELLO says is believed. */
void wire_welcome(struct connection *connection, unsigned credits);
/* The next message; what is not the caller's is answered. */
struct wire_message wire_receive(struct connection *connection);
/* type, the session and two numbers more, or as many as the type has. */
void wire_send(struct connection *connection, enum wire_type type, uint64_t session, uint64_t b,
	       uint64_t c);
void wire_send_data(struct connection *connection, uint64_t session, uint64_t seq,
		    const struct frame *frame);
