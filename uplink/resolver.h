/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Name resolution that never blocks the loop: getaddrinfo in a child process of its own, the
 * system's resolver with all it knows (hosts file, mDNS, search domains), its answer over a pipe.
 * libwebsockets 4.1 would call it in the loop. An address in numbers needs no child.
 */
#pragma once

#include <stddef.h>

#include "uplink/failure.h"

struct loop;
struct resolver;

#define RESOLVER_ADDRESSES_MAX 8
#define RESOLVER_TEXT	       64 /* an address in numbers, scope and NUL included */

struct resolver_result {
	size_t n;
	char addresses[RESOLVER_ADDRESSES_MAX][RESOLVER_TEXT]; /* in the order to be tried */
	char error[128]; /* in words, where n is 0 */
	enum failure_cause cause; /* of error */
};

/* Asks for the addresses of host. on_done comes once, from the loop, never from in here; not
 * after resolver_cancel. Returns 0 and *ret, or -errno. */
int resolver_start(struct loop *loop, const char *host,
		   void (*on_done)(void *userdata, const struct resolver_result *result),
		   void *userdata, struct resolver **ret);
/* Ends the child, if there is one, and frees. Also after on_done, and fine from within it. NULL is
 * fine. */
void resolver_cancel(struct resolver *resolver);
