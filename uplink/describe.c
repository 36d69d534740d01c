/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/describe.h"

#include <stdio.h>

#include "uplink/message.h"

/* The connection was open. */
static void describe_open_end(const struct websocket_end *end, const char *reason, char *ret,
			      size_t size)
{
	if (end->code == WEBSOCKET_NO_HANDSHAKE)
		snprintf(ret, size, "%s", reason);
	else if (end->by_peer && end->code == MESSAGE_WS_REPLACED)
		snprintf(ret, size,
			 "closed by the server (%u): another hotspot has this one's key: %s",
			 end->code, reason);
	else if (end->by_peer)
		snprintf(ret, size, "closed by the server (%u): %s", end->code, reason);
	else if (end->code == MESSAGE_WS_BAD_MESSAGE)
		snprintf(ret, size, "bad message from the server, closed (%u): %s", end->code,
			 reason);
	else
		snprintf(ret, size, "closed (%u): %s", end->code, reason);
}

void describe_end(const struct route *route, const struct websocket_end *end, char *ret,
		  size_t size)
{
	const char *reason = *end->reason ? end->reason : "no reason given";

	if (end->step == WEBSOCKET_STEP_OPEN)
		describe_open_end(end, reason, ret, size);
	else if (end->step == WEBSOCKET_STEP_TCP)
		snprintf(ret, size, "cannot connect to %s%s, port %u: %s",
			 route->proxy ? "the proxy " : "", route_address(route), route_port(route),
			 reason);
	else
		snprintf(ret, size, "cannot connect to %s (%s%s): %s", route->endpoint->authority,
			 route->proxy ? "through " : "", route_address(route), reason);
}

static enum failure_at where(const struct route *route, enum websocket_step step,
			     enum failure_cause cause)
{
	static const enum failure_at steps[] = {
		[WEBSOCKET_STEP_TCP] = FAILURE_AT_TCP,
		[WEBSOCKET_STEP_TLS] = FAILURE_AT_TLS,
		[WEBSOCKET_STEP_UPGRADE] = FAILURE_AT_UPGRADE,
		[WEBSOCKET_STEP_OPEN] = FAILURE_AT_HELLO,
	};
	/* In TLS 1.3 a server says only afterwards what it does not like. */
	enum failure_at at = failure_at_of(cause);

	if (at == FAILURE_AT_NONE)
		at = steps[step];
	/* In silence nobody knows whether there is a tunnel yet. */
	if (route->proxy &&
	    (at == FAILURE_AT_TCP || (at == FAILURE_AT_TLS && cause == FAILURE_SILENCE)))
		at = FAILURE_AT_PROXY;
	return at;
}

struct failure describe_failure(const struct route *route, const struct websocket_end *end,
				bool was_up, bool silent)
{
	bool coded = end->step == WEBSOCKET_STEP_OPEN && end->code != WEBSOCKET_NO_HANDSHAKE;
	struct failure failure = {
		.cause = silent && !coded ? FAILURE_SILENCE : end->cause,
		.code = coded ? end->code : 0,
		.http_status = end->http_status,
	};

	failure.at = was_up ? FAILURE_AT_UP : where(route, end->step, failure.cause);
	return failure;
}

const char *describe_missing(const struct route *route, enum websocket_step step)
{
	switch (step) {
	case WEBSOCKET_STEP_TCP:
		return "no answer to TCP";
	case WEBSOCKET_STEP_TLS:
		return route->proxy ? "no tunnel through the proxy, or no TLS" : "no TLS";
	case WEBSOCKET_STEP_UPGRADE:
		return "no answer to the upgrade";
	case WEBSOCKET_STEP_OPEN:
		break;
	}
	return "no CHALLENGE and WELCOME";
}

bool describe_hopeless(const struct websocket_end *end)
{
	/* Who admits the hotspot, or who gave two hubs one key. */
	return end->code == MESSAGE_WS_NOT_AUTHENTICATED || end->code == MESSAGE_WS_NOT_ALLOWED ||
	       end->code == MESSAGE_WS_REPLACED || end->code == MESSAGE_WS_VERSION ||
	       end->http_status == 401 || end->http_status == 403;
}
