/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP proxy on the way to the cloud (CONNECT: RFC 9110, section 9.3.6), as configured or out of
 * the environment. Pure, but for proxy_from_environment.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uplink/endpoint.h"

#define PROXY_CREDENTIALS_MAX 90 /* libwebsockets 4.1 has no room for more */

struct proxy {
	char host[ENDPOINT_HOST_MAX + 1]; /* name or address, IPv6 without brackets */
	uint16_t port;
	char authority[ENDPOINT_HOST_MAX + sizeof("[]:65535")]; /* host:port, for people */
	char credentials[PROXY_CREDENTIALS_MAX + 1]; /* user:password, or empty */
};

/* Of http://[user:password@]host[:port], port 8080 where there is none; user and password
 * percent-encoded. Returns 0, or -EINVAL with *ret_what, a constant; *ret is untouched then. */
int proxy_parse(const char *url, struct proxy *ret, const char **ret_what);
/* The value of https_proxy, HTTPS_PROXY, all_proxy or ALL_PROXY, the first that is set and not
 * empty; NULL for none. */
const char *proxy_from_environment(void);
/* The value of no_proxy or NO_PROXY, likewise. */
const char *proxy_exceptions(void);
/* Whether no_proxy (a list of names, of domains with or without a dot ahead, of addresses, or *)
 * holds host. list may be NULL. */
bool proxy_exempt(const char *list, const char *host);
