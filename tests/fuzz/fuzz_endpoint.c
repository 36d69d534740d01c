/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/endpoint.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* Terminated, and of bytes that may go into a request: nothing can be smuggled into a header. */
static void check_text(const char *text, size_t size)
{
	check(memchr(text, 0, size) != NULL);
	for (; *text; text++)
		check(*text > ' ' && *text < 127);
}

static void check_endpoint(const struct endpoint *ep)
{
	char authority[sizeof(ep->authority)], url[sizeof(authority) + sizeof(ep->path) + 8];
	struct endpoint again;
	const char *what;

	check_text(ep->host, sizeof(ep->host));
	check_text(ep->path, sizeof(ep->path));
	check_text(ep->authority, sizeof(ep->authority));
	check(*ep->host && ep->path[0] == '/' && ep->port > 0);
	check(!strpbrk(ep->host, "@/?#") && !strchr(ep->path, '#'));
	snprintf(authority, sizeof(authority), ep->authority[0] == '[' ? "[%s]:%u" : "%s:%u",
		 ep->host, ep->port);
	check(strcmp(authority, ep->authority) == 0);
	/* What it was taken for is a URL of the same endpoint. */
	if (strlen(ep->path) >= ENDPOINT_PATH_MAX)
		return;
	snprintf(url, sizeof(url), "wss://%s%s", ep->authority, ep->path);
	check(endpoint_parse(url, &again, &what) == 0);
	check(strcmp(again.host, ep->host) == 0 && again.port == ep->port);
	check(strcmp(again.path, ep->path) == 0);
	check(strcmp(again.authority, ep->authority) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *url = malloc(size + 1); /* of exactly its length, so that ASan sees an overrun */
	struct endpoint ep, before;
	const char *what = NULL;
	int r;

	check(url != NULL);
	memcpy(url, data, size);
	url[size] = '\0';
	memset(&ep, 0xaa, sizeof(ep));
	memcpy(&before, &ep, sizeof(ep));
	r = endpoint_parse(url, &ep, &what);
	if (r == 0) {
		check_endpoint(&ep);
	} else {
		check(r == -EINVAL && what && *what);
		check(memcmp(&ep, &before, sizeof(ep)) == 0);
	}
	free(url);
	return 0;
}
