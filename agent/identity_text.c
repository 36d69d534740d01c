/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/identity_text.h"

#include <errno.h>
#include <string.h>

#include <mbedtls/pem.h>

#include "agent/util.h"

#define SPKI_POINT_AT (IDENTITY_TEXT_SPKI_LEN - IDENTITY_PUBLIC_LEN)
static const uint8_t spki_template[SPKI_POINT_AT] = {
	0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, /* EC */
	0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, /* prime256v1 */
	0x03, 0x42, 0x00,
};

/*
 * CertificationRequestInfo (RFC 2986, section 4.1): the name and the key follow, both of a fixed
 * length, and no attributes. mbedTLS could write a whole request, but only where it has the private
 * key itself, which has no business outside of PSA.
 */
static const uint8_t info_head[] = {
	0x30, 0x81, 0x91, 0x02, 0x01, 0x00, /* version */
	0x30, 0x2f, 0x31, 0x2d, 0x30, 0x2b, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x24, /* CN */
};
static const uint8_t info_tail[] = {0xa0, 0x00};
#define NAME_LEN (UTIL_UUID_TEXT - 1)
#define INFO_LEN (sizeof(info_head) + NAME_LEN + IDENTITY_TEXT_SPKI_LEN + sizeof(info_tail))

static const uint8_t ecdsa_with_sha256[] = {0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86,
					    0x48, 0xce, 0x3d, 0x04, 0x03, 0x02};

#define SIGNATURE_MAX 75 /* of a BIT STRING with two integers of at most 33 bytes */
#define CSR_MAX	      (3 + INFO_LEN + sizeof(ecdsa_with_sha256) + SIGNATURE_MAX)

/* INTEGER of 32 bytes, big endian. Returns its length. */
static size_t put_integer(uint8_t *ret, const uint8_t number[32])
{
	size_t skip = 0, sign;

	while (skip < 31 && number[skip] == 0)
		skip++;
	sign = number[skip] >> 7; /* without a zero before it, it would be negative */
	ret[0] = 0x02;
	ret[1] = (uint8_t)(32 - skip + sign);
	ret[2] = 0;
	memcpy(ret + 2 + sign, number + skip, 32 - skip);
	return 2 + sign + 32 - skip;
}

/* BIT STRING of an ECDSA-Sig-Value (RFC 3279, section 2.2.3). Returns its length. */
static size_t put_signature(uint8_t ret[SIGNATURE_MAX], const uint8_t signature[64])
{
	size_t len = put_integer(ret + 5, signature);

	len += put_integer(ret + 5 + len, signature + 32);
	ret[0] = 0x03;
	ret[1] = (uint8_t)(len + 3);
	ret[2] = 0;
	ret[3] = 0x30;
	ret[4] = (uint8_t)len;
	return 5 + len;
}

void identity_text_spki(const struct identity *identity, uint8_t ret[IDENTITY_TEXT_SPKI_LEN])
{
	memcpy(ret, spki_template, SPKI_POINT_AT);
	memcpy(ret + SPKI_POINT_AT, identity->public_key, IDENTITY_PUBLIC_LEN);
}

int identity_text_fingerprint(const struct identity *identity, char ret[PIN_TEXT])
{
	uint8_t spki[IDENTITY_TEXT_SPKI_LEN];
	struct pin pin;
	int r;

	identity_text_spki(identity, spki);
	r = pin_of_key(spki, sizeof(spki), &pin);
	if (r == 0)
		pin_text(&pin, ret);
	return r;
}

static int to_pem(const char *begin, const char *end, const uint8_t *der, size_t len, char *ret)
{
	size_t n;

	return mbedtls_pem_write_buffer(begin, end, der, len, (unsigned char *)ret,
					IDENTITY_TEXT_PEM, &n) == 0
		       ? 0
		       : -EIO;
}

int identity_text_public(const struct identity *identity, char ret[IDENTITY_TEXT_PEM])
{
	uint8_t spki[IDENTITY_TEXT_SPKI_LEN];

	identity_text_spki(identity, spki);
	return to_pem("-----BEGIN PUBLIC KEY-----\n", "-----END PUBLIC KEY-----\n", spki,
		      sizeof(spki), ret);
}

static void put_info(const struct identity *identity, uint8_t *ret)
{
	char name[UTIL_UUID_TEXT];

	util_uuid_text(identity->hotspot_id, name);
	memcpy(ret, info_head, sizeof(info_head));
	ret += sizeof(info_head);
	memcpy(ret, name, NAME_LEN);
	ret += NAME_LEN;
	identity_text_spki(identity, ret);
	ret += IDENTITY_TEXT_SPKI_LEN;
	memcpy(ret, info_tail, sizeof(info_tail));
}

int identity_text_csr(const struct identity *identity, char ret[IDENTITY_TEXT_PEM])
{
	uint8_t csr[CSR_MAX], signature[64];
	uint8_t *info = csr + 3, *p = info + INFO_LEN;
	int r;

	put_info(identity, info);
	r = identity_sign(identity, info, INFO_LEN, signature);
	if (r < 0)
		return r;
	memcpy(p, ecdsa_with_sha256, sizeof(ecdsa_with_sha256));
	p += sizeof(ecdsa_with_sha256);
	p += put_signature(p, signature);
	csr[0] = 0x30;
	csr[1] = 0x81; /* one byte of length follows */
	csr[2] = (uint8_t)(p - info);
	return to_pem("-----BEGIN CERTIFICATE REQUEST-----\n",
		      "-----END CERTIFICATE REQUEST-----\n", csr, (size_t)(p - csr), ret);
}
