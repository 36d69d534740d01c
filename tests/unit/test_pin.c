/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/pin.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

/* Made with openssl x509 -noout -pubkey | openssl pkey -pubin -outform der, the pin of it with
 * openssl dgst -sha256 -binary | base64. */
static const char certificate_hex[] =
	"3082018b30820131a00302010202146b9599940ccea7383fbf4ec2aa4800349dcec8d1300a06"
	"082a8648ce3d040302301a3118301606035504030c0f6875622e6578616d706c652e636f6d30"
	"20170d3236313132333137343431365a180f32313236313033303137343431365a301a311830"
	"1606035504030c0f6875622e6578616d706c652e636f6d3059301306072a8648ce3d02010608"
	"2a8648ce3d03010703420004bb4c3968bbd55886b5ad6068bfd2b5385b2368c3aeabdfca3a5d"
	"6e763d1043fccb5722dc55449dd56f21252bf2683f591c343a022464cb1df6f591c1b8099d04"
	"a3533051301d0603551d0e0416041455a4ddec7c848b1f8e8e71697f8f1d7d4ef00549301f06"
	"03551d2304183016801455a4ddec7c848b1f8e8e71697f8f1d7d4ef00549300f0603551d1301"
	"01ff040530030101ff300a06082a8648ce3d04030203480030450220658147d561e9fd0094d1"
	"bff093e5c6eea205779d232549049f8e9f19c72b2ab2022100af86b03df5dce8a2d37341e3e9"
	"1e9fc5c91177f4e64985c0664d4cf7e9e1554a";
static const char key_hex[] =
	"3059301306072a8648ce3d020106082a8648ce3d03010703420004bb4c3968bbd55886b5ad60"
	"68bfd2b5385b2368c3aeabdfca3a5d6e763d1043fccb5722dc55449dd56f21252bf2683f591c"
	"343a022464cb1df6f591c1b8099d04";
static const char hash_hex[] = "0a63725474bb7d2a0235e53b6b2465616fdf0d13d8a4ede0b07e2fce0f306160";
static const char text[] = "sha256//CmNyVHS7fSoCNeU7ayRlYW/fDRPYpO3gsH4vzg8wYWA=";

static struct pin expected(void)
{
	struct pin pin;
	size_t len;
	uint8_t *hash = unhex(hash_hex, &len);

	assert_int_equal(len, sizeof(pin.hash));
	memcpy(pin.hash, hash, len);
	free(hash);
	return pin;
}

static void is_the_one_of_openssl(void **state)
{
	const struct pin pin = expected();
	struct pin of_key, of_certificate, parsed;
	char again[PIN_TEXT];
	uint8_t *der;
	size_t len;

	(void)state;
	der = unhex(key_hex, &len);
	assert_int_equal(pin_of_key(der, len, &of_key), 0);
	free(der);
	der = unhex(certificate_hex, &len);
	assert_int_equal(pin_of_certificate(der, len, &of_certificate), 0);
	free(der);
	assert_int_equal(pin_parse(text, &parsed), 0);
	assert_memory_equal(&of_key, &pin, sizeof(pin));
	assert_memory_equal(&of_certificate, &pin, sizeof(pin));
	assert_memory_equal(&parsed, &pin, sizeof(pin));
	pin_text(&pin, again);
	assert_string_equal(again, text);
}

static void texts_go_there_and_back(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 256; i++) {
		struct pin pin, parsed;
		char there[PIN_TEXT];

		memset(pin.hash, (int)i, sizeof(pin.hash));
		pin_text(&pin, there);
		assert_int_equal(strlen(there), PIN_TEXT - 1);
		assert_int_equal(pin_parse(there, &parsed), 0);
		assert_memory_equal(&parsed, &pin, sizeof(pin));
	}
}

static void refuses_other_texts(void **state)
{
#define ZEROS "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" /* 42 */
	static const char *const texts[] = {
		"",
		"sha256//",
		ZEROS "A=",
		"sha256/" ZEROS "A=",
		"SHA256//" ZEROS "A=",
		"sha256:/" ZEROS "A=",
		" sha256//" ZEROS "A=",
		"sha256//" ZEROS "A= ",
		"sha256//" ZEROS "A=\n",
		"sha256//" ZEROS "A",
		"sha256//" ZEROS "=",
		"sha256//" ZEROS "==", /* 31 bytes */
		"sha256//" ZEROS "AA", /* 33 bytes */
		"sha256//" ZEROS "B=", /* not the text of any bytes: RFC 4648, section 3.5 */
		"sha256//" ZEROS "A=A",
		"sha256//" ZEROS "A==",
		"sha256//" ZEROS "-=",
		"sha256//\n" ZEROS "=",
		"sha256//" ZEROS "\n=",
		"sha256//" ZEROS "AA=;sha256//" ZEROS "AA=",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct pin pin, before;

		memset(&pin, 0xaa, sizeof(pin));
		memset(&before, 0xaa, sizeof(before));
		if (pin_parse(texts[i], &pin) != -EINVAL)
			fail_msg("\"%s\" was accepted", texts[i]);
		assert_memory_equal(&pin, &before, sizeof(pin));
	}
}

/* Cut anywhere, it is none. */
static void refuses_what_is_no_certificate(void **state)
{
	size_t len;
	uint8_t *der = unhex(certificate_hex, &len);

	(void)state;
	for (size_t n = 0; n < len; n++) {
		uint8_t *cut =
			malloc(n + 1); /* of exactly its length, so that ASan sees an overrun */
		struct pin pin, before;

		assert_non_null(cut);
		memcpy(cut + 1, der, n);
		memset(&pin, 0xaa, sizeof(pin));
		memset(&before, 0xaa, sizeof(before));
		assert_int_equal(pin_of_certificate(cut + 1, n, &pin), -EINVAL);
		assert_memory_equal(&pin, &before, sizeof(pin));
		free(cut);
	}
	free(der);
}

static void is_found_among_others(void **state)
{
	const struct pin pin = expected();
	struct pin pins[3] = {{{1}}, {{2}}, pin};

	(void)state;
	assert_true(pin_in(&pin, pins, 3));
	assert_false(pin_in(&pin, pins, 2));
	assert_false(pin_in(&pin, NULL, 0));
	pins[2].hash[PIN_LEN - 1] ^= 1;
	assert_false(pin_in(&pin, pins, 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_the_one_of_openssl),
		cmocka_unit_test(texts_go_there_and_back),
		cmocka_unit_test(refuses_other_texts),
		cmocka_unit_test(refuses_what_is_no_certificate),
		cmocka_unit_test(is_found_among_others),
	};

	return cmocka_run_group_tests_name("pin", tests, NULL, NULL);
}
