/* SPDX-License-Identifier: Apache-2.0 */
/* The URLs of the cloud, tried in order, each with a back-off of its own. Pure: the clock comes as an
 * argument, in monotonic milliseconds; random is uniform over its range. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uplink/backoff.h"
#include "uplink/endpoint.h"
#include "uplink/failure.h"
#include "uplink/websocket.h"

#define URLS_MAX   8
#define URLS_ERROR (WEBSOCKET_REASON + 160) /* bytes of an error text, NUL included */

/* So many times the first back-off: a server that restarts, or another one that takes over from it,
 * gets its hubs back over that time. */
#define URLS_SPREAD 8

struct url {
	const char *text; /* not owned */
	struct endpoint endpoint;
	struct backoff backoff;
	unsigned failures; /* in a row */
	uint64_t retry_ms; /* not before that; 0 for any time */
	char error[URLS_ERROR]; /* why its last connection or attempt ended, empty for never */
	struct failure failure; /* of error */
	uint64_t error_ms;
};

struct urls {
	struct url urls[URLS_MAX];
	size_t n;
};

/* texts must outlive it. Returns 0, or -EINVAL with *ret_what, a constant that names what is wrong
 * with texts[*ret_index]. */
int urls_init(struct urls *urls, const char *const *texts, size_t n, uint32_t backoff_min_ms,
	      uint32_t backoff_max_ms, size_t *ret_index, const char **ret_what);
/* The first whose time has come, or else the one whose time comes first; there must be one. */
struct url *urls_next(struct urls *urls, uint64_t now_ms);
/* Its connection or attempt ended; error is set already. at_least_ms: the wait the server asked for;
 * hopeless: it makes no sense to try soon. Returns the wait. */
uint32_t url_failed(struct url *url, uint64_t now_ms, bool hopeless, uint32_t at_least_ms,
		    uint32_t random);
/* The server has ended a connection that was up, and perhaps those of many hubs: the next attempt,
 * whatever URL it is for, is at a random time within URLS_SPREAD times the shortest back-off. */
void urls_disperse(struct urls *urls, uint64_t now_ms, uint32_t random);
/* It works: starts over. */
void url_good(struct url *url);
