/* SPDX-License-Identifier: Apache-2.0 */
/* The cloud's address, out of a wss:// URL (RFC 6455, section 3). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENDPOINT_HOST_MAX 253 /* RFC 1035, section 2.3.4, less the dots at the ends */
#define ENDPOINT_PATH_MAX 1024

struct endpoint {
	char host[ENDPOINT_HOST_MAX + 1]; /* name or address, IPv6 without brackets */
	uint16_t port;
	char path[ENDPOINT_PATH_MAX + 1]; /* with its query, at least "/" */
	char authority[ENDPOINT_HOST_MAX + sizeof("[]:65535")]; /* host:port, always with port */
};

/* Returns 0, or -EINVAL with *ret_what, a constant that names what is wrong; *ret is untouched
 * then. Only wss is accepted: an unencrypted connection would show which devices are near. */
int endpoint_parse(const char *url, struct endpoint *ret, const char **ret_what);

/* Of "host", "host:port", "[v6]" or "[v6]:port", len printable bytes: fills in host, port and
 * authority of *ep. Returns as endpoint_parse, but *ep may be half filled in on an error. */
int endpoint_parse_authority(const char *s, size_t len, uint16_t default_port, struct endpoint *ep,
			     const char **ret_what);
/* Only ASCII without spaces and control characters. */
bool endpoint_printable(const char *s);
