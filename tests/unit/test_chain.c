/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/chain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/certificates.h"

#define BOOT	 180 /* seconds after 1970: a hub whose clock nobody has set */
#define CLOCK_OK 1795453200 /* 2026-11-23 17:00 UTC */

#define EXPIRED	  MBEDTLS_X509_BADCERT_EXPIRED
#define FUTURE	  MBEDTLS_X509_BADCERT_FUTURE
#define UNTRUSTED MBEDTLS_X509_BADCERT_NOT_TRUSTED
#define MISMATCH  MBEDTLS_X509_BADCERT_CN_MISMATCH
#define BAD_MD	  MBEDTLS_X509_BADCERT_BAD_MD
#define BAD_KEY	  MBEDTLS_X509_BADCERT_BAD_KEY
#define USAGE	  MBEDTLS_X509_BADCERT_KEY_USAGE

static void show(struct chain *chain, const char *name, int depth, uint32_t flags)
{
	char path[CERTIFICATE_PATH];
	mbedtls_x509_crt crt;

	mbedtls_x509_crt_init(&crt);
	assert_int_equal(mbedtls_x509_crt_parse_file(&crt, certificate_path(name, path)), 0);
	assert_int_equal(chain_on_certificate(chain, &crt, depth, &flags), 0);
	mbedtls_x509_crt_free(&crt);
}

/* Of a CA and a server's certificate, each with what is wrong with it. */
static void tells_the_gravest(void **state)
{
	static const struct {
		uint32_t of_ca, of_server;
		int64_t now;
		enum failure_cause cause;
		const char *text;
	} vectors[] = {
		{0, 0, CLOCK_OK, FAILURE_UNKNOWN, ""},
		{0, FUTURE | UNTRUSTED | MISMATCH, BOOT, FAILURE_CLOCK,
		 "the server's certificate is not valid yet: CN=hub.example.com, valid from "
		 "2020-01-01 00:00 UTC; the hub's clock says 1970-01-01 00:03 UTC, is it set?"},
		{FUTURE, UNTRUSTED, BOOT, FAILURE_CLOCK,
		 "the certificate of CN=Old CA, which signs the server's, is not valid yet, valid "
		 "from 2020-01-01 00:00 UTC; the hub's clock says 1970-01-01 00:03 UTC, is it "
		 "set?"},
		{0, FUTURE | UNTRUSTED | MISMATCH, CLOCK_OK, FAILURE_UNKNOWN_CA,
		 "the server's certificate is signed by an unknown CA: CN=hub.example.com by "
		 "CN=Test CA: is uplink.ca_file the right one?"},
		{UNTRUSTED, MISMATCH, CLOCK_OK, FAILURE_UNKNOWN_CA,
		 "the server's certificate is signed by an unknown CA: CN=Old CA by CN=Test CA: "
		 "is uplink.ca_file the right one?"},
		{EXPIRED, MISMATCH | EXPIRED, CLOCK_OK, FAILURE_OTHER_HOST,
		 "the server's certificate is for another host: CN=hub.example.com, for "
		 "hub.example.com, b.example, 127.0.0.1, not for x.example"},
		{EXPIRED, FUTURE, CLOCK_OK, FAILURE_EXPIRED,
		 "the certificate of CN=Old CA, which signs the server's, has expired, valid until "
		 "2025-01-02 03:04 UTC; the hub's clock says 2026-11-23 17:00 UTC"},
		{BAD_MD, EXPIRED, CLOCK_OK, FAILURE_EXPIRED,
		 "the server's certificate has expired: CN=hub.example.com, valid until 2099-01-01 "
		 "00:00 UTC; the hub's clock says 2026-11-23 17:00 UTC"},
		{0, FUTURE, CLOCK_OK, FAILURE_NOT_YET_VALID,
		 "the server's certificate is not valid yet: CN=hub.example.com, valid from "
		 "2020-01-01 00:00 UTC; the hub's clock says 2026-11-23 17:00 UTC"},
		{BAD_MD, USAGE, CLOCK_OK, FAILURE_BAD_CERTIFICATE,
		 "the certificate of CN=Old CA, which signs the server's, is signed with a hash "
		 "that is too weak"},
		{USAGE, BAD_KEY, CLOCK_OK, FAILURE_BAD_CERTIFICATE,
		 "the server's certificate has a key that is too weak, or of a kind that is not "
		 "taken: CN=hub.example.com"},
		{USAGE, 0, CLOCK_OK, FAILURE_BAD_CERTIFICATE,
		 "the certificate of CN=Old CA, which signs the server's, is not made to sign "
		 "others"},
		{0, 0x100, CLOCK_OK, FAILURE_BAD_CERTIFICATE,
		 "the server's certificate is not accepted (mbedTLS flags 0x100): "
		 "CN=hub.example.com"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		struct chain chain = {.host = "x.example", .now = vectors[i].now};

		show(&chain, "old.pem", 1, vectors[i].of_ca);
		show(&chain, "good.pem", 0, vectors[i].of_server);
		assert_string_equal(chain.text, vectors[i].text);
		assert_int_equal(chain.cause, vectors[i].cause);
		assert_int_equal(chain.rank > 0, *vectors[i].text != '\0');
		/* Said where nothing else was. */
		chain_on_flags(&chain, *vectors[i].text ? USAGE : 0);
		assert_string_equal(chain.text, vectors[i].text);
	}
}

static void tells_what_the_callback_was_not_told(void **state)
{
	struct chain chain = {.host = "hub.example.com", .now = CLOCK_OK};

	(void)state;
	show(&chain, "good.pem", 0, 0);
	assert_int_equal(chain.rank, 0);
	chain_on_flags(&chain, USAGE);
	assert_true(chain.rank > 0);
	assert_int_equal(chain.cause, FAILURE_BAD_CERTIFICATE);
	assert_string_equal(chain.text,
			    "the server's certificate is not accepted (mbedTLS flags 0x800)");
}

/* What stands in a certificate is not ours: it stays one line, and short. */
static void shows_odd_names(void **state)
{
	static const struct {
		const char *name, *begins;
	} vectors[] = {
		{"long.pem", "the server's certificate is self-signed and not in uplink.ca_file: "
			     "O=0123456789012345678901234567890123456789, "},
		{"odd.pem",
		 "the server's certificate is self-signed and not in uplink.ca_file: CN=a"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		struct chain chain = {.host = "hub.example.com", .now = CLOCK_OK};

		show(&chain, vectors[i].name, 0, UNTRUSTED);
		assert_memory_equal(chain.text, vectors[i].begins, strlen(vectors[i].begins));
		assert_true(strlen(chain.text) < 170);
		for (const char *p = chain.text; *p; p++)
			assert_in_range(*p, ' ', '~');
	}
}

static void knows_addresses(void **state)
{
	(void)state;
	assert_true(chain_is_address("192.0.2.1"));
	assert_true(chain_is_address("2001:db8::1"));
	assert_false(chain_is_address("192.0.2.1.example"));
	assert_false(chain_is_address("[::1]"));
	assert_false(chain_is_address(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_the_gravest),
		cmocka_unit_test(tells_what_the_callback_was_not_told),
		cmocka_unit_test(shows_odd_names),
		cmocka_unit_test(knows_addresses),
	};

	return cmocka_run_group_tests_name("chain", tests, make_certificates, remove_certificates);
}
