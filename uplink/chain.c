/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/chain.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <mbedtls/asn1.h>
#include <mbedtls/oid.h>

#include "agent/util.h"
#include "uplink/pin.h"

#define NAME_TEXT   96
#define TIME_TEXT   sizeof("-2147483648-00-00 00:00 UTC")
#define HOSTS_SHOWN 4
#define HOST_TEXT   80
#define SAN_DNS	    (MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_X509_SAN_DNS_NAME)
#define SAN_ADDRESS (MBEDTLS_ASN1_CONTEXT_SPECIFIC | MBEDTLS_X509_SAN_IP_ADDRESS)
#define USAGE_FLAGS                                                                                \
	(MBEDTLS_X509_BADCERT_KEY_USAGE | MBEDTLS_X509_BADCERT_EXT_KEY_USAGE |                     \
	 MBEDTLS_X509_BADCERT_NS_CERT_TYPE)
#define WEAK_FLAGS                                                                                 \
	(MBEDTLS_X509_BADCERT_BAD_MD | MBEDTLS_X509_BADCERT_BAD_PK | MBEDTLS_X509_BADCERT_BAD_KEY)

/* A certificate and what is wrong with it. */
struct finding {
	const mbedtls_x509_crt *crt;
	int depth;
	uint32_t flags;
};

/* The common name alone, where there is one: it says most in the least room. */
static void name_text(const mbedtls_x509_name *name, char ret[NAME_TEXT])
{
	mbedtls_x509_name one = *name;

	for (const mbedtls_x509_name *n = name; n; n = n->next) {
		if (MBEDTLS_OID_CMP(MBEDTLS_OID_AT_CN, &n->oid) == 0) {
			one = *n;
			one.next = NULL;
			break;
		}
	}
	ret[0] = '\0';
	/* Too long a name is cut, and an error. */
	if (mbedtls_x509_dn_gets(ret, NAME_TEXT, &one) < 0)
		memcpy(ret + NAME_TEXT - sizeof("..."), "...", sizeof("..."));
	if (!ret[0])
		snprintf(ret, NAME_TEXT, "(no name)");
}

static void time_text(const mbedtls_x509_time *t, char ret[TIME_TEXT])
{
	snprintf(ret, TIME_TEXT, "%04d-%02d-%02d %02d:%02d UTC", t->year, t->mon, t->day, t->hour,
		 t->min);
}

static void clock_text(int64_t now, char ret[TIME_TEXT])
{
	time_t t = (time_t)now;
	struct tm tm = {0};

	gmtime_r(&t, &tm);
	strftime(ret, TIME_TEXT, "%Y-%m-%d %H:%M UTC", &tm);
}

/* A name or an address out of a certificate, of letters that can be shown. */
static bool host_text(const mbedtls_x509_buf *san, char ret[HOST_TEXT])
{
	if (san->tag == SAN_ADDRESS && (san->len == 4 || san->len == 16))
		return inet_ntop(san->len == 4 ? AF_INET : AF_INET6, san->p, ret, HOST_TEXT);
	if (san->tag != SAN_DNS)
		return false;
	snprintf(ret, HOST_TEXT, "%.*s", (int)MIN(san->len, (size_t)HOST_TEXT), san->p);
	for (char *p = ret; *p; p++) {
		if (*p <= ' ' || *p > '~')
			*p = '?';
	}
	return true;
}

/* "for a.example, b.example, ", or empty where it names no host. */
static void hosts_text(const mbedtls_x509_crt *crt, char *ret, size_t size)
{
	unsigned n = 0;
	size_t at = 0;

	ret[0] = '\0';
	for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s; s = s->next) {
		char host[HOST_TEXT];

		if (!host_text(&s->buf, host))
			continue;
		if (n++ < HOSTS_SHOWN && at < size)
			at += (size_t)snprintf(ret + at, size - at, "%s%s, ", n == 1 ? "for " : "",
					       host);
	}
	if (n > HOSTS_SHOWN && at < size)
		snprintf(ret + at, size - at, "and %u more, ", n - HOSTS_SHOWN);
}

/* "the server's certificate", or that of a CA on the way up from it. */
static void whose_text(const struct finding *f, const char *has, char *ret, size_t size)
{
	char subject[NAME_TEXT];

	name_text(&f->crt->subject, subject);
	if (f->depth == 0)
		snprintf(ret, size, "the server's certificate %s: %s", has, subject);
	else
		snprintf(ret, size, "the certificate of %s, which signs the server's, %s", subject,
			 has);
}

static void unknown_text(const struct chain *chain, const struct finding *f, char *ret, size_t size)
{
	char subject[NAME_TEXT], issuer[NAME_TEXT];
	const mbedtls_x509_buf *of = &f->crt->subject_raw, *by = &f->crt->issuer_raw;

	(void)chain;
	name_text(&f->crt->subject, subject);
	name_text(&f->crt->issuer, issuer);
	if (of->len != by->len || memcmp(of->p, by->p, of->len) != 0)
		snprintf(ret, size,
			 "the server's certificate is signed by an unknown CA: %s by %s: is "
			 "uplink.ca_file the right one?",
			 subject, issuer);
	else if (f->depth > 0)
		snprintf(ret, size,
			 "the server's certificate is signed by an unknown CA: %s: is "
			 "uplink.ca_file the right one?",
			 subject);
	else
		snprintf(ret, size,
			 "the server's certificate is self-signed and not in uplink.ca_file: %s",
			 subject);
}

static void host_mismatch_text(const struct chain *chain, const struct finding *f, char *ret,
			       size_t size)
{
	char subject[NAME_TEXT], hosts[HOSTS_SHOWN * HOST_TEXT];

	name_text(&f->crt->subject, subject);
	hosts_text(f->crt, hosts, sizeof(hosts));
	snprintf(ret, size, "the server's certificate is for another host: %s, %snot for %s",
		 subject, hosts, chain->host);
}

static void expired_text(const struct chain *chain, const struct finding *f, char *ret, size_t size)
{
	char whose[2 * NAME_TEXT], until[TIME_TEXT], now[TIME_TEXT];

	whose_text(f, "has expired", whose, sizeof(whose));
	time_text(&f->crt->valid_to, until);
	clock_text(chain->now, now);
	snprintf(ret, size, "%s, valid until %s; the hub's clock says %s", whose, until, now);
}

static void future_text(const struct chain *chain, const struct finding *f, char *ret, size_t size)
{
	char whose[2 * NAME_TEXT], from[TIME_TEXT], now[TIME_TEXT];

	whose_text(f, "is not valid yet", whose, sizeof(whose));
	time_text(&f->crt->valid_from, from);
	clock_text(chain->now, now);
	snprintf(ret, size, "%s, valid from %s; the hub's clock says %s%s", whose, from, now,
		 chain->now < UTIL_CLOCK_SET_S ? ", is it set?" : "");
}

static void weak_text(const struct chain *chain, const struct finding *f, char *ret, size_t size)
{
	(void)chain;
	whose_text(f,
		   f->flags & MBEDTLS_X509_BADCERT_BAD_MD
			   ? "is signed with a hash that is too weak"
			   : "has a key that is too weak, or of a kind that is not taken",
		   ret, size);
}

static void usage_text(const struct chain *chain, const struct finding *f, char *ret, size_t size)
{
	(void)chain;
	whose_text(f, f->depth == 0 ? "is not made for a TLS server" : "is not made to sign others",
		   ret, size);
}

static void other_text(const struct chain *chain, const struct finding *f, char *ret, size_t size)
{
	char has[48];

	(void)chain;
	snprintf(has, sizeof(has), "is not accepted (mbedTLS flags 0x%x)", (unsigned)f->flags);
	whose_text(f, has, ret, size);
}

/* The gravest first: with an unknown CA nothing else it says counts. */
static const struct {
	uint32_t flags;
	bool unset_clock; /* only with a clock that was never set: it explains the rest */
	enum failure_cause cause;
	void (*text)(const struct chain *chain, const struct finding *f, char *ret, size_t size);
} ranks[] = {
	{MBEDTLS_X509_BADCERT_FUTURE, true, FAILURE_CLOCK, future_text},
	{MBEDTLS_X509_BADCERT_NOT_TRUSTED, false, FAILURE_UNKNOWN_CA, unknown_text},
	{MBEDTLS_X509_BADCERT_CN_MISMATCH, false, FAILURE_OTHER_HOST, host_mismatch_text},
	{MBEDTLS_X509_BADCERT_EXPIRED, false, FAILURE_EXPIRED, expired_text},
	{MBEDTLS_X509_BADCERT_FUTURE, false, FAILURE_NOT_YET_VALID, future_text},
	{WEAK_FLAGS, false, FAILURE_BAD_CERTIFICATE, weak_text},
	{USAGE_FLAGS, false, FAILURE_BAD_CERTIFICATE, usage_text},
	{UINT32_MAX, false, FAILURE_BAD_CERTIFICATE, other_text},
};

static void note(struct chain *chain, const struct finding *f)
{
	for (unsigned i = 0; i < ARRAY_SIZE(ranks); i++) {
		if (!(f->flags & ranks[i].flags) ||
		    (ranks[i].unset_clock && chain->now >= UTIL_CLOCK_SET_S))
			continue;
		if (chain->rank > 0 && chain->rank <= i + 1)
			return;
		chain->rank = i + 1;
		chain->cause = ranks[i].cause;
		ranks[i].text(chain, f, chain->text, sizeof(chain->text));
		return;
	}
}

static void check_pin(struct chain *chain, const mbedtls_x509_crt *crt)
{
	char text[PIN_TEXT], subject[NAME_TEXT];
	struct pin pin;

	if (pin_of_key(crt->pk_raw.p, crt->pk_raw.len, &pin) < 0)
		return; /* out of memory or the like: nothing to blame the server for */
	if (pin_in(&pin, chain->pins, chain->n_pins))
		return;
	pin_text(&pin, text);
	name_text(&crt->subject, subject);
	chain->rank = 1;
	chain->cause = FAILURE_PIN;
	snprintf(chain->text, sizeof(chain->text),
		 "the server's key is none of uplink.pins: it is %s, of %s", text, subject);
}

bool chain_has_address(const mbedtls_x509_crt *crt, const char *address)
{
	uint8_t bytes[sizeof(struct in6_addr)];
	size_t len = inet_pton(AF_INET, address, bytes) == 1 ? 4 : 16;

	if (len == 16 && inet_pton(AF_INET6, address, bytes) != 1)
		return false;
	for (const mbedtls_x509_sequence *s = &crt->subject_alt_names; s; s = s->next) {
		if (s->buf.tag == SAN_ADDRESS && s->buf.len == len &&
		    memcmp(s->buf.p, bytes, len) == 0)
			return true;
	}
	return false;
}

bool chain_is_address(const char *host)
{
	uint8_t bytes[sizeof(struct in6_addr)];

	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

int chain_on_certificate(void *userdata, mbedtls_x509_crt *crt, int depth, uint32_t *flags)
{
	struct chain *chain = userdata;

	if (chain->n_pins > 0) {
		*flags = 0;
		if (depth == 0)
			check_pin(chain, crt);
		return chain->rank > 0 ? MBEDTLS_ERR_X509_FATAL_ERROR : 0;
	}
	if (depth == 0 && chain_is_address(chain->host) && !chain_has_address(crt, chain->host))
		*flags |= MBEDTLS_X509_BADCERT_CN_MISMATCH;
	/* mbedTLS looks at this too, but only afterwards, where the certificate is not at hand. */
	if (depth == 0 &&
	    mbedtls_x509_crt_check_extended_key_usage(
		    crt, MBEDTLS_OID_SERVER_AUTH, MBEDTLS_OID_SIZE(MBEDTLS_OID_SERVER_AUTH)) != 0)
		*flags |= MBEDTLS_X509_BADCERT_EXT_KEY_USAGE;
	note(chain, &(struct finding){.crt = crt, .depth = depth, .flags = *flags});
	return 0;
}

void chain_on_flags(struct chain *chain, uint32_t flags)
{
	if (chain->rank > 0 || flags == 0)
		return;
	chain->rank = ARRAY_SIZE(ranks);
	chain->cause = FAILURE_BAD_CERTIFICATE;
	snprintf(chain->text, sizeof(chain->text),
		 "the server's certificate is not accepted (mbedTLS flags 0x%x)", (unsigned)flags);
}
