/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wrong with the certificates a TLS server shows, in words. A server's certificate is
 * verified by mbedTLS; this is its verify callback, and keeps the gravest of what is said there.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <mbedtls/x509_crt.h>

#include "uplink/failure.h"

struct pin;

#define CHAIN_TEXT 400

struct chain {
	const char *host; /* whose certificate it should be, name or address; not owned */
	int64_t now; /* by the hub's clock, Unix time */
	const struct pin *pins; /* where there are any, only they count; not owned */
	size_t n_pins;
	unsigned rank; /* of what text says, the gravest is 1; 0: nothing is wrong */
	enum failure_cause cause; /* of text */
	char text[CHAIN_TEXT];
};

/* For mbedtls_ssl_conf_verify, with a struct chain. mbedTLS calls it for each certificate, the
 * server's own (depth 0) last. An address in host is checked in here, as mbedTLS 2.28 cannot: it is
 * not to be told of it. */
int chain_on_certificate(void *chain, mbedtls_x509_crt *crt, int depth, uint32_t *flags);
/* mbedTLS does not like something that it does not tell the callback. */
void chain_on_flags(struct chain *chain, uint32_t flags);
/* Whether host is an IP address, no name. */
bool chain_is_address(const char *host);
/* Whether the certificate is for that address. */
bool chain_has_address(const mbedtls_x509_crt *crt, const char *address);
