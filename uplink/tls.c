/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/tls.h"

#include <errno.h>
#include <libwebsockets.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

#if !defined(LWS_WITH_MBEDTLS)
#include <openssl/ssl.h>
#endif

#include "agent/util.h"
#include "uplink/ca.h"
#include "uplink/pin.h"
#include "uplink/server.h"
#include "uplink/target.h"

#define CONNECT_NEVER_S 3600

#if defined(LWS_WITH_MBEDTLS)
/* mbedTLS wants a name, unless what it finds is for others to judge: for tls_check_server. */
#define SKIP_HOST_CHECK (LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK | LCCSCF_ALLOW_SELFSIGNED)
/* The name is not told to the server either, which may have several; LCCSCF_ALLOW_INSECURE will do. */
#define SKIP_HOST_CHECK_FOR_PINS 0u
#else
#define SKIP_HOST_CHECK		 LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK
#define SKIP_HOST_CHECK_FOR_PINS LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK
#endif

/* The same with each library: each connection verifies anew. Before 4.2 they never were kept. */
#if !defined(LWS_SERVER_OPTION_DISABLE_TLS_SESSION_CACHE)
#define LWS_SERVER_OPTION_DISABLE_TLS_SESSION_CACHE 0
#endif

/* Says to libwebsockets which CAs count. Returns 0 and what is to be freed when it has read them, or
 * -errno. */
static int set_ca(const struct websocket_config *config, struct lws_context_creation_info *info,
		  char **ret)
{
	*ret = NULL;
#if defined(LWS_WITH_MBEDTLS)
	size_t len;
	int r;

	/* Without a CA it does not load the hotspot's certificate; none is looked at. */
	if (config->n_pins > 0) {
		info->client_ssl_ca_filepath = config->certificate_file;
		return 0;
	}
	/* A file it takes only whole. */
	r = ca_read(config->ca_file, ret, &len);
	if (r < 0)
		return r;
	info->client_ssl_ca_mem = *ret;
	info->client_ssl_ca_mem_len = (unsigned)len;
#else
	if (config->n_pins == 0)
		info->client_ssl_ca_filepath = config->ca_file;
#endif
	return 0;
}

int tls_vhost_new(struct lws_context *lws, const struct websocket_config *config,
		  const struct lws_protocols *protocols, struct lws_vhost **ret)
{
	_cleanup_free_ char *ca = NULL;
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.vhost_name = "uplink",
		.protocols = protocols,
		.client_ssl_cert_filepath = config->certificate_file,
		.client_ssl_private_key_filepath = config->key_file,
#if !defined(LWS_WITH_MBEDTLS)
		.ssl_client_options_set = SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1,
#endif
		/* The configured file alone counts. */
		.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT |
			   LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS |
			   LWS_SERVER_OPTION_DISABLE_TLS_SESSION_CACHE,
		/* Deadlines are those of who connects. */
		.connect_timeout_secs = CONNECT_NEVER_S,
	};
	int r = set_ca(config, &info, &ca);

	if (r < 0)
		return r;
	/* libwebsockets would take it for the proxy. */
	unsetenv("http_proxy");
	*ret = lws_create_vhost(lws, &info);
	return *ret ? 0 : -EINVAL;
}

unsigned tls_flags(const struct websocket_config *config, const struct websocket_target *target)
{
	unsigned flags = LCCSCF_USE_SSL | LCCSCF_HTTP_NO_FOLLOW_REDIRECT;
	char address[INET6_ADDRSTRLEN];

	/* libwebsockets cuts one of IPv6 at its first colon, and on mbedTLS knows names alone. */
	if (target_address(target, address, sizeof(address)))
		flags |= SKIP_HOST_CHECK;
	/* A pinned key says all. tls_check_server looks at either before anything is sent. */
	if (config->n_pins > 0)
		flags |= LCCSCF_ALLOW_SELFSIGNED | LCCSCF_ALLOW_INSECURE | LCCSCF_ALLOW_EXPIRED |
			 SKIP_HOST_CHECK_FOR_PINS;
	return flags;
}

static int check_pin(struct lws *wsi, const struct websocket_config *config,
		     char ret_reason[WEBSOCKET_REASON])
{
	char text[PIN_TEXT];
	struct pin pin;

	if (server_pin(wsi, &pin) < 0) {
		snprintf(ret_reason, WEBSOCKET_REASON,
			 "the server's key cannot be told, so it is none of uplink.pins");
		return -1;
	}
	if (pin_in(&pin, config->pins, config->n_pins))
		return 0;
	pin_text(&pin, text);
	snprintf(ret_reason, WEBSOCKET_REASON, "the server's key is none of uplink.pins: it is %s",
		 text);
	return -1;
}

int tls_check_server(struct lws *wsi, const struct websocket_config *config,
		     const struct websocket_target *target, char ret_reason[WEBSOCKET_REASON])
{
	char address[INET6_ADDRSTRLEN];

	if (config->n_pins > 0)
		return check_pin(wsi, config, ret_reason);
	if (!server_is_verified(wsi))
		return -1;
	if (target_address(target, address, sizeof(address)) && !server_has_address(wsi, address))
		return -1;
	return 0;
}
