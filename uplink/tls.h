/* SPDX-License-Identifier: Apache-2.0 */
/* TLS of the uplink: what libwebsockets is told to do, and what is looked at after its handshake. The
 * same with libwebsockets on OpenSSL and on mbedTLS. */
#pragma once

#include "uplink/websocket.h"

struct lws;
struct lws_context;
struct lws_protocols;
struct lws_vhost;

/* A vhost for lws_vhost_destroy whose connections go by config. Returns 0 or -errno. */
int tls_vhost_new(struct lws_context *lws, const struct websocket_config *config,
		  const struct lws_protocols *protocols, struct lws_vhost **ret);
/* What a connection there is begun with: flags of struct lws_client_connect_info. */
unsigned tls_flags(const struct websocket_config *config, const struct websocket_target *target);
/* To be called when TLS is up, and before anything is said. Returns 0, or -1 where the server is not
 * the one that is meant; ret_reason is left as it is where only a diagnosis can tell why. */
int tls_check_server(struct lws *wsi, const struct websocket_config *config,
		     const struct websocket_target *target, char ret_reason[WEBSOCKET_REASON]);
