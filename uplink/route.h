/* SPDX-License-Identifier: Apache-2.0 */
/* The way to an endpoint: through a proxy or not, and the addresses there are, one after the other. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uplink/endpoint.h"
#include "uplink/proxy.h"
#include "uplink/resolver.h"

struct loop;

struct route {
	struct loop *loop; /* not owned */
	const struct proxy *configured; /* not owned, NULL for none */
	const char *no_proxy; /* not owned, may be NULL: proxy.h */
	void (*on_found)(void *userdata, const char *error); /* error: NULL where there is one */
	void *userdata; /* not owned */

	const struct endpoint *endpoint; /* not owned: where it leads, NULL for none yet */
	const struct proxy *proxy; /* not owned: on the way, NULL for none */
	struct resolver *resolver; /* owned, NULL while none runs */
	struct resolver_result addresses;
	size_t next;
	char good[RESOLVER_TEXT]; /* the address that led there last */
};

void route_init(struct route *route, struct loop *loop, const struct proxy *proxy,
		const char *no_proxy, void (*on_found)(void *userdata, const char *error),
		void *userdata);
/* Looks for the way to endpoint, which must stay. on_found comes once, from the loop; not after
 * route_cancel. Returns 0 or -errno. */
int route_find(struct route *route, const struct endpoint *endpoint);
void route_cancel(struct route *route);
/* The name that is or was resolved. */
const char *route_host(const struct route *route);
/* Moves on to the next address, in numbers; NULL for none left. */
const char *route_advance(struct route *route);
bool route_has_next(const struct route *route);
/* The address in use, or used last; empty for none. */
const char *route_address(const struct route *route);
/* What is connected to at that address: the proxy's port, or the endpoint's. */
uint16_t route_port(const struct route *route);
/* It led there. */
void route_good(struct route *route);
