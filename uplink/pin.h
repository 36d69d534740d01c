/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pin of a public key: SHA-256 of its SubjectPublicKeyInfo (RFC 7469, section 2.4), written
 * "sha256//" and base64 as curl writes it. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIN_LEN	 32
#define PIN_TEXT (sizeof("sha256//") + 44) /* NUL included */

struct pin {
	uint8_t hash[PIN_LEN];
};

/* Returns 0, or -EINVAL for text that is no pin; *ret is untouched then. */
int pin_parse(const char *text, struct pin *ret);
void pin_text(const struct pin *pin, char ret[PIN_TEXT]);
/* Of a SubjectPublicKeyInfo in DER. Returns 0 or -EIO. */
int pin_of_key(const uint8_t *der, size_t len, struct pin *ret);
/* Of the key in a certificate in DER. Returns 0 or -EINVAL. */
int pin_of_certificate(const uint8_t *der, size_t len, struct pin *ret);
/* Whether pin is one of those n. */
bool pin_in(const struct pin *pin, const struct pin *pins, size_t n);
