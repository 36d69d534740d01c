/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mbedtls/pk.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/version.h>
#include <psa/crypto.h>

#include "agent/log.h"
#include "agent/util.h"

#define SCALAR_LEN 32
#define FILE_MAX   4096

/* ECPrivateKey (RFC 5915, section 3) of a P-256 key: all but the numbers is constant. */
#define DER_LEN	      121
#define DER_SCALAR_AT 7
#define DER_POINT_AT  56
static const uint8_t der_template[DER_LEN] = {
	0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20, [DER_SCALAR_AT + SCALAR_LEN] = 0xa0,
	0x0a, 0x06, 0x08, /* parameters: prime256v1 */
	0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
	0xa1, 0x44, 0x03, 0x42, 0x00, /* publicKey */
};

static int refuse(char *error, int r, const char *path, const char *what)
{
	snprintf(error, IDENTITY_ERROR, "%s: %s", path, what);
	return r;
}

static int import(const uint8_t scalar[SCALAR_LEN], struct identity *identity)
{
	psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
	psa_key_id_t key;

	psa_set_key_type(&attributes, PSA_KEY_TYPE_ECC_KEY_PAIR(PSA_ECC_FAMILY_SECP_R1));
	psa_set_key_bits(&attributes, 256);
	psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_SIGN_MESSAGE);
	psa_set_key_algorithm(&attributes, PSA_ALG_ECDSA(PSA_ALG_SHA_256));
	if (psa_import_key(&attributes, scalar, SCALAR_LEN, &key) != PSA_SUCCESS)
		return -EINVAL;
	identity->key = key;
	return 0;
}

/* Fills in the public half of an imported key. */
static int derive_public(struct identity *identity)
{
	uint8_t hash[32];
	size_t len;

	if (psa_export_public_key(identity->key, identity->public_key, IDENTITY_PUBLIC_LEN, &len) !=
		    PSA_SUCCESS ||
	    len != IDENTITY_PUBLIC_LEN ||
	    psa_hash_compute(PSA_ALG_SHA_256, identity->public_key, IDENTITY_PUBLIC_LEN, hash,
			     sizeof(hash), &len) != PSA_SUCCESS)
		return -EIO;
	memcpy(identity->hotspot_id, hash, sizeof(identity->hotspot_id));
	identity->hotspot_id[6] =
		(identity->hotspot_id[6] & 0x0f) | 0x80; /* RFC 9562, section 5.8 */
	identity->hotspot_id[8] = (identity->hotspot_id[8] & 0x3f) | 0x80;
	return 0;
}

#if MBEDTLS_VERSION_MAJOR >= 3
static int psa_random(void *context, unsigned char *buf, size_t len)
{
	(void)context;
	return psa_generate_random(buf, len) == PSA_SUCCESS ? 0 : -1;
}
#endif

static int parse(mbedtls_pk_context *pk, const char *pem, size_t len)
{
	const unsigned char *p = (const unsigned char *)pem;

#if MBEDTLS_VERSION_MAJOR >= 3
	return mbedtls_pk_parse_key(pk, p, len, NULL, 0, psa_random, NULL);
#else
	return mbedtls_pk_parse_key(pk, p, len, NULL, 0);
#endif
}

/* Whatever form the key came in, mbedTLS writes it as der_template has it. */
static int scalar_of(mbedtls_pk_context *pk, uint8_t ret[SCALAR_LEN])
{
	uint8_t der[256];
	const uint8_t *p;
	int n = mbedtls_pk_write_key_der(pk, der, sizeof(der));
	int r = -EINVAL;

	p = der + sizeof(der) - DER_LEN;
	if (n == DER_LEN && memcmp(p, der_template, DER_SCALAR_AT) == 0 &&
	    memcmp(p + DER_SCALAR_AT + SCALAR_LEN, der_template + DER_SCALAR_AT + SCALAR_LEN,
		   DER_POINT_AT - DER_SCALAR_AT - SCALAR_LEN) == 0) {
		memcpy(ret, p + DER_SCALAR_AT, SCALAR_LEN);
		r = 0;
	}
	mbedtls_platform_zeroize(der, sizeof(der));
	return r;
}

static int decode(const char *pem, size_t len, struct identity *identity)
{
	uint8_t scalar[SCALAR_LEN];
	mbedtls_pk_context pk;
	int r;

	mbedtls_pk_init(&pk);
	/* The length mbedTLS wants of PEM counts the NUL. */
	r = parse(&pk, pem, len + 1) == 0 ? scalar_of(&pk, scalar) : -EINVAL;
	mbedtls_pk_free(&pk);
	if (r == 0)
		r = import(scalar, identity);
	mbedtls_platform_zeroize(scalar, sizeof(scalar));
	return r < 0 ? r : derive_public(identity);
}

static int read_key(const char *path, int fd, struct identity *identity, char *error)
{
	_cleanup_free_ char *pem = NULL;
	ssize_t len = util_read_fd(fd, FILE_MAX, &pem);
	int r;

	if (len < 0)
		return refuse(error, (int)len, path, strerror((int)-len));
	r = decode(pem, (size_t)len, identity);
	explicit_bzero(pem, (size_t)len);
	if (r == 0)
		return 0;
	return refuse(error, r, path,
		      "not a P-256 private key in PEM; put the hotspot's own key back from a "
		      "backup, or remove the file to give the hotspot a new identity");
}

/* Encodes the key as PEM. */
static int encode(const uint8_t scalar[SCALAR_LEN], const struct identity *identity, char *ret_pem,
		  size_t size)
{
	uint8_t der[DER_LEN];
	mbedtls_pk_context pk;
	int r;

	memcpy(der, der_template, sizeof(der));
	memcpy(der + DER_SCALAR_AT, scalar, SCALAR_LEN);
	memcpy(der + DER_POINT_AT, identity->public_key, IDENTITY_PUBLIC_LEN);
	mbedtls_pk_init(&pk);
	r = parse(&pk, (const char *)der, sizeof(der));
	if (r == 0)
		r = mbedtls_pk_write_key_pem(&pk, (unsigned char *)ret_pem, size);
	mbedtls_pk_free(&pk);
	mbedtls_platform_zeroize(der, sizeof(der));
	return r == 0 ? 0 : -EIO;
}

static int generate(uint8_t ret_scalar[SCALAR_LEN])
{
	psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
	psa_key_id_t key;
	size_t len;
	int r;

	psa_set_key_type(&attributes, PSA_KEY_TYPE_ECC_KEY_PAIR(PSA_ECC_FAMILY_SECP_R1));
	psa_set_key_bits(&attributes, 256);
	psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_EXPORT);
	if (psa_generate_key(&attributes, &key) != PSA_SUCCESS)
		return -EIO;
	r = psa_export_key(key, ret_scalar, SCALAR_LEN, &len) == PSA_SUCCESS && len == SCALAR_LEN
		    ? 0
		    : -EIO;
	psa_destroy_key(key);
	return r;
}

static int make_key(const char *path, struct identity *identity, char *error)
{
	uint8_t scalar[SCALAR_LEN];
	char pem[512] = "";
	int r = generate(scalar);

	if (r == 0)
		r = import(scalar, identity);
	if (r == 0)
		r = derive_public(identity);
	if (r == 0)
		r = encode(scalar, identity, pem, sizeof(pem));
	if (r == 0)
		r = util_replace_file(path, 0600, pem, strlen(pem));
	mbedtls_platform_zeroize(scalar, sizeof(scalar));
	mbedtls_platform_zeroize(pem, sizeof(pem));
	if (r < 0) {
		snprintf(error, IDENTITY_ERROR, "%s: cannot make the hotspot's key: %s", path,
			 strerror(-r));
		return r;
	}
	log_info("identity: made a new key in %s", path);
	return 0;
}

/* Refuses what somebody else could have written or read. any_owner: but not by whose it is. */
static int open_key(const char *path, bool any_owner, char *error)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	fd = util_open_regular(path, O_NOFOLLOW, &st);
	if (fd == -EPERM || (fd >= 0 && !any_owner && st.st_uid != geteuid())) {
		snprintf(error, IDENTITY_ERROR,
			 "%s: not a regular file of this process's user (uid %u): whoever wrote it "
			 "could be somebody else; chown it if it is the hotspot's own key",
			 path, (unsigned)geteuid());
		return -EPERM;
	}
	if (fd < 0)
		return refuse(error, fd, path, strerror(-fd));
	if (st.st_mode & 077) {
		snprintf(error, IDENTITY_ERROR,
			 "%s: others can read or write it (mode %04o): chmod 600 it if nobody has",
			 path, (unsigned)st.st_mode & 07777);
		return -EPERM;
	}
	return TAKE_FD(fd);
}

/* Returns a path to be freed, or NULL with the error told. */
static char *begin(const char *state_dir, struct identity *ret, char *error)
{
	_cleanup_free_ char *path = NULL;

	*ret = (struct identity){0};
	if (asprintf(&path, "%s/%s", state_dir, IDENTITY_FILE) < 0) {
		path = NULL;
		refuse(error, 0, state_dir, "out of memory");
		return NULL;
	}
	if (psa_crypto_init() != PSA_SUCCESS) {
		refuse(error, 0, path, "mbedTLS cannot start: no entropy?");
		return NULL;
	}
	return TAKE_PTR(path);
}

static int open_or_make(const char *path, struct identity *identity, char *error)
{
	_cleanup_close_ int fd = open_key(path, false, error);

	if (fd == -ENOENT)
		return make_key(path, identity, error);
	return fd < 0 ? fd : read_key(path, fd, identity, error);
}

int identity_load(const char *state_dir, struct identity *ret, char ret_error[IDENTITY_ERROR])
{
	_cleanup_free_ char *path = begin(state_dir, ret, ret_error);
	int r;

	if (!path)
		return -EIO;
	if (mkdir(state_dir, 0700) < 0 && errno != EEXIST)
		return refuse(ret_error, -errno, state_dir, strerror(errno));
	r = open_or_make(path, ret, ret_error);
	if (r < 0)
		identity_done(ret);
	return r;
}

int identity_read(const char *state_dir, struct identity *ret, char ret_error[IDENTITY_ERROR])
{
	_cleanup_free_ char *path = begin(state_dir, ret, ret_error);
	_cleanup_close_ int fd = -1;
	int r;

	if (!path)
		return -EIO;
	fd = open_key(path, geteuid() == 0, ret_error);
	if (fd == -ENOENT)
		return refuse(ret_error, fd, path,
			      "there is no key yet: start blecon-hotspotd once, it makes one");
	if (fd == -EACCES)
		return refuse(ret_error, fd, path,
			      "Permission denied: you must be root or the user it belongs to");
	if (fd < 0)
		return fd;
	r = read_key(path, fd, ret, ret_error);
	if (r < 0)
		identity_done(ret);
	return r;
}

void identity_done(struct identity *identity)
{
	if (identity->key != 0)
		psa_destroy_key(identity->key);
	*identity = (struct identity){0};
}

int identity_sign(const struct identity *identity, const uint8_t *data, size_t len,
		  uint8_t ret_signature[64])
{
	size_t n;

	if (psa_sign_message(identity->key, PSA_ALG_ECDSA(PSA_ALG_SHA_256), data, len,
			     ret_signature, 64, &n) != PSA_SUCCESS ||
	    n != 64)
		return -EIO;
	return 0;
}
