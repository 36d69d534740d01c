/* SPDX-License-Identifier: Apache-2.0 */
/* Servers for the unit tests of connections, each in a child process, at a port the kernel picks.
 * A failure to start one fails the test. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct peer {
	pid_t child;
	uint16_t port; /* of 127.0.0.1 */
	int out; /* what the child writes to its standard output */
	int in; /* its standard input, held open */
};

/* openssl s_server in the program's own directory, with these arguments, separated by spaces. */
void peer_start_openssl(struct peer *peer, const char *arguments);
/* Accepts one connection, reads up to `until` (not even that for NULL), answers, and then:
 * PEER_CLOSES at once, PEER_RESETS, PEER_WAITS until the other side closes, or PEER_TUNNELS to port
 * `to`. What it read goes to `out`. */
enum peer_end {
	PEER_CLOSES,
	PEER_RESETS,
	PEER_WAITS,
	PEER_TUNNELS,
};
struct peer_script {
	const char *until;
	const char *answer;
	size_t answer_len; /* 0: to its NUL */
	enum peer_end end;
	uint16_t to;
};
void peer_start(struct peer *peer, const struct peer_script *script);
/* What a peer of peer_start has read, when it is over with its script. */
void peer_heard(struct peer *peer, char *ret, size_t size);
void peer_stop(struct peer *peer);
/* A port where nobody listens. */
uint16_t closed_port(void);
