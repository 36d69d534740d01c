/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/pin.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <mbedtls/base64.h>
#include <mbedtls/x509_crt.h>
#include <psa/crypto.h>

#define PREFIX	   "sha256//"
#define BASE64_LEN (PIN_TEXT - sizeof(PREFIX))

int pin_parse(const char *text, struct pin *ret)
{
	char again[PIN_TEXT];
	struct pin pin;
	size_t len;

	if (strlen(text) != PIN_TEXT - 1 || strncmp(text, PREFIX, strlen(PREFIX)) != 0)
		return -EINVAL;
	if (mbedtls_base64_decode(pin.hash, sizeof(pin.hash), &len,
				  (const unsigned char *)text + strlen(PREFIX), BASE64_LEN) != 0 ||
	    len != sizeof(pin.hash))
		return -EINVAL;
	/* Each pin has one text: mbedTLS takes line breaks, and bits that are left over. */
	pin_text(&pin, again);
	if (strcmp(text, again) != 0)
		return -EINVAL;
	*ret = pin;
	return 0;
}

void pin_text(const struct pin *pin, char ret[PIN_TEXT])
{
	size_t len;

	memcpy(ret, PREFIX, sizeof(PREFIX));
	mbedtls_base64_encode((unsigned char *)ret + strlen(PREFIX), PIN_TEXT - strlen(PREFIX),
			      &len, pin->hash, sizeof(pin->hash));
}

int pin_of_key(const uint8_t *der, size_t len, struct pin *ret)
{
	struct pin pin;
	size_t n;

	if (psa_crypto_init() != PSA_SUCCESS ||
	    psa_hash_compute(PSA_ALG_SHA_256, der, len, pin.hash, sizeof(pin.hash), &n) !=
		    PSA_SUCCESS)
		return -EIO;
	*ret = pin;
	return 0;
}

int pin_of_certificate(const uint8_t *der, size_t len, struct pin *ret)
{
	mbedtls_x509_crt crt;
	int r = -EINVAL;

	/* On 3.6 the parser may want PSA for the key. */
	if (psa_crypto_init() != PSA_SUCCESS)
		return -EINVAL;
	mbedtls_x509_crt_init(&crt);
	if (mbedtls_x509_crt_parse_der(&crt, der, len) == 0 &&
	    pin_of_key(crt.pk_raw.p, crt.pk_raw.len, ret) == 0)
		r = 0;
	mbedtls_x509_crt_free(&crt);
	return r;
}

bool pin_in(const struct pin *pin, const struct pin *pins, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (memcmp(pin->hash, pins[i].hash, sizeof(pin->hash)) == 0)
			return true;
	}
	return false;
}
