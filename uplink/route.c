/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/route.h"

#include <stdio.h>
#include <string.h>

#include "agent/util.h"

void route_init(struct route *route, struct loop *loop, const struct proxy *proxy,
		const char *no_proxy, void (*on_found)(void *userdata, const char *error),
		void *userdata)
{
	*route = (struct route){
		.loop = loop,
		.configured = proxy,
		.no_proxy = no_proxy,
		.on_found = on_found,
		.userdata = userdata,
	};
}

/* What worked last goes first: an address family that leads nowhere costs its deadline once. */
static void prefer_good(struct route *route)
{
	struct resolver_result *r = &route->addresses;
	size_t i = 0;

	while (i < r->n && strcmp(r->addresses[i], route->good) != 0)
		i++;
	if (i == r->n)
		return;
	memmove(r->addresses[1], r->addresses[0], i * sizeof(r->addresses[0]));
	memcpy(r->addresses[0], route->good, sizeof(route->good));
}

static void on_resolved(void *userdata, const struct resolver_result *result)
{
	struct route *route = userdata;

	route->addresses = *result;
	resolver_cancel(TAKE_PTR(route->resolver));
	prefer_good(route);
	route->on_found(route->userdata, route->addresses.n > 0 ? NULL : route->addresses.error);
}

int route_find(struct route *route, const struct endpoint *endpoint)
{
	bool direct = !route->configured || proxy_exempt(route->no_proxy, endpoint->host);

	route->endpoint = endpoint;
	route->proxy = direct ? NULL : route->configured;
	route->addresses.n = route->next = 0;
	return resolver_start(route->loop, route_host(route), on_resolved, route, &route->resolver);
}

void route_cancel(struct route *route)
{
	resolver_cancel(TAKE_PTR(route->resolver));
}

const char *route_host(const struct route *route)
{
	return route->proxy ? route->proxy->host : route->endpoint->host;
}

const char *route_advance(struct route *route)
{
	return route_has_next(route) ? route->addresses.addresses[route->next++] : NULL;
}

bool route_has_next(const struct route *route)
{
	return route->next < route->addresses.n;
}

const char *route_address(const struct route *route)
{
	return route->next > 0 ? route->addresses.addresses[route->next - 1] : "";
}

uint16_t route_port(const struct route *route)
{
	return route->proxy ? route->proxy->port : route->endpoint->port;
}

void route_good(struct route *route)
{
	snprintf(route->good, sizeof(route->good), "%s", route_address(route));
}
