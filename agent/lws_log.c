/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/lws_log.h"

#include <libwebsockets.h>
#include <stdio.h>
#include <string.h>

#include "agent/log.h"

static char cause[160];

/* What libwebsockets says, and what it means. The rest of its line, up to stop, goes behind it. */
static const struct {
	const char *says;
	const char *means;
	const char *stop;
} causes[] = {
	{"SSL error: ", "the server's certificate is not good: ", "("},
	{"SSL routines::", "TLS handshake failed, is it a TLS server? ", "\n("},
	{"bad HTTP response '", "the server does not upgrade to WebSocket: HTTP ", "'"},
};

static void find_cause(const char *line)
{
	for (size_t i = 0; i < ARRAY_SIZE(causes); i++) {
		const char *p = strstr(line, causes[i].says);
		size_t len;

		if (!p)
			continue;
		p += strlen(causes[i].says);
		len = strcspn(p, causes[i].stop);
		while (len > 0 && (p[len - 1] == ' ' || p[len - 1] == '\n'))
			len--;
		snprintf(cause, sizeof(cause), "%s%.*s", causes[i].means, (int)len, p);
		return;
	}
}

static void on_line(int level, const char *line)
{
	/* What comes after the first is its consequence. */
	if (!cause[0])
		find_cause(line);
	if (level & (LLL_ERR | LLL_WARN))
		log_debug("libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

void lws_log_init(void)
{
	lws_set_log_level(LLL_ERR | LLL_WARN, on_line);
}

void lws_log_watch(void)
{
	cause[0] = '\0';
	lws_set_log_level(LLL_ERR | LLL_WARN | LLL_INFO, on_line);
}

const char *lws_log_cause(void)
{
	lws_log_init();
	return cause[0] ? cause : NULL;
}
