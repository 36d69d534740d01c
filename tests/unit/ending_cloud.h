/* SPDX-License-Identifier: Apache-2.0 */
/* A cloud for the unit tests of reconnecting, in a child process: TLS, CHALLENGE, WELCOME, and then
 * an end of the connection, each time another one. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* Of connections one in so many is refused before TLS, and of the others one in so many with HTTP
 * status 503. */
#define ENDING_CLOUD_REFUSES 25
/* Of WELCOMEs one in so many is followed by GOAWAY, which a client takes its time to follow. The
 * others by close codes 1001 and 4400, a TCP reset, and TLS closed without a word of WebSocket. */
#define ENDING_CLOUD_GOAWAY 500

struct ending_cloud {
	pid_t child;
	uint16_t port; /* of 127.0.0.1 */
};

/* certificate, key: PEM files. Each end comes when the hotspot has sent a message after WELCOME. A
 * failure to start fails the test. */
void ending_cloud_start(struct ending_cloud *cloud, const char *certificate, const char *key);
void ending_cloud_stop(struct ending_cloud *cloud);
