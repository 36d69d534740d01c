/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/server.h"

#include <errno.h>
#include <libwebsockets.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#if !defined(LWS_WITH_MBEDTLS)
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#endif

#include "uplink/chain.h"
#include "uplink/retry_after.h"

#define CERTIFICATE_MAX 16384 /* bytes of a certificate in DER */
#define HEADER_MAX	200 /* bytes of a header's value that are looked at */

union info {
	union lws_tls_cert_info_results results;
	uint8_t room[sizeof(union lws_tls_cert_info_results) + CERTIFICATE_MAX];
};

#if defined(LWS_WITH_MBEDTLS)
/* Returns whether ret has it; mbedtls_x509_crt_free in any case. */
static bool read_certificate(struct lws *wsi, mbedtls_x509_crt *ret)
{
	union info info = {0};

	mbedtls_x509_crt_init(ret);
	return lws_tls_peer_cert_info(wsi, LWS_TLS_CERT_INFO_DER_RAW, &info.results,
				      CERTIFICATE_MAX) == 0 &&
	       mbedtls_x509_crt_parse_der(ret, (const uint8_t *)info.results.ns.name,
					  (size_t)info.results.ns.len) == 0;
}
#endif

bool server_is_verified(struct lws *wsi)
{
	union lws_tls_cert_info_results results = {0};

	return lws_tls_peer_cert_info(wsi, LWS_TLS_CERT_INFO_VERIFIED, &results, 0) == 0 &&
	       results.verified;
}

bool server_has_address(struct lws *wsi, const char *address)
{
#if defined(LWS_WITH_MBEDTLS)
	mbedtls_x509_crt crt;
	bool has = read_certificate(wsi, &crt) && chain_has_address(&crt, address);

	mbedtls_x509_crt_free(&crt);
#else
	/* Version 4.1 does not give the certificate away. */
	X509 *crt = SSL_get_peer_certificate(lws_get_ssl(wsi));
	bool has = crt && X509_check_ip_asc(crt, address, 0) == 1;

	X509_free(crt);
#endif
	return has;
}

int server_pin(struct lws *wsi, struct pin *ret)
{
	union info info = {0};
	/* What they call the opaque key is the SubjectPublicKeyInfo with OpenSSL alone. */
#if defined(LWS_WITH_MBEDTLS)
	int r = lws_tls_peer_cert_info(wsi, LWS_TLS_CERT_INFO_DER_RAW, &info.results,
				       CERTIFICATE_MAX);
#else
	int r = lws_tls_peer_cert_info(wsi, LWS_TLS_CERT_INFO_OPAQUE_PUBLIC_KEY, &info.results,
				       CERTIFICATE_MAX);
#endif
	const uint8_t *der = (const uint8_t *)info.results.ns.name;

	if (r != 0 || info.results.ns.len <= 0)
		return -EIO;
#if defined(LWS_WITH_MBEDTLS)
	return pin_of_certificate(der, (size_t)info.results.ns.len, ret);
#else
	return pin_of_key(der, (size_t)info.results.ns.len, ret);
#endif
}

int64_t server_certificate_end(struct lws *wsi)
{
	/* What libwebsockets makes of it is in local time, and a day early. */
	struct tm tm = {0};
#if defined(LWS_WITH_MBEDTLS)
	mbedtls_x509_crt crt;
	bool known = read_certificate(wsi, &crt);

	if (known)
		tm = (struct tm){
			.tm_year = crt.valid_to.year - 1900,
			.tm_mon = crt.valid_to.mon - 1,
			.tm_mday = crt.valid_to.day,
			.tm_hour = crt.valid_to.hour,
			.tm_min = crt.valid_to.min,
			.tm_sec = crt.valid_to.sec,
		};
	mbedtls_x509_crt_free(&crt);
#else
	X509 *crt = SSL_get_peer_certificate(lws_get_ssl(wsi));
	bool known = crt && ASN1_TIME_to_tm(X509_get0_notAfter(crt), &tm) == 1;

	X509_free(crt);
#endif
	return known ? (int64_t)timegm(&tm) : 0;
}

static bool header(struct lws *wsi, char ret[HEADER_MAX], enum lws_token_indexes token)
{
	return lws_hdr_copy(wsi, ret, HEADER_MAX, token) > 0;
}

/* What to look at, for whom such a status is news. */
static const char *hint(unsigned status)
{
	if (status == 401)
		return ": is the token right? See auth.mode";
	if (status == 403)
		return ": it does not let this hotspot in";
	if (status == 404)
		return ": is the path in uplink.url right?";
	if (status >= 300 && status < 400)
		return ": it redirects, perhaps to a login page";
	return status == 200 ? ": is the path in uplink.url right?" : "";
}

bool server_refused(struct lws *wsi, const char *cause, struct websocket_end *ret,
		    char ret_reason[WEBSOCKET_REASON])
{
	static const char prefix[] = "HS: ";
	char after[HEADER_MAX], date[HEADER_MAX];
	unsigned status = lws_http_client_http_response(wsi);

	if (status == 0)
		return false;
	if (status == 101) {
		/* It upgraded, but not as asked. */
		ret->cause = FAILURE_SUBPROTOCOL;
		if (cause && strncmp(cause, prefix, strlen(prefix)) == 0)
			cause += strlen(prefix);
		snprintf(ret_reason, WEBSOCKET_REASON, "the server's upgrade is not as asked: %s",
			 cause ? cause : "no reason given");
		return true;
	}
	ret->http_status = status;
#if defined(LWS_WITH_HTTP_UNCOMMON_HEADERS) || defined(LWS_ROLE_H2) || defined(LWS_HTTP_HEADERS_ALL)
	if (header(wsi, after, WSI_TOKEN_HTTP_RETRY_AFTER))
		ret->retry_after_s = retry_after_parse(
			after, header(wsi, date, WSI_TOKEN_HTTP_DATE) ? date : NULL);
#endif
	snprintf(ret_reason, WEBSOCKET_REASON,
		 "the server does not upgrade to WebSocket: HTTP %u%s", status, hint(status));
	return true;
}
