/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/target.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uplink/chain.h"

static bool copy(const char *text, const char **ret)
{
	*ret = text ? strdup(text) : NULL;
	return !text || *ret;
}

int target_copy(const struct websocket_target *from, struct websocket_target *to)
{
	to->port = from->port;
	to->proxy = from->proxy;
	if (copy(from->address, &to->address) && copy(from->authority, &to->authority) &&
	    copy(from->path, &to->path) && copy(from->subprotocol, &to->subprotocol) &&
	    copy(from->proxy_credentials, &to->proxy_credentials) &&
	    copy(from->bearer_token, &to->bearer_token))
		return 0;
	target_done(to);
	return -ENOMEM;
}

static void drop(const char *text)
{
	if (text)
		explicit_bzero((char *)text, strlen(text));
	free((char *)text);
}

void target_done(struct websocket_target *target)
{
	drop(target->address);
	drop(target->authority);
	drop(target->path);
	drop(target->subprotocol);
	drop(target->proxy_credentials);
	drop(target->bearer_token);
	*target = (struct websocket_target){0};
}

bool target_address(const struct websocket_target *target, char *ret, size_t size)
{
	bool v6 = *target->authority == '[';
	const char *end = strrchr(target->authority, v6 ? ']' : ':');

	snprintf(ret, size, "%.*s", (int)(end - target->authority - v6), target->authority + v6);
	return chain_is_address(ret);
}

uint16_t target_host(const struct websocket_target *target, char *ret, size_t size)
{
	const char *colon = strrchr(target->authority, ':');

	snprintf(ret, size, "%.*s", (int)(colon - target->authority), target->authority);
	return (uint16_t)atoi(colon + 1);
}
