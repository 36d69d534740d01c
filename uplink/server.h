/* SPDX-License-Identifier: Apache-2.0 */
/* What libwebsockets tells of the server while connecting: its key, its certificate, its answer to the
 * upgrade. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uplink/pin.h"
#include "uplink/websocket.h"

struct lws;

/* The pin of the key the server has shown. After TLS. Returns 0 or -errno. */
int server_pin(struct lws *wsi, struct pin *ret);
/* Whether the TLS library has found nothing wrong with the server's certificate, but for what it was
 * not asked to look at. After TLS. */
bool server_is_verified(struct lws *wsi);
/* Whether the server's certificate is for that IP address. After TLS. */
bool server_has_address(struct lws *wsi, const char *address);
/* Until when the server's certificate is valid, Unix time; 0 where not known. After TLS. */
int64_t server_certificate_end(struct lws *wsi);
/* The server's answer to the upgrade, where it came and was no: fills in ret's status,
 * retry_after_s and cause, and the reason. cause: libwebsockets' words, may be NULL. Returns whether there
 * was one. */
bool server_refused(struct lws *wsi, const char *cause, struct websocket_end *ret,
		    char ret_reason[WEBSOCKET_REASON]);
