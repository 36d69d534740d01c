/* SPDX-License-Identifier: Apache-2.0 */
/* The CAs that a server may be verified against, for libwebsockets on mbedTLS. */
#pragma once

#include <stddef.h>

/* Reads certificates in PEM, and leaves out those of a kind that mbedTLS does not know, as a
 * collection may have some. Returns 0 and a text with its length, owned, or -errno: -EINVAL where
 * none is left. */
int ca_read(const char *path, char **ret, size_t *ret_len);
