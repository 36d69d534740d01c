/* SPDX-License-Identifier: Apache-2.0 */
/* A TLS handshake as a client, with mbedTLS, only to see what becomes of it. Nothing in here
 * waits. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uplink/websocket.h"

struct handshake;

#define HANDSHAKE_TEXT 400 /* bytes of a text, NUL included */

enum handshake_state {
	HANDSHAKE_READS, /* waits until the socket has something */
	HANDSHAKE_WRITES, /* waits until the socket takes something */
	HANDSHAKE_LINGERS, /* as READS, but all is done: in TLS 1.3 the server may still refuse */
	HANDSHAKE_OVER,
};

/* fd: connected and non-blocking. host: name or address of the server. early, n_early: what was
 * read from fd already. Nothing of these and of config is copied, all must outlive the object.
 * Returns 0 and *ret, or -errno with what is wrong in words in ret_text. */
int handshake_new(const struct websocket_config *config, const char *host, int fd,
		  const uint8_t *early, size_t n_early, struct handshake **ret,
		  char ret_text[HANDSHAKE_TEXT]);
/* Says goodbye to the server, but does not close fd. NULL is fine. */
void handshake_free(struct handshake *handshake);
/* Goes on with it. With HANDSHAKE_OVER ret_text is what is wrong in words, empty for nothing. */
enum handshake_state handshake_step(struct handshake *handshake, char ret_text[HANDSHAKE_TEXT]);
/* The cause of what handshake_step has told last. */
enum failure_cause handshake_cause(const struct handshake *handshake);
