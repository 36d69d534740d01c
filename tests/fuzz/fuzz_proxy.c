/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/proxy.h"

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

/* Terminated, and nothing that would end a header or a line of the log. */
static void check_text(const char *text, size_t size)
{
	check(memchr(text, 0, size) != NULL);
	for (; *text; text++)
		check((unsigned char)*text >= ' ' && *text != 127);
}

static void check_proxy(const struct proxy *proxy)
{
	char authority[sizeof(proxy->authority)];

	check_text(proxy->host, sizeof(proxy->host));
	check_text(proxy->authority, sizeof(proxy->authority));
	check_text(proxy->credentials, sizeof(proxy->credentials));
	check(*proxy->host && proxy->port > 0);
	check(!strpbrk(proxy->host, "@/?# "));
	check(!*proxy->credentials || strchr(proxy->credentials, ':'));
	snprintf(authority, sizeof(authority), proxy->authority[0] == '[' ? "[%s]:%u" : "%s:%u",
		 proxy->host, proxy->port);
	check(strcmp(authority, proxy->authority) == 0);
}

/* What it was taken for is a URL of the same proxy. */
static void check_again(const struct proxy *proxy)
{
	char url[sizeof(proxy->authority) + 3 * sizeof(proxy->credentials) + 16] = "http://";
	const char *colon = strchr(proxy->credentials, ':'), *what;
	struct proxy again;

	for (const char *p = proxy->credentials; *p; p++)
		sprintf(url + strlen(url), p == colon ? "%c" : "%%%02x", (unsigned char)*p);
	if (colon)
		strcat(url, "@");
	strcat(url, proxy->authority);
	check(proxy_parse(url, &again, &what) == 0);
	check(memcmp(&again, proxy, sizeof(again)) == 0);
}

/* One that is in a list stays in it whatever comes behind. */
static void check_exempt(const char *list, const char *host)
{
	size_t size = strlen(list) + 16;
	char *longer = malloc(size);

	check(longer != NULL);
	if (proxy_exempt(list, host) && strcmp(list, "*") != 0) {
		snprintf(longer, size, "%s,x", list);
		check(proxy_exempt(longer, host));
	}
	free(longer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1); /* of exactly its length, so that ASan sees an overrun */
	struct proxy proxy, before;
	const char *what = NULL;
	char *line;
	int r;

	check(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	memset(&proxy, 0xaa, sizeof(proxy));
	memcpy(&before, &proxy, sizeof(proxy));
	r = proxy_parse(text, &proxy, &what);
	if (r == 0) {
		check_proxy(&proxy);
		check_again(&proxy);
	} else {
		check(r == -EINVAL && what && *what);
		check(memcmp(&proxy, &before, sizeof(proxy)) == 0);
	}
	/* Two lines: a list and a host. */
	line = strchr(text, '\n');
	if (line) {
		*line = '\0';
		check_exempt(text, line + 1);
	}
	free(text);
	return 0;
}
