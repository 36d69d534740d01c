/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/credentials.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <mbedtls/x509_crt.h>

#include "agent/identity.h"
#include "agent/identity_text.h"
#include "agent/log.h"
#include "agent/settings.h"
#include "agent/util.h"
#include "uplink/token.h"

#define FILE_MAX (4u << 20) /* a bundle of all public CAs has 0.2 MB */

static int refuse(char *error, int r, const char *option, const char *path, const char *what)
{
	snprintf(error, CREDENTIALS_ERROR, "%s %s: %s", option, path, what);
	return r;
}

/* Reads certificates in PEM. Returns how many it could not read, or -errno with the error told. */
static int read_chain(const char *option, const char *path, mbedtls_x509_crt *chain, char *error)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	struct stat st;
	ssize_t len;
	int n;

	fd = util_open_regular(path, 0, &st);
	if (fd < 0)
		return refuse(error, fd, option, path,
			      fd == -EPERM ? "not a regular file" : strerror(-fd));
	len = util_read_fd(fd, FILE_MAX, &text);
	if (len < 0)
		return refuse(error, (int)len, option, path, strerror((int)-len));
	/* Without such a line mbedTLS would take it as DER, which libwebsockets does not. */
	n = strstr(text, "-----BEGIN CERTIFICATE-----")
		    ? mbedtls_x509_crt_parse(chain, (const unsigned char *)text, (size_t)len + 1)
		    : -1;
	if (n < 0 || chain->version == 0)
		return refuse(error, -EINVAL, option, path, "no certificate in PEM in it");
	return n;
}

/* libwebsockets only logs that it could not read them, and then trusts nobody. */
static int check_ca(const struct settings *settings, char *error)
{
	mbedtls_x509_crt chain;
	int r;

	mbedtls_x509_crt_init(&chain);
	/* A bundle may hold some that mbedTLS does not know. */
	r = read_chain("uplink.ca_file", settings->uplink.ca_file, &chain, error);
	mbedtls_x509_crt_free(&chain);
	return MIN(r, 0);
}

static int check_token(const struct settings *settings, char *error)
{
	char token[TOKEN_MAX + 1], why[TOKEN_ERROR];
	int r = token_read(settings->auth.token_file, token, why);

	explicit_bzero(token, sizeof(token));
	if (r < 0)
		snprintf(error, CREDENTIALS_ERROR, "auth.token_file %s", why);
	return r;
}

static void warn_of_dates(const char *path, const mbedtls_x509_crt *certificate)
{
	bool past = mbedtls_x509_time_is_past(&certificate->valid_to);
	const mbedtls_x509_time *t = past ? &certificate->valid_to : &certificate->valid_from;
	time_t now = time(NULL);
	char name[256] = "", clock[32];
	struct tm tm;

	if (!past && !mbedtls_x509_time_is_future(&certificate->valid_from))
		return;
	mbedtls_x509_dn_gets(name, sizeof(name), &certificate->subject);
	gmtime_r(&now, &tm);
	strftime(clock, sizeof(clock), "%F %T", &tm);
	log_warning("auth.certificate_file %s: the certificate of %s %s "
		    "%04d-%02d-%02d %02d:%02d:%02d UTC, and the clock says %s: the cloud will not "
		    "take it, unless the clock is wrong",
		    path, name, past ? "ended on" : "begins on", t->year, t->mon, t->day, t->hour,
		    t->min, t->sec, clock);
}

static int check_first(const char *path, const mbedtls_x509_crt *first,
		       const struct identity *identity, char *error)
{
	uint8_t spki[IDENTITY_TEXT_SPKI_LEN];

	identity_text_spki(identity, spki);
	if (first->pk_raw.len != sizeof(spki) || memcmp(first->pk_raw.p, spki, sizeof(spki)) != 0)
		return refuse(error, -EINVAL, "auth.certificate_file", path,
			      "its first certificate is not for this hotspot's key: get one with "
			      "blecon-hotspotctl identity --csr");
	warn_of_dates(path, first);
	return 0;
}

static int check_certificate(const struct settings *settings, const struct identity *identity,
			     char *error)
{
	const char *path = settings->auth.certificate_file;
	mbedtls_x509_crt chain;
	int r;

	mbedtls_x509_crt_init(&chain);
	r = read_chain("auth.certificate_file", path, &chain, error);
	if (r > 0) /* the cloud needs each of them */
		r = refuse(error, -EINVAL, "auth.certificate_file", path,
			   "a certificate in it is damaged");
	if (r == 0)
		r = check_first(path, &chain, identity, error);
	mbedtls_x509_crt_free(&chain);
	return r;
}

int credentials_check(const struct settings *settings, const struct identity *identity,
		      char ret_error[CREDENTIALS_ERROR])
{
	int r = 0;

	if (settings->uplink.urls.n > 0 && settings->uplink.pins.n == 0)
		r = check_ca(settings, ret_error);
	if (r == 0 && strcmp(settings->auth.mode, "token") == 0)
		r = check_token(settings, ret_error);
	if (r == 0 && strcmp(settings->auth.mode, "certificate") == 0)
		r = check_certificate(settings, identity, ret_error);
	return r;
}

int64_t credentials_certificate_end(const char *path)
{
	char error[CREDENTIALS_ERROR];
	mbedtls_x509_crt chain;
	int64_t end = 0;

	mbedtls_x509_crt_init(&chain);
	if (read_chain("auth.certificate_file", path, &chain, error) >= 0) {
		const mbedtls_x509_time *t = &chain.valid_to;

		end = timegm(&(struct tm){
			.tm_year = t->year - 1900,
			.tm_mon = t->mon - 1,
			.tm_mday = t->day,
			.tm_hour = t->hour,
			.tm_min = t->min,
			.tm_sec = t->sec,
		});
	}
	mbedtls_x509_crt_free(&chain);
	return end;
}
