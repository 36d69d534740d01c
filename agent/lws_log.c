/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/lws_log.h"

#include <libwebsockets.h>
#include <string.h>

#include "agent/log.h"

static void on_line(int level, const char *line)
{
	(void)level;
	log_debug("libwebsockets: %.*s", (int)strcspn(line, "\n"), line);
}

void lws_log_init(void)
{
	lws_set_log_level(LLL_ERR | LLL_WARN, on_line);
}
