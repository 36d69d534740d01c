/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/endpoint.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SCHEME "wss://"

bool endpoint_printable(const char *s)
{
	for (; *s; s++) {
		if (!isgraph((unsigned char)*s))
			return false;
	}
	return true;
}

static int parse_port(const char *s, size_t len, uint16_t *ret)
{
	unsigned long port = 0;

	if (len == 0 || len > 5)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		if (!isdigit((unsigned char)s[i]))
			return -EINVAL;
		port = port * 10 + (unsigned long)(s[i] - '0');
	}
	if (port == 0 || port > UINT16_MAX)
		return -EINVAL;
	*ret = (uint16_t)port;
	return 0;
}

int endpoint_parse_authority(const char *s, size_t len, uint16_t default_port, struct endpoint *ep,
			     const char **ret_what)
{
	const char *host = s, *end = s + len, *port = NULL;
	bool v6 = len > 0 && s[0] == '[';
	const char *host_end = memchr(s, v6 ? ']' : ':', len);

	if (memchr(s, '@', len)) {
		*ret_what = "a user name or password does not belong into the URL";
		return -EINVAL;
	}
	if (v6) {
		host++;
		if (!host_end || (host_end + 1 < end && host_end[1] != ':')) {
			*ret_what = "an IPv6 address is written [address] or [address]:port";
			return -EINVAL;
		}
		port = host_end + 1 < end ? host_end + 2 : NULL;
	} else if (host_end) {
		port = host_end + 1;
	} else {
		host_end = end;
	}
	if (host_end == host || host_end - host > ENDPOINT_HOST_MAX) {
		*ret_what = "the host name is missing or too long";
		return -EINVAL;
	}
	ep->port = default_port;
	if (port && parse_port(port, (size_t)(end - port), &ep->port) < 0) {
		*ret_what = "the port is not a number from 1 to 65535";
		return -EINVAL;
	}
	snprintf(ep->host, sizeof(ep->host), "%.*s", (int)(host_end - host), host);
	snprintf(ep->authority, sizeof(ep->authority), v6 ? "[%s]:%u" : "%s:%u", ep->host,
		 ep->port);
	return 0;
}

int endpoint_parse(const char *url, struct endpoint *ret, const char **ret_what)
{
	struct endpoint ep = {0};
	const char *rest, *path;
	size_t len;

	if (strncasecmp(url, SCHEME, strlen(SCHEME)) != 0) {
		*ret_what = "the URL does not start with wss://";
		return -EINVAL;
	}
	if (!endpoint_printable(url) || strchr(url, '#')) {
		*ret_what = "the URL has a #, a space, or a letter that a URL does not have";
		return -EINVAL;
	}
	rest = url + strlen(SCHEME);
	len = strcspn(rest, "/?");
	if (endpoint_parse_authority(rest, len, 443, &ep, ret_what) < 0)
		return -EINVAL;
	path = rest + len;
	if (strlen(path) >= ENDPOINT_PATH_MAX) {
		*ret_what = "the path is too long";
		return -EINVAL;
	}
	snprintf(ep.path, sizeof(ep.path), "%s%s", *path == '/' ? "" : "/", path);
	*ret = ep;
	return 0;
}
