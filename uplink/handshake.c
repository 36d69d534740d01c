/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/handshake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <libwebsockets.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <psa/crypto.h>

#include "agent/util.h"
#include "uplink/chain.h"

#define FILE_MAX (1024 * 1024) /* all of Mozilla's CAs are a quarter of it */

/* In 3.6 the number of an alert and the step of a handshake are private; 2.28 has no private. */
#ifndef MBEDTLS_PRIVATE
#define MBEDTLS_PRIVATE(member) member
#endif
#if MBEDTLS_VERSION_MAJOR >= 3
#define BAD_VERSION MBEDTLS_ERR_SSL_BAD_PROTOCOL_VERSION
#else
#define BAD_VERSION MBEDTLS_ERR_SSL_BAD_HS_PROTOCOL_VERSION
#endif
/* In TLS 1.3 a ticket says that the server has taken all of the client's (RFC 8446, section 4.6.1).
 * Before 3.6.1 mbedTLS tells of each. */
#if defined(MBEDTLS_SSL_PROTO_TLS1_3) && defined(MBEDTLS_SSL_SESSION_TICKETS) &&                   \
	defined(MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED)
#define TICKETS_TELL
#endif

struct handshake {
	mbedtls_ssl_context ssl;
	mbedtls_ssl_config conf;
	mbedtls_x509_crt ca, certificate;
	mbedtls_pk_context key;
	struct chain chain;
	const struct websocket_config *config; /* not owned */
	int fd; /* not owned */
	const uint8_t *early; /* not owned: to be read before what fd has */
	size_t n_early;
	int io_error; /* errno */
	uint8_t first; /* byte the server sent */
	bool has_first;
	bool done; /* with the handshake proper */
	enum failure_cause cause;
};

static int random_bytes(void *userdata, unsigned char *buf, size_t len)
{
	(void)userdata;
	return psa_generate_random(buf, len) == PSA_SUCCESS ? 0 : -1;
}

static int send_bytes(void *userdata, const unsigned char *buf, size_t len)
{
	struct handshake *h = userdata;
	ssize_t n = send(h->fd, buf, len, MSG_NOSIGNAL);

	if (n >= 0)
		return (int)n;
	if (errno == EAGAIN || errno == EINTR)
		return MBEDTLS_ERR_SSL_WANT_WRITE;
	h->io_error = errno;
	return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

static ssize_t receive(struct handshake *h, unsigned char *buf, size_t len)
{
	if (h->n_early == 0)
		return recv(h->fd, buf, len, 0);
	len = MIN(len, h->n_early);
	memcpy(buf, h->early, len);
	h->early += len;
	h->n_early -= len;
	return (ssize_t)len;
}

static int receive_bytes(void *userdata, unsigned char *buf, size_t len)
{
	struct handshake *h = userdata;
	ssize_t n = receive(h, buf, len);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return MBEDTLS_ERR_SSL_WANT_READ;
	if (n < 0) {
		h->io_error = errno;
		return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
	}
	if (n > 0 && !h->has_first) {
		h->first = buf[0];
		h->has_first = true;
	}
	return (int)n;
}

static int parse_key(struct handshake *h, const unsigned char *pem, size_t size)
{
#if MBEDTLS_VERSION_MAJOR >= 3
	return mbedtls_pk_parse_key(&h->key, pem, size, NULL, 0, random_bytes, NULL);
#else
	return mbedtls_pk_parse_key(&h->key, pem, size, NULL, 0);
#endif
}

static int parse_certificate(struct handshake *h, const unsigned char *pem, size_t size)
{
	return mbedtls_x509_crt_parse(&h->certificate, pem, size);
}

static int parse_ca(struct handshake *h, const unsigned char *pem, size_t size)
{
	return mbedtls_x509_crt_parse(&h->ca, pem, size);
}

/* A positive result of parse is fine: so many certificates are of a kind mbedTLS does not know. */
static int load(struct handshake *h, const char *path, const char *what,
		int (*parse)(struct handshake *h, const unsigned char *pem, size_t size),
		char ret_text[HANDSHAKE_TEXT])
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *pem = NULL;
	ssize_t len = fd < 0 ? -errno : util_read_fd(fd, FILE_MAX, &pem);
	int r = 0;

	if (len >= 0) {
		r = parse(h, (const unsigned char *)pem, (size_t)len + 1);
		explicit_bzero(pem, (size_t)len);
	}
	if (len >= 0 && r >= 0)
		return 0;
	snprintf(ret_text, HANDSHAKE_TEXT, "cannot use %s %s: %s", what, path,
		 len < 0 ? strerror((int)-len) : "nothing in PEM in it that can be read");
	return len < 0 ? (int)len : -EINVAL;
}

static int load_files(struct handshake *h, char ret_text[HANDSHAKE_TEXT])
{
	const struct websocket_config *config = h->config;
	int r = 0;

	if (config->n_pins == 0 && config->ca_file)
		r = load(h, config->ca_file, "the CA file", parse_ca, ret_text);
	if (r == 0 && config->certificate_file)
		r = load(h, config->certificate_file, "the hotspot's certificate",
			 parse_certificate, ret_text);
	if (r == 0 && config->certificate_file && config->key_file)
		r = load(h, config->key_file, "the key of the hotspot's certificate", parse_key,
			 ret_text);
	return r;
}

static int configure(struct handshake *h)
{
	int r = mbedtls_ssl_config_defaults(&h->conf, MBEDTLS_SSL_IS_CLIENT,
					    MBEDTLS_SSL_TRANSPORT_STREAM,
					    MBEDTLS_SSL_PRESET_DEFAULT);

	if (r != 0)
		return r;
#if MBEDTLS_VERSION_MAJOR >= 3
	mbedtls_ssl_conf_min_tls_version(&h->conf, MBEDTLS_SSL_VERSION_TLS1_2);
#ifdef LWS_WITH_MBEDTLS
	/* No more than libwebsockets makes of it. */
	mbedtls_ssl_conf_max_tls_version(&h->conf, MBEDTLS_SSL_VERSION_TLS1_2);
#endif
#else
	mbedtls_ssl_conf_min_version(&h->conf, MBEDTLS_SSL_MAJOR_VERSION_3,
				     MBEDTLS_SSL_MINOR_VERSION_3);
#endif
#ifdef MBEDTLS_SSL_SESSION_TICKETS
	/* There is no second time. */
	mbedtls_ssl_conf_session_tickets(&h->conf, MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
#endif
#ifdef TICKETS_TELL
	mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(
		&h->conf, MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
#endif
	mbedtls_ssl_conf_rng(&h->conf, random_bytes, NULL);
	mbedtls_ssl_conf_verify(&h->conf, chain_on_certificate, &h->chain);
	/* "Required" is refused without a CA, and looks at more of a certificate than its key. */
	mbedtls_ssl_conf_authmode(&h->conf, h->config->n_pins > 0 ? MBEDTLS_SSL_VERIFY_OPTIONAL
								  : MBEDTLS_SSL_VERIFY_REQUIRED);
	mbedtls_ssl_conf_ca_chain(&h->conf, &h->ca, NULL);
	if (h->config->certificate_file && h->config->key_file)
		r = mbedtls_ssl_conf_own_cert(&h->conf, &h->certificate, &h->key);
	return r;
}

static int set_up(struct handshake *h)
{
	int r = configure(h);

	if (r == 0)
		r = mbedtls_ssl_setup(&h->ssl, &h->conf);
	/* NULL says that no name is to be verified; an address is, in the callback. There is no SNI
	 * of an address (RFC 6066, section 3). */
	if (r == 0)
		r = mbedtls_ssl_set_hostname(
			&h->ssl, chain_is_address(h->chain.host) ? NULL : h->chain.host);
	if (r == 0)
		mbedtls_ssl_set_bio(&h->ssl, h, send_bytes, receive_bytes, NULL);
	return r;
}

int handshake_new(const struct websocket_config *config, const char *host, int fd,
		  const uint8_t *early, size_t n_early, struct handshake **ret,
		  char ret_text[HANDSHAKE_TEXT])
{
	struct handshake *h = calloc(1, sizeof(*h));
	int r = 0;

	*ret = NULL;
	snprintf(ret_text, HANDSHAKE_TEXT, "mbedTLS cannot start");
	if (!h)
		return -ENOMEM;
	mbedtls_ssl_init(&h->ssl);
	mbedtls_ssl_config_init(&h->conf);
	mbedtls_x509_crt_init(&h->ca);
	mbedtls_x509_crt_init(&h->certificate);
	mbedtls_pk_init(&h->key);
	h->config = config;
	h->fd = fd;
	h->early = early;
	h->n_early = n_early;
	h->chain = (struct chain){
		.host = host,
		.now = time(NULL),
		.pins = config->pins,
		.n_pins = config->n_pins,
	};
	if (psa_crypto_init() != PSA_SUCCESS)
		r = -EIO;
	if (r == 0)
		r = load_files(h, ret_text);
	if (r == 0 && set_up(h) != 0)
		r = -EIO;
	if (r < 0) {
		handshake_free(h);
		return r;
	}
	*ret = h;
	return 0;
}

void handshake_free(struct handshake *h)
{
	if (!h)
		return;
	if (h->done)
		mbedtls_ssl_close_notify(&h->ssl);
	mbedtls_ssl_free(&h->ssl);
	mbedtls_ssl_config_free(&h->conf);
	mbedtls_x509_crt_free(&h->ca);
	mbedtls_x509_crt_free(&h->certificate);
	mbedtls_pk_free(&h->key);
	free(h);
}

/* RFC 8446, appendix B.2. */
static const struct alert {
	uint8_t number;
	bool of_certificate; /* of ours: what the server says of it */
	const char *name;
} alerts[] = {
	{10, false, "unexpected_message"},
	{20, false, "bad_record_mac"},
	{22, false, "record_overflow"},
	{40, false, "handshake_failure"},
	{42, true, "bad_certificate"},
	{43, true, "unsupported_certificate"},
	{44, true, "certificate_revoked"},
	{45, true, "certificate_expired"},
	{46, true, "certificate_unknown"},
	{47, false, "illegal_parameter"},
	{48, true, "unknown_ca"},
	{49, true, "access_denied"},
	{50, false, "decode_error"},
	{51, false, "decrypt_error"},
	{70, false, "protocol_version"},
	{71, false, "insufficient_security"},
	{80, false, "internal_error"},
	{86, false, "inappropriate_fallback"},
	{90, false, "user_canceled"},
	{109, false, "missing_extension"},
	{110, false, "unsupported_extension"},
	{112, false, "unrecognized_name"},
	{113, false, "bad_certificate_status_response"},
	{115, false, "unknown_psk_identity"},
	{116, true, "certificate_required"},
	{120, false, "no_application_protocol"},
};

/* NULL for one without a name. */
static const struct alert *find_alert(unsigned number)
{
	for (size_t i = 0; i < ARRAY_SIZE(alerts); i++) {
		if (alerts[i].number == number)
			return &alerts[i];
	}
	return NULL;
}

static void version_text(struct handshake *h, char ret_text[HANDSHAKE_TEXT])
{
	h->cause = FAILURE_TLS_VERSION;
#ifdef LWS_WITH_MBEDTLS
	snprintf(ret_text, HANDSHAKE_TEXT,
		 "TLS: the server does not speak TLS 1.2, and libwebsockets with mbedTLS no other");
#elif defined(MBEDTLS_SSL_PROTO_TLS1_3)
	snprintf(ret_text, HANDSHAKE_TEXT, "TLS: the server does not speak TLS 1.2 or later");
#else
	/* libwebsockets may be on a library that speaks it. */
	snprintf(ret_text, HANDSHAKE_TEXT,
		 "TLS: the server does not speak TLS 1.2 (this cannot tell whether it speaks 1.3)");
#endif
}

static void alert_text(struct handshake *h, char ret_text[HANDSHAKE_TEXT])
{
	const uint8_t *message = h->ssl.MBEDTLS_PRIVATE(in_msg); /* level, number */
	unsigned n = message ? message[1] : 0;
	const struct alert *alert = find_alert(n);
	/* TLS 1.2 has no other alert for a certificate that is missing (RFC 5246, section 7.4.6);
	 * what comes this late is not about the cipher. */
	bool missing = n == MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE &&
		       h->ssl.MBEDTLS_PRIVATE(state) == MBEDTLS_SSL_SERVER_CHANGE_CIPHER_SPEC;
	const char *what = "the server refused the TLS handshake";

	if (n == MBEDTLS_SSL_ALERT_MSG_PROTOCOL_VERSION) {
		version_text(h, ret_text);
		return;
	}
	if (missing || (alert && alert->of_certificate)) {
		h->cause = h->config->certificate_file ? FAILURE_CERTIFICATE_REFUSED
						       : FAILURE_CERTIFICATE_WANTED;
		what = h->config->certificate_file
			       ? "the server does not accept the hotspot's certificate"
			       : "the server wants a client certificate: see auth.mode";
	}
	snprintf(ret_text, HANDSHAKE_TEXT, "%s: alert %u%s%s%s", what, n, alert ? " (" : "",
		 alert ? alert->name : "", alert ? ")" : "");
}

/* Alert or handshake: RFC 8446, section 5.1. */
static bool speaks_tls(const struct handshake *h)
{
	return !h->has_first || h->first == MBEDTLS_SSL_MSG_ALERT ||
	       h->first == MBEDTLS_SSL_MSG_HANDSHAKE;
}

static void closed_text(const struct handshake *h, char ret_text[HANDSHAKE_TEXT])
{
	const char *when = h->done ? "right after" : "in";

	if (h->io_error)
		snprintf(ret_text, HANDSHAKE_TEXT, "%s %s the TLS handshake", strerror(h->io_error),
			 when);
	else
		snprintf(ret_text, HANDSHAKE_TEXT,
			 "the server closed the connection %s the TLS handshake", when);
}

static void explain(struct handshake *h, int r, char ret_text[HANDSHAKE_TEXT])
{
	if (r == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED)
		chain_on_flags(&h->chain, mbedtls_ssl_get_verify_result(&h->ssl));
	h->cause = h->chain.rank > 0 ? h->chain.cause
		   : speaks_tls(h)   ? FAILURE_TLS_FAILED
				     : FAILURE_NO_TLS;
	if (h->chain.rank > 0)
		snprintf(ret_text, HANDSHAKE_TEXT, "%s", h->chain.text);
	else if (!speaks_tls(h))
		snprintf(ret_text, HANDSHAKE_TEXT,
			 "the server does not answer in TLS: is it a "
			 "TLS server?");
	else if (r == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE)
		alert_text(h, ret_text);
	else if (r == BAD_VERSION)
		version_text(h, ret_text);
	else if (h->io_error || r == 0 || r == MBEDTLS_ERR_SSL_CONN_EOF ||
		 r == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
		closed_text(h, ret_text);
	else
		snprintf(ret_text, HANDSHAKE_TEXT, "the TLS handshake failed (mbedTLS -0x%04x)",
			 (unsigned)-r);
}

/* A server of TLS 1.3 judges the client's certificate when for the client all is done (RFC 8446,
 * section 4.4.2.4). Returns 1 where it has, 0 where it closed, or an error of mbedTLS. */
static int look_after(struct handshake *h)
{
	uint8_t byte;
	int r;

	if (strcmp(mbedtls_ssl_get_version(&h->ssl), "TLSv1.3") != 0)
		return 1;
	/* It also wants to be called again for a message that it has already read. */
	do
		r = mbedtls_ssl_read(&h->ssl, &byte, sizeof(byte));
	while (r == MBEDTLS_ERR_SSL_WANT_READ && mbedtls_ssl_check_pending(&h->ssl));
#if MBEDTLS_VERSION_MAJOR >= 3
	if (r == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
		return 1;
#endif
	return r;
}

enum handshake_state handshake_step(struct handshake *h, char ret_text[HANDSHAKE_TEXT])
{
	int r = 0;

	ret_text[0] = '\0';
	if (!h->done)
		r = mbedtls_ssl_handshake(&h->ssl);
	if (r == 0) {
		h->done = true;
		r = look_after(h);
	}
	if (r == MBEDTLS_ERR_SSL_WANT_WRITE)
		return HANDSHAKE_WRITES;
	if (r == MBEDTLS_ERR_SSL_WANT_READ)
		return h->done ? HANDSHAKE_LINGERS : HANDSHAKE_READS;
	if (r <= 0)
		explain(h, r, ret_text);
	return HANDSHAKE_OVER;
}

enum failure_cause handshake_cause(const struct handshake *h)
{
	return h->cause;
}
