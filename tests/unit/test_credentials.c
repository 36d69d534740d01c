/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/identity.h"
#include "agent/settings.h"
#include "agent/util.h"
#include "tests/unit/common.h"

/* For the key of RFC 6979, section A.2.5; of 2000 to 2125, to 2001, and from 2124. CA: for another
 * key, the one that has signed them. */
#define CERTIFICATE                                                                                \
	"-----BEGIN CERTIFICATE-----\n"                                                            \
	"MIIBLjCB1aADAgECAgEBMAoGCCqGSM49BAMCMBExDzANBgNVBAMMBkxhYiBjYTAg\n"                       \
	"Fw0wMDAxMDEwMDAwMDBaGA8yMTI1MDEwMTAwMDAwMFowLzEtMCsGA1UEAwwkYjE4\n"                       \
	"Yjg2Y2UtMTM4OS04NDZkLWE4N2EtYTRhNTEzMWNlODNjMFkwEwYHKoZIzj0CAQYI\n"                       \
	"KoZIzj0DAQcDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Z5A/4Q\n"                       \
	"CLi8maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimTAKBggqhkjOPQQDAgNIADBFAiEA\n"                       \
	"qLaDgUoQNqt9R/pYlTjQgCzvgZ2yNsTcBKv5M4cVYSQCIF/aEUK5wjs8izohBh4Z\n"                       \
	"reWk8HuADwRW453oHh7H1ZGU\n"                                                               \
	"-----END CERTIFICATE-----\n"
#define ENDED                                                                                      \
	"-----BEGIN CERTIFICATE-----\n"                                                            \
	"MIIBLTCB06ADAgECAgEBMAoGCCqGSM49BAMCMBExDzANBgNVBAMMBkxhYiBjYTAe\n"                       \
	"Fw0wMDAxMDEwMDAwMDBaFw0wMTAxMDEwMDAwMDBaMC8xLTArBgNVBAMMJGIxOGI4\n"                       \
	"NmNlLTEzODktODQ2ZC1hODdhLWE0YTUxMzFjZTgzYzBZMBMGByqGSM49AgEGCCqG\n"                       \
	"SM49AwEHA0IABGD+1LolWp0xyWHrdMY1bWjASbiSO2H6bOZpYi5g8p+2eQP+EAi4\n"                       \
	"vJmkGunpVii8ZPLxsgwtfp9Rd6PClNRGIpkwCgYIKoZIzj0EAwIDSQAwRgIhAM5f\n"                       \
	"DlH/yiRel0/WmMVMV0cf0+w0j6k27L5mHDhprGuxAiEAvM7qideyfGGBPSDB3V2N\n"                       \
	"eeKUAlLi0nFuB7h+S8vssfc=\n"                                                               \
	"-----END CERTIFICATE-----\n"
#define FUTURE                                                                                     \
	"-----BEGIN CERTIFICATE-----\n"                                                            \
	"MIIBMTCB16ADAgECAgEBMAoGCCqGSM49BAMCMBExDzANBgNVBAMMBkxhYiBjYTAi\n"                       \
	"GA8yMTI0MDEwMTAwMDAwMFoYDzIxMjUwMTAxMDAwMDAwWjAvMS0wKwYDVQQDDCRi\n"                       \
	"MThiODZjZS0xMzg5LTg0NmQtYTg3YS1hNGE1MTMxY2U4M2MwWTATBgcqhkjOPQIB\n"                       \
	"BggqhkjOPQMBBwNCAARg/tS6JVqdMclh63TGNW1owEm4kjth+mzmaWIuYPKftnkD\n"                       \
	"/hAIuLyZpBrp6VYovGTy8bIMLX6fUXejwpTURiKZMAoGCCqGSM49BAMCA0kAMEYC\n"                       \
	"IQDQGIEO3iiF2Jv6d1VhYA5Ex0Mo4qIrm2qAqEmcwE9f/wIhANKuz2eW7K53mkmU\n"                       \
	"mlWHn1HgCzVVYEBmD8mFVxS5XJes\n"                                                           \
	"-----END CERTIFICATE-----\n"
#define CA                                                                                         \
	"-----BEGIN CERTIFICATE-----\n"                                                            \
	"MIIBDzCBt6ADAgECAgEBMAoGCCqGSM49BAMCMBExDzANBgNVBAMMBkxhYiBjYTAg\n"                       \
	"Fw0wMDAxMDEwMDAwMDBaGA8yMTI1MDEwMTAwMDAwMFowETEPMA0GA1UEAwwGTGFi\n"                       \
	"IGNhMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAExSIDuUlzcfh47D19ckEksMWe\n"                       \
	"uwjlUD/Y4cgb9jPbhm0FImALcZmLUL3XN/9aDz9UjfK1mKvkpwwJLDYnVFKeeTAK\n"                       \
	"BggqhkjOPQQDAgNHADBEAiAalzF7vogjK7tBxGk1CYw/+bMFo1qaPqCbtxhsL1qH\n"                       \
	"cgIgOhYHBwCTANxTDuV0Tzzn2xhGrOms4HXboCDA0CsfM7A=\n"                                       \
	"-----END CERTIFICATE-----\n"
#define DAMAGED "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"

static const struct identity identity = {
	.public_key =
		{
			0x04, 0x60, 0xfe, 0xd4, 0xba, 0x25, 0x5a, 0x9d, 0x31, 0xc9, 0x61,
			0xeb, 0x74, 0xc6, 0x35, 0x6d, 0x68, 0xc0, 0x49, 0xb8, 0x92, 0x3b,
			0x61, 0xfa, 0x6c, 0xe6, 0x69, 0x62, 0x2e, 0x60, 0xf2, 0x9f, 0xb6,
			0x79, 0x03, 0xfe, 0x10, 0x08, 0xb8, 0xbc, 0x99, 0xa4, 0x1a, 0xe9,
			0xe9, 0x56, 0x28, 0xbc, 0x64, 0xf2, 0xf1, 0xb2, 0x0c, 0x2d, 0x7e,
			0x9f, 0x51, 0x77, 0xa3, 0xc2, 0x94, 0xd4, 0x46, 0x22, 0x99,
		},
};

static char path[sizeof(directory) + 8], said[4096];
static char *urls[] = {"wss://cloud.example/"}, *pins[] = {"sha256//"};

static int setup(void **state)
{
	if (make_directory(state) < 0)
		return -1;
	snprintf(path, sizeof(path), "%s/file", directory);
	return 0;
}

static int clear(void **state)
{
	(void)state;
	unlink(path);
	rmdir(path);
	return 0;
}

static void put(const char *content)
{
	assert_int_equal(util_replace_file(path, 0600, content, strlen(content)), 0);
}

/* Nothing but the file under test is looked at. */
static struct settings only(const char *mode)
{
	return (struct settings){
		.uplink.ca_file = path,
		.auth = {.mode = (char *)mode, .token_file = path, .certificate_file = path},
	};
}

static struct settings only_ca(void)
{
	struct settings settings = only("key");

	settings.uplink.urls = (struct settings_list){urls, 1};
	return settings;
}

/* What it returns; `said` gets what it logs meanwhile. */
static int check(const struct settings *settings, char *error)
{
	int before = dup(STDERR_FILENO), fds[2], r;
	ssize_t n;

	assert_int_equal(pipe(fds), 0);
	dup2(fds[1], STDERR_FILENO);
	close(fds[1]);
	r = credentials_check(settings, &identity, error);
	dup2(before, STDERR_FILENO);
	close(before);
	n = read(fds[0], said, sizeof(said) - 1);
	close(fds[0]);
	assert_true(n >= 0);
	said[n] = '\0';
	return r;
}

static void good(const struct settings *settings)
{
	char error[CREDENTIALS_ERROR] = "";

	if (check(settings, error) != 0)
		fail_msg("%s", error);
}

/* The message names option and file, and says what is wrong; no line is logged. */
static void refused(const struct settings *settings, const char *option, int expected,
		    const char *what)
{
	char error[CREDENTIALS_ERROR] = "", begin[128];

	assert_int_equal(check(settings, error), expected);
	snprintf(begin, sizeof(begin), "%s %s: ", option, path);
	assert_int_equal(strncmp(error, begin, strlen(begin)), 0);
	if (!strstr(error, what))
		fail_msg("\"%s\" does not say \"%s\"", error, what);
	assert_string_equal(said, "");
}

static void takes_certificates_of_authorities(void **state)
{
	const struct settings settings = only_ca();

	(void)state;
	put(CA);
	good(&settings);
	put("# of the lab\n" CA ENDED);
	good(&settings);
	put(DAMAGED CA); /* a bundle may hold what mbedTLS does not know */
	good(&settings);
	assert_string_equal(said, "");
}

static void refuses_bad_ca_files(void **state)
{
	const struct settings settings = only_ca();

	(void)state;
	refused(&settings, "uplink.ca_file", -ENOENT, "No such file or directory");
	put("");
	refused(&settings, "uplink.ca_file", -EINVAL, "no certificate in PEM in it");
	put(DAMAGED);
	refused(&settings, "uplink.ca_file", -EINVAL, "no certificate in PEM in it");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	refused(&settings, "uplink.ca_file", -EPERM, "not a regular file");
}

/* Where it is not used, it need not be there. */
static void only_what_is_used_is_looked_at(void **state)
{
	struct settings settings = only("key");

	(void)state;
	good(&settings); /* no URL */
	settings.uplink.urls = (struct settings_list){urls, 1};
	settings.uplink.pins = (struct settings_list){pins, 1};
	good(&settings);
}

static void looks_at_the_token(void **state)
{
	const struct settings settings = only("token");

	(void)state;
	refused(&settings, "auth.token_file", -ENOENT, "No such file or directory");
	put("a token\n");
	refused(&settings, "auth.token_file", -EINVAL, "character 2");
	put("token\n");
	good(&settings);
}

static void takes_its_own_certificate(void **state)
{
	const struct settings settings = only("certificate");

	(void)state;
	put(CERTIFICATE);
	good(&settings);
	put("subject=CN = somebody\n" CERTIFICATE CA);
	good(&settings);
	assert_string_equal(said, "");
}

static void reads_when_it_ends(void **state)
{
	(void)state;
	put(ENDED CA);
	assert_int_equal(credentials_certificate_end(path), 978307200); /* 2001-01-01 */
	put(DAMAGED);
	assert_int_equal(credentials_certificate_end(path), 0);
	unlink(path);
	assert_int_equal(credentials_certificate_end(path), 0);
}

static void refuses_certificates(void **state)
{
	static const uint8_t der[] = {0x30, 0x82, 0x01, 0x00};
	const struct settings settings = only("certificate");
	const char *option = "auth.certificate_file";

	(void)state;
	refused(&settings, option, -ENOENT, "No such file or directory");
	put("");
	refused(&settings, option, -EINVAL, "no certificate in PEM in it");
	put(DAMAGED);
	refused(&settings, option, -EINVAL, "no certificate in PEM in it");
	put(CERTIFICATE DAMAGED);
	refused(&settings, option, -EINVAL, "a certificate in it is damaged");
	put(CA);
	refused(&settings, option, -EINVAL,
		"not for this hotspot's key: get one with blecon-hotspotctl identity --csr");
	put(CA CERTIFICATE); /* the hotspot's has to come first */
	refused(&settings, option, -EINVAL, "its first certificate is not for this hotspot's key");
	assert_int_equal(util_replace_file(path, 0600, der, sizeof(der)), 0);
	refused(&settings, option, -EINVAL, "no certificate in PEM in it");
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	refused(&settings, option, -EPERM, "not a regular file");
}

/* The clock may be what is wrong. */
static void warns_of_dates(void **state)
{
	const struct settings settings = only("certificate");

	(void)state;
	put(ENDED CA);
	good(&settings);
	assert_non_null(strstr(said, " warning auth.certificate_file "));
	assert_non_null(strstr(said, path));
	assert_non_null(strstr(said, "CN=b18b86ce-1389-846d-a87a-a4a5131ce83c ended on 2001-01-01 "
				     "00:00:00 UTC, and the clock says 2"));
	put(FUTURE);
	good(&settings);
	assert_non_null(strstr(said, "begins on 2124-01-01 00:00:00 UTC"));
	put(CERTIFICATE ENDED); /* not its own */
	good(&settings);
	assert_string_equal(said, "");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, clear, clear)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(takes_certificates_of_authorities),
		TEST(refuses_bad_ca_files),
		TEST(only_what_is_used_is_looked_at),
		TEST(looks_at_the_token),
		TEST(takes_its_own_certificate),
		TEST(reads_when_it_ends),
		TEST(refuses_certificates),
		TEST(warns_of_dates),
	};

	return cmocka_run_group_tests_name("credentials", tests, setup, remove_directory);
}
