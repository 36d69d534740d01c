/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/identity_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include <mbedtls/x509_csr.h>

#include "agent/util.h"
#include "tests/unit/common.h"

/* The key of RFC 6979, section A.2.5, and what openssl says of it. */
#define KEY                                                                                        \
	"-----BEGIN EC PRIVATE KEY-----\n"                                                         \
	"MHcCAQEEIMmvqdhFunUWa1whV2ex1pNOUMPbNuibEnuKYisSD2choAoGCCqGSM49\n"                       \
	"AwEHoUQDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Z5A/4QCLi8\n"                       \
	"maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==\n"                                                   \
	"-----END EC PRIVATE KEY-----\n"
#define PUBLIC                                                                                     \
	"-----BEGIN PUBLIC KEY-----\n"                                                             \
	"MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7\n"                       \
	"Yfps5mliLmDyn7Z5A/4QCLi8maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==\n"                           \
	"-----END PUBLIC KEY-----\n"
#define FINGERPRINT "sha256//Wnp4zKSg9CDZvGK7Zpw8J1njn3I9OuENy+DwgVoH7NQ="
#define NAME	    "CN=b18b86ce-1389-846d-a87a-a4a5131ce83c"

static struct identity identity;

static int setup(void **state)
{
	char path[sizeof(directory) + 16], error[IDENTITY_ERROR];
	int r;

	if (make_directory(state) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/%s", directory, IDENTITY_FILE);
	if (util_replace_file(path, 0600, KEY, strlen(KEY)) < 0)
		return -1;
	r = identity_read(directory, &identity, error);
	unlink(path);
	return r;
}

static int teardown(void **state)
{
	identity_done(&identity);
	return remove_directory(state);
}

static void public_key_and_fingerprint(void **state)
{
	char pem[IDENTITY_TEXT_PEM], fingerprint[PIN_TEXT];

	(void)state;
	assert_int_equal(identity_text_public(&identity, pem), 0);
	assert_string_equal(pem, PUBLIC);
	assert_int_equal(identity_text_fingerprint(&identity, fingerprint), 0);
	assert_string_equal(fingerprint, FINGERPRINT);
}

#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#define SIGNATURE(csr) ((csr)->MBEDTLS_PRIVATE(sig))
#else
#define SIGNATURE(csr) ((csr)->sig)
#endif

static void parse(const char *pem, mbedtls_x509_csr *ret)
{
	mbedtls_x509_csr_init(ret);
	assert_int_equal(mbedtls_x509_csr_parse(ret, (const uint8_t *)pem, strlen(pem) + 1), 0);
}

static void check(mbedtls_x509_csr *csr)
{
	uint8_t spki[IDENTITY_TEXT_SPKI_LEN], hash[32];
	char name[128];

	assert_true(mbedtls_x509_dn_gets(name, sizeof(name), &csr->subject) > 0);
	assert_string_equal(name, NAME);
	identity_text_spki(&identity, spki);
	assert_non_null(memmem(csr->cri.p, csr->cri.len, spki, sizeof(spki)));
	mbedtls_md(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), csr->cri.p, csr->cri.len, hash);
	assert_int_equal(mbedtls_pk_verify(&csr->pk, MBEDTLS_MD_SHA256, hash, sizeof(hash),
					   SIGNATURE(csr).p, SIGNATURE(csr).len),
			 0);
}

/* Of the numbers of a signature every other begins with a set bit, and one in 256 with a zero byte:
 * all forms are among these. Verifying takes long. */
static void requests_are_good(void **state)
{
	(void)state;
	for (int i = 0; i < 600; i++) {
		char pem[IDENTITY_TEXT_PEM];
		mbedtls_x509_csr csr;

		assert_int_equal(identity_text_csr(&identity, pem), 0);
		parse(pem, &csr);
		if (i < 10 || SIGNATURE(&csr).len < 70)
			check(&csr);
		mbedtls_x509_csr_free(&csr);
	}
}

static void without_a_key_there_is_no_request(void **state)
{
	const struct identity none = {0};
	char pem[IDENTITY_TEXT_PEM];

	(void)state;
	assert_int_equal(identity_text_csr(&none, pem), -EIO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(public_key_and_fingerprint),
		cmocka_unit_test(requests_are_good),
		cmocka_unit_test(without_a_key_there_is_no_request),
	};

	return cmocka_run_group_tests_name("identity_text", tests, setup, teardown);
}
