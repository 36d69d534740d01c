/* SPDX-License-Identifier: Apache-2.0 */
#include "wire.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/sha.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PATIENCE_S     20 /* longer than anything takes that is not lost */
#define WEBSOCKET_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

enum { OPCODE_BINARY = 2, OPCODE_PING = 9, OPCODE_PONG = 10 };

void wire_fail(const char *what)
{
	fprintf(stderr, "cloud: %s\n", what);
	exit(1);
}

/* --- Bytes --- */

void wire_accept(struct connection *connection, int listener, SSL_CTX *tls)
{
	struct pollfd waiting = {.fd = listener, .events = POLLIN};
	struct timeval patience = {.tv_sec = PATIENCE_S};
	int on = 1;

	connection->fd =
		poll(&waiting, 1, PATIENCE_S * 1000) > 0 ? accept(listener, NULL, NULL) : -1;
	if (connection->fd < 0)
		wire_fail("no connection");
	setsockopt(connection->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	connection->at = connection->end = 0;
	if (!tls)
		return;
	connection->ssl = SSL_new(tls);
	SSL_set_fd(connection->ssl, connection->fd);
	SSL_set_read_ahead(connection->ssl, 1);
	if (SSL_accept(connection->ssl) != 1)
		wire_fail("no TLS");
}

bool wire_has_more(const struct connection *connection)
{
	return connection->at < connection->end ||
	       (connection->ssl && SSL_has_pending(connection->ssl));
}

static void fill(struct connection *connection)
{
	uint8_t *at = connection->buf + connection->end;
	size_t room = sizeof(connection->buf) - connection->end;
	ssize_t n = connection->ssl ? SSL_read(connection->ssl, at, (int)room)
				    : recv(connection->fd, at, room, 0);

	if (n <= 0)
		wire_fail("what is in between is gone, or bytes are lost");
	connection->end += (size_t)n;
}

const uint8_t *wire_read(struct connection *connection, size_t len)
{
	size_t have = connection->end - connection->at;

	if (connection->at + len > sizeof(connection->buf)) {
		memmove(connection->buf, connection->buf + connection->at, have);
		connection->at = 0;
		connection->end = have;
	}
	while (connection->end - connection->at < len)
		fill(connection);
	connection->at += len;
	return connection->buf + connection->at - len;
}

void wire_write(struct connection *connection, const void *data, size_t len)
{
	ssize_t n = connection->ssl ? SSL_write(connection->ssl, data, (int)len)
				    : send(connection->fd, data, len, MSG_NOSIGNAL);

	if (n != (ssize_t)len)
		wire_fail("what is in between does not read");
}

/* --- WebSocket --- */

static void write_frame(struct connection *connection, unsigned opcode, const uint8_t *data,
			size_t len)
{
	uint8_t frame[4 + 512];
	size_t head = len < 126 ? 2 : 4;

	frame[0] = (uint8_t)(0x80 | opcode);
	frame[1] = (uint8_t)(len < 126 ? len : 126);
	if (head == 4) {
		frame[2] = (uint8_t)(len >> 8);
		frame[3] = (uint8_t)len;
	}
	memcpy(frame + head, data, len);
	wire_write(connection, frame, head + len);
}

static void unmask(uint8_t *data, size_t len, const uint8_t mask[4])
{
	uint8_t wide[8];
	uint64_t key, word;
	size_t i = 0;

	memcpy(wide, mask, 4);
	memcpy(wide + 4, mask, 4);
	memcpy(&key, wide, sizeof(key));
	for (; i + sizeof(word) <= len; i += sizeof(word)) {
		memcpy(&word, data + i, sizeof(word));
		word ^= key;
		memcpy(data + i, &word, sizeof(word));
	}
	for (; i < len; i++)
		data[i] ^= mask[i % 4];
}

/* Returns the opcode. The data is there until the next read. */
static unsigned read_frame(struct connection *connection, uint8_t **ret_data, size_t *ret_len)
{
	const uint8_t *head = wire_read(connection, 2);
	unsigned opcode = head[0] & 15;
	size_t len = head[1] & 127;
	uint8_t mask[4];

	if (!(head[0] & 0x80) || !(head[1] & 0x80) || len == 127)
		wire_fail("a WebSocket frame in pieces, without a mask, or very long");
	if (len == 126) {
		head = wire_read(connection, 2);
		len = (size_t)head[0] << 8 | head[1];
	}
	memcpy(mask, wire_read(connection, 4), 4);
	*ret_data = (uint8_t *)wire_read(connection, len);
	*ret_len = len;
	unmask(*ret_data, len, mask);
	return opcode;
}

/* The answer to the request's key. */
static void accept_of(const char *request, char ret[32])
{
	static const char name[] = "sec-websocket-key: ";
	const char *key = strcasestr(request, name);
	uint8_t hash[SHA_DIGEST_LENGTH];
	char text[128];

	if (!key)
		wire_fail("no WebSocket key");
	snprintf(text, sizeof(text), "%.24s" WEBSOCKET_GUID, key + strlen(name));
	SHA1((const uint8_t *)text, strlen(text), hash);
	EVP_EncodeBlock((uint8_t *)ret, hash, sizeof(hash));
}

static void upgrade(struct connection *connection)
{
	char request[4096], reply[512], accept[32];
	size_t len = 0;

	do {
		if (len + 1 == sizeof(request))
			wire_fail("no WebSocket request");
		request[len++] = (char)*wire_read(connection, 1);
		request[len] = '\0';
	} while (len < 4 || strcmp(request + len - 4, "\r\n\r\n") != 0);
	accept_of(request, accept);
	len = (size_t)snprintf(reply, sizeof(reply),
			       "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
			       "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
			       "Sec-WebSocket-Protocol: hotspot-relay.v1\r\n\r\n",
			       accept);
	wire_write(connection, reply, len);
}

/* --- CBOR --- */

static uint8_t *put_head(uint8_t *at, unsigned major, uint64_t value)
{
	unsigned more = value < 24 ? 0 : value < 0x100 ? 1 : value < 0x10000 ? 2 : 4;

	*at++ = (uint8_t)(major << 5 | (more == 0   ? value
					: more == 1 ? 24u
					: more == 2 ? 25u
						    : 26u));
	while (more > 0)
		*at++ = (uint8_t)(value >> 8 * --more);
	return at;
}

/* Reads one head; of something longer than the message too, as nobody reads on then. */
static uint64_t get_head(const uint8_t **at, unsigned *ret_major)
{
	uint8_t first = *(*at)++;
	unsigned small = first & 31, more = small < 24 ? 0 : 1u << (small - 24);
	uint64_t value = more > 0 ? 0 : small;

	*ret_major = first >> 5;
	if (small > 27)
		wire_fail("broken CBOR");
	while (more-- > 0)
		value = value << 8 | *(*at)++;
	return value;
}

static struct wire_message decode(const uint8_t *at, const uint8_t *end)
{
	struct wire_message message = {0};
	unsigned major;
	uint64_t n = get_head(&at, &major), value;

	message.type = (enum wire_type)get_head(&at, &major);
	for (unsigned i = 0; i + 1 < n && at < end; i++) {
		value = get_head(&at, &major);
		if (major == 2 && message.type == WIRE_DATA) {
			if (value != FRAME || at + FRAME != end)
				wire_fail("a frame of another length");
			message.payload = at;
			return message;
		}
		if (major != 0 || i == 3)
			return message;
		message.fields[i] = value;
	}
	return message;
}

/* --- Messages --- */

void wire_send(struct connection *connection, enum wire_type type, uint64_t session, uint64_t b,
	       uint64_t c)
{
	bool has_more = type == WIRE_CREDIT;
	uint8_t message[64], *at = put_head(message, 4, has_more ? 4 : 2);

	at = put_head(at, 0, type);
	at = put_head(at, 0, session);
	if (has_more) {
		at = put_head(at, 0, b);
		at = put_head(at, 0, c);
	}
	write_frame(connection, OPCODE_BINARY, message, (size_t)(at - message));
}

void wire_send_data(struct connection *connection, uint64_t session, uint64_t seq,
		    const struct frame *frame)
{
	uint8_t message[64 + FRAME], *at = put_head(message, 4, 5);

	at = put_head(at, 0, WIRE_DATA);
	at = put_head(at, 0, session);
	at = put_head(at, 0, 0); /* the channel */
	at = put_head(at, 0, seq);
	at = put_head(at, 2, FRAME);
	memcpy(at, frame, FRAME);
	write_frame(connection, OPCODE_BINARY, message, (size_t)(at + FRAME - message));
}

struct wire_message wire_receive(struct connection *connection)
{
	struct wire_message message;
	uint8_t *data;
	size_t len;

	for (;;) {
		unsigned opcode = read_frame(connection, &data, &len);

		if (opcode == OPCODE_PING)
			write_frame(connection, OPCODE_PONG, data, len);
		if (opcode != OPCODE_BINARY)
			continue;
		message = decode(data, data + len);
		if (message.type == WIRE_CLOSE)
			wire_fail("the agent closed a session");
		if (message.type != WIRE_SIGHTINGS)
			return message;
		wire_send(connection, WIRE_SIGHTINGS_ACK, message.fields[0], 0, 0);
	}
}

void wire_welcome(struct connection *connection, unsigned credits)
{
	/* CHALLENGE with a nonce of zeros at the time 0. */
	static const uint8_t challenge[] = {0x83, WIRE_CHALLENGE, 0x58, 32, [4 + 32] = 0};
	uint8_t welcome[32] = {0x83, WIRE_WELCOME, 0xa1, 0x67, 'c', 'r', 'e', 'd', 'i', 't', 's'};
	uint8_t *at = put_head(welcome + 11, 0, credits);

	*at++ = 0x80;
	upgrade(connection);
	write_frame(connection, OPCODE_BINARY, challenge, sizeof(challenge));
	if (wire_receive(connection).type != WIRE_HELLO)
		wire_fail("no HELLO");
	write_frame(connection, OPCODE_BINARY, welcome, (size_t)(at - welcome));
}
