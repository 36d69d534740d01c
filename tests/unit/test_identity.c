/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/identity.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include <psa/crypto.h>

#include "agent/util.h"
#include "tests/unit/common.h"

/* The key of RFC 6979, section A.2.5, in both forms that openssl writes. */
#define KEY                                                                                        \
	"-----BEGIN EC PRIVATE KEY-----\n"                                                         \
	"MHcCAQEEIMmvqdhFunUWa1whV2ex1pNOUMPbNuibEnuKYisSD2choAoGCCqGSM49\n"                       \
	"AwEHoUQDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Z5A/4QCLi8\n"                       \
	"maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==\n"                                                   \
	"-----END EC PRIVATE KEY-----\n"
#define KEY_PKCS8                                                                                  \
	"-----BEGIN PRIVATE KEY-----\n"                                                            \
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgya+p2EW6dRZrXCFX\n"                       \
	"Z7HWk05Qw9s26JsSe4piKxIPZyGhRANCAARg/tS6JVqdMclh63TGNW1owEm4kjth\n"                       \
	"+mzmaWIuYPKftnkD/hAIuLyZpBrp6VYovGTy8bIMLX6fUXejwpTURiKZ\n"                               \
	"-----END PRIVATE KEY-----\n"
/* As `openssl ecparam -genkey` writes it. */
#define KEY_PARAMETERS                                                                             \
	"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" KEY
#define KEY_ID "b18b86ce-1389-846d-a87a-a4a5131ce83c" /* SHA-256 of the point, two bytes set */
static const uint8_t key_public[IDENTITY_PUBLIC_LEN] = {
	0x04, 0x60, 0xfe, 0xd4, 0xba, 0x25, 0x5a, 0x9d, 0x31, 0xc9, 0x61, 0xeb, 0x74,
	0xc6, 0x35, 0x6d, 0x68, 0xc0, 0x49, 0xb8, 0x92, 0x3b, 0x61, 0xfa, 0x6c, 0xe6,
	0x69, 0x62, 0x2e, 0x60, 0xf2, 0x9f, 0xb6, 0x79, 0x03, 0xfe, 0x10, 0x08, 0xb8,
	0xbc, 0x99, 0xa4, 0x1a, 0xe9, 0xe9, 0x56, 0x28, 0xbc, 0x64, 0xf2, 0xf1, 0xb2,
	0x0c, 0x2d, 0x7e, 0x9f, 0x51, 0x77, 0xa3, 0xc2, 0x94, 0xd4, 0x46, 0x22, 0x99,
};

/* The private key 1: 31 zero bytes come first, and its point is the generator. */
#define KEY_ONE                                                                                    \
	"-----BEGIN EC PRIVATE KEY-----\n"                                                         \
	"MHcCAQEEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABoAoGCCqGSM49\n"                       \
	"AwEHoUQDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/\n"                       \
	"m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n"                                                   \
	"-----END EC PRIVATE KEY-----\n"

static char state_dir[sizeof(directory) + 8], path[sizeof(state_dir) + 16];

static int setup(void **state)
{
	if (make_directory(state) < 0)
		return -1;
	snprintf(state_dir, sizeof(state_dir), "%s/state", directory);
	snprintf(path, sizeof(path), "%s/%s", state_dir, IDENTITY_FILE);
	return 0;
}

static int clear(void **state)
{
	(void)state;
	unlink(path);
	rmdir(state_dir);
	return 0;
}

static int teardown(void **state)
{
	clear(state);
	return remove_directory(state);
}

static void write_key(const void *data, size_t len)
{
	assert_true(mkdir(state_dir, 0700) == 0 || errno == EEXIST);
	assert_int_equal(util_replace_file(path, 0600, data, len), 0);
}

static char *read_whole(void)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text = NULL;

	assert_true(fd >= 0);
	assert_true(util_read_fd(fd, 1 << 20, &text) >= 0);
	return text;
}

static unsigned count_files(void)
{
	DIR *dir = opendir(state_dir);
	unsigned n = 0;

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));)
		n += e->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void load(struct identity *ret)
{
	char error[IDENTITY_ERROR] = "";

	if (identity_load(state_dir, ret, error) != 0)
		fail_msg("%s", error);
}

/* The message names the file, or the directory where it is that, and tells something. */
static void refuse(const char *dir, int expected, const char *what)
{
	static const struct identity zero;
	char error[IDENTITY_ERROR] = "";
	struct identity identity;

	memset(&identity, 0xaa, sizeof(identity));
	assert_int_equal(identity_load(dir, &identity, error), expected);
	assert_memory_equal(&identity, &zero, sizeof(zero));
	assert_int_equal(strncmp(error, dir, strlen(dir)), 0);
	if (!strstr(error, what))
		fail_msg("\"%s\" does not say \"%s\"", error, what);
}

/* SHA-256 of the public key, with the version and variant of UUIDv8. */
static void check_id(const struct identity *identity)
{
	uint8_t hash[32];
	size_t len;

	assert_int_equal(psa_hash_compute(PSA_ALG_SHA_256, identity->public_key,
					  IDENTITY_PUBLIC_LEN, hash, sizeof(hash), &len),
			 PSA_SUCCESS);
	assert_int_equal(identity->public_key[0], 0x04);
	assert_int_equal(identity->hotspot_id[6] >> 4, 8);
	assert_int_equal(identity->hotspot_id[8] >> 6, 2);
	hash[6] = (hash[6] & 0x0f) | 0x80;
	hash[8] = (hash[8] & 0x3f) | 0x80;
	assert_memory_equal(identity->hotspot_id, hash, 16);
}

static bool verifies(const uint8_t public_key[IDENTITY_PUBLIC_LEN], const void *data, size_t len,
		     const uint8_t signature[64])
{
	psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
	psa_key_id_t key;
	psa_status_t status;

	psa_set_key_type(&attributes, PSA_KEY_TYPE_ECC_PUBLIC_KEY(PSA_ECC_FAMILY_SECP_R1));
	psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_VERIFY_MESSAGE);
	psa_set_key_algorithm(&attributes, PSA_ALG_ECDSA(PSA_ALG_SHA_256));
	assert_int_equal(psa_import_key(&attributes, public_key, IDENTITY_PUBLIC_LEN, &key),
			 PSA_SUCCESS);
	status = psa_verify_message(key, PSA_ALG_ECDSA(PSA_ALG_SHA_256), data, len, signature, 64);
	psa_destroy_key(key);
	return status == PSA_SUCCESS;
}

static void makes_a_key_once(void **state)
{
	struct identity first, second;
	_cleanup_free_ char *pem = NULL;
	_cleanup_free_ char *later = NULL;
	struct stat st;

	(void)state;
	load(&first);
	assert_int_equal(stat(state_dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(count_files(), 1);
	check_id(&first);
	pem = read_whole();
	assert_int_equal(strncmp(pem, "-----BEGIN EC PRIVATE KEY-----\n", 31), 0);

	load(&second);
	assert_memory_equal(first.hotspot_id, second.hotspot_id, sizeof(first.hotspot_id));
	assert_memory_equal(first.public_key, second.public_key, sizeof(first.public_key));
	later = read_whole();
	assert_string_equal(pem, later);
	identity_done(&first);
	identity_done(&second);
	identity_done(&second); /* all zero is fine */
}

static void every_hotspot_has_another_key(void **state)
{
	struct identity first, second;

	load(&first);
	clear(state);
	load(&second);
	assert_memory_not_equal(first.public_key, second.public_key, sizeof(first.public_key));
	assert_memory_not_equal(first.hotspot_id, second.hotspot_id, sizeof(first.hotspot_id));
	identity_done(&first);
	identity_done(&second);
}

/* Whatever the umask is, nobody else can read the key. */
static void the_umask_does_not_matter(void **state)
{
	mode_t mask = umask(0);
	struct identity identity;
	struct stat st;

	(void)state;
	load(&identity);
	umask(mask);
	assert_int_equal(stat(state_dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	identity_done(&identity);
}

static void signs(void **state)
{
	static const char text[] = "what a HELLO signs";
	struct identity made, read;
	uint8_t signature[64], again[64];

	(void)state;
	load(&made);
	assert_int_equal(identity_sign(&made, (const uint8_t *)text, sizeof(text), signature), 0);
	assert_true(verifies(made.public_key, text, sizeof(text), signature));
	assert_false(verifies(made.public_key, text, sizeof(text) - 1, signature));
	load(&read);
	assert_int_equal(identity_sign(&read, (const uint8_t *)text, sizeof(text), again), 0);
	assert_true(verifies(made.public_key, text, sizeof(text), again));
	again[40] ^= 1;
	assert_false(verifies(made.public_key, text, sizeof(text), again));
	assert_int_equal(identity_sign(&read, (const uint8_t *)text, 0, again), 0);
	assert_true(verifies(made.public_key, text, 0, again));
	identity_done(&made);
	identity_done(&read);
	/* Without a key nothing is signed. */
	assert_int_equal(identity_sign(&made, (const uint8_t *)text, sizeof(text), signature),
			 -EIO);
}

static void reads_what_others_wrote(void **state)
{
	static const char *const forms[] = {KEY, KEY_PKCS8, KEY_PARAMETERS};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		char text[UTIL_UUID_TEXT];
		uint8_t signature[64];
		struct identity identity;
		_cleanup_free_ char *after = NULL;

		write_key(forms[i], strlen(forms[i]));
		load(&identity);
		assert_memory_equal(identity.public_key, key_public, sizeof(key_public));
		util_uuid_text(identity.hotspot_id, text);
		assert_string_equal(text, KEY_ID);
		assert_int_equal(identity_sign(&identity, key_public, 65, signature), 0);
		assert_true(verifies(key_public, key_public, 65, signature));
		identity_done(&identity);
		after = read_whole();
		assert_string_equal(after, forms[i]); /* as it was */
	}
}

static void reads_a_key_of_zeros(void **state)
{
	static const uint8_t generator_x[] = {0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42, 0x47};
	struct identity identity;
	uint8_t signature[64];

	(void)state;
	write_key(KEY_ONE, strlen(KEY_ONE));
	load(&identity);
	assert_memory_equal(identity.public_key + 1, generator_x, sizeof(generator_x));
	check_id(&identity);
	assert_int_equal(identity_sign(&identity, key_public, 65, signature), 0);
	assert_true(verifies(identity.public_key, key_public, 65, signature));
	identity_done(&identity);
}

/* A file that can only be read is no less good. */
static void reads_a_file_of_mode_0400(void **state)
{
	struct identity identity;

	(void)state;
	write_key(KEY, strlen(KEY));
	assert_int_equal(chmod(path, 0400), 0);
	load(&identity);
	identity_done(&identity);
}

#define EC(body) "-----BEGIN EC PRIVATE KEY-----\n" body "\n-----END EC PRIVATE KEY-----\n"

static const struct {
	const char *what, *content;
} bad_keys[] = {
	{"empty", ""},
	{"a line", "\n"},
	{"no PEM", "this is no key\n"},
	{"cut short", "-----BEGIN EC PRIVATE KEY-----\n"
		      "MHcCAQEEIMmvqdhFunUWa1whV2ex1pNOUMPbNuibEnuKYisSD2choAoGCCqGSM49\n"},
	{"damaged base64", EC("MHcCAQEEIMmvqdhFunUWa1whV2ex1p*OUMPbNuibEnuKYisSD2choAoGCCqGSM49")},
	{"damaged DER", EC("MHcCAQEEIMmvqdhFunUWa1whV2ex1pNOUMPbNuibEnuKYisSD2choAoGCCqGSM49\n"
			   "AwEHoUQDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Z5A/4QCLi8\n"
			   "maQa6elWKLxk8vGyDC1+n1F3o8KU1EYi")},
	{"the private key 0",
	 EC("MHcCAQEEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAoAoGCCqGSM49\n"
	    "AwEHoUQDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7Yfps5mliLmDyn7Z5A/4QCLi8\n"
	    "maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==")},
	{"secp256k1", EC("MHQCAQEEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABI0VnoAcGBSuBBAAK\n"
			 "oUQDQgAE1HZEU5rOw9pePs9f6IY8Yoqcl+i3Hp6pFnpvT4PAPDITPXJfZHhQET3u\n"
			 "rWz436IgQ9dLgUM8RF0HCSwu2XUcng==")},
	{"brainpoolP256r1", EC("MHgCAQEEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABI0VnoAsGCSskAwMC\n"
			       "CAEBB6FEA0IABAmdNt0focsRk8zwfAGornXX7rSRSQNW715zn8qsARz8bwUrUF1S\n"
			       "RdBihPS2uvxzpoCeS7GxAlglcg7KYSCtsfA=")},
	{"P-384", EC("MIGkAgEBBDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
		     "AAAAAAEjRWegBwYFK4EEACKhZANiAAR66eHbEWB5THDB7wcb5RkfbGYkD0YI++ik\n"
		     "Ts02w+1duXUA8uTYTj+0WFD9b0MDMCvYrCFETNgNJBU42ANLOZoN7jY261ywC5SZ\n"
		     "0GGlcdsPFLtH7XlFOUjtY/OmzLv2508=")},
	{"Ed25519", "-----BEGIN PRIVATE KEY-----\n"
		    "MC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"
		    "-----END PRIVATE KEY-----\n"},
	{"RSA", "-----BEGIN RSA PRIVATE KEY-----\n"
		"MIICXQIBAAKBgQC6+L641oTQQBumiayNV/oMKsyNaP5+dbzdk1E3/SUlpNuZBjz7\n"
		"BYYqCIbC0YXWLWAjNgsrrZYPYYxmuG+D8IfNhcHTYKnzQxUAWGqr1S2PpxnL609e\n"
		"o+vHUQafkHowNrdZZ030aPbky+rynSBxgtRbyriqqC+0VpzsDfjw/I1edQIDAQAB\n"
		"AoGBAJNPdl0FT0EQsXhmEliOj0jU07M6nQCf3P0qm5wkTAc7u3T2cEdKk+k8LIkE\n"
		"MZGM0KkNZIG2U3us3MT13Y6zjRprxmrt4LkyMrkqucA97nrg1W8tgsyTvJHXGpXS\n"
		"6i5tPXFhrWJLHAbNBzt2wmGYvidRigmbc4gSmAHwz9OZTgGlAkEA7PWZe5Om58W2\n"
		"ddFGcbIcEwlED6nifftswqgElgluhrLMgApnXwW3MO0ZNf64R6Xw5qsbTOhKgJBE\n"
		"KbAwprdbIwJBAMn+3gx5ZV1WgCHMNFyaIbtwQJvNz9gsgTqsa2y/zunAvk7a3ExI\n"
		"KNsDM4g7NdJv/r3AaOQTdlHHH7g1tgWy5YcCQQCLSxCPSUubAWlxtrS/TyEbu52r\n"
		"y4Td4/eaMeSIQkEbo219cyAzBowakbX5PKQdUhnbrwfcXMy26Jd5Hh5rUmubAkBw\n"
		"wGlmASVJso0XUIsx3X9Sx1fpIDsSadVA0RmtvGtdI4+XKKerlOPpTKIpOxPSAV3q\n"
		"wUpLdWmoQEQ+aQzPpYplAkAG0Tcl/ACaXQeEXnvAlFbgPx7ousnuiW4Al6N9UfZQ\n"
		"KuR0Lj6xzJ927ywc11d02DyTmbaUiGHBovcyxChdqMnp\n"
		"-----END RSA PRIVATE KEY-----\n"},
	{"a public key", "-----BEGIN PUBLIC KEY-----\n"
			 "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEYP7UuiVanTHJYet0xjVtaMBJuJI7\n"
			 "Yfps5mliLmDyn7Z5A/4QCLi8maQa6elWKLxk8vGyDC1+n1F3o8KU1EYimQ==\n"
			 "-----END PUBLIC KEY-----\n"},
	{"encrypted", EC("Proc-Type: 4,ENCRYPTED\n"
			 "DEK-Info: AES-256-CBC,B692981DAE6E84247FD9239FE8230225\n\n"
			 "V3y/4kOaDScj/GlWS4gjqP4fGpLr8O1kNefZSojS21pNKXlG2hJ4cl1dc7FsKK45\n"
			 "9SsMe73GDyJy5U2QKI9FsPUn82s8zJLt2TAkcdL3Lsyp143NxKgsfoaqfIadpOwV\n"
			 "dLCnrwCACh+jcgOaqS2f2py7fiyl4B/1wHqrQt/yVcA=")},
};

/* A file that is there and not good is refused, and stays as it is. */
static void refuses_bad_keys(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad_keys); i++) {
		_cleanup_free_ char *after = NULL;

		print_message("%s\n", bad_keys[i].what);
		write_key(bad_keys[i].content, strlen(bad_keys[i].content));
		refuse(state_dir, -EINVAL, "not a P-256 private key in PEM");
		after = read_whole();
		assert_string_equal(after, bad_keys[i].content);
		assert_int_equal(count_files(), 1);
	}
}

/* Each byte of a good file changed: never a crash, and the file stays. */
static void survives_every_changed_byte(void **state)
{
	char pem[] = KEY;

	(void)state;
	for (size_t i = 0; i < strlen(KEY); i += 3) {
		char error[IDENTITY_ERROR] = "";
		struct identity identity;
		_cleanup_free_ char *after = NULL;
		int r;

		pem[i] ^= 0x15;
		write_key(pem, strlen(pem));
		r = identity_load(state_dir, &identity, error);
		if (r == 0)
			check_id(&identity);
		else
			assert_int_equal(r, -EINVAL);
		identity_done(&identity);
		after = read_whole();
		assert_string_equal(after, pem);
		pem[i] ^= 0x15;
	}
}

static void refuses_large_files(void **state)
{
	char *text = malloc(5000);

	(void)state;
	assert_non_null(text);
	memset(text, '\n', 5000);
	memcpy(text, KEY, strlen(KEY));
	write_key(text, 5000);
	refuse(state_dir, -EFBIG, IDENTITY_FILE);
	write_key("", 0);
	free(text);
}

static void refuses_what_others_can_read(void **state)
{
	static const mode_t modes[] = {0644, 0640, 0604, 0620, 0602, 0610, 0601, 0666};

	(void)state;
	write_key(KEY, strlen(KEY));
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		char mode[16];

		assert_int_equal(chmod(path, modes[i]), 0);
		snprintf(mode, sizeof(mode), "mode %04o", (unsigned)modes[i]);
		refuse(state_dir, -EPERM, mode);
	}
}

static void refuses_what_is_no_file(void **state)
{
	char target[sizeof(path) + 8];

	(void)state;
	/* A link, even to a good key. */
	write_key(KEY, strlen(KEY));
	snprintf(target, sizeof(target), "%s.other", path);
	assert_int_equal(rename(path, target), 0);
	assert_int_equal(symlink(target, path), 0);
	refuse(state_dir, -EPERM, "not a regular file");
	unlink(target);
	refuse(state_dir, -EPERM, "not a regular file"); /* a link to nothing */
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	refuse(state_dir, -EPERM, "not a regular file");
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	refuse(state_dir, -EPERM, "not a regular file");
	rmdir(path);
}

static void refuses_another_owner(void **state)
{
	_cleanup_free_ char *after = NULL;

	(void)state;
	write_key(KEY, strlen(KEY));
	if (geteuid() == 0) { /* nobody else can give a file away */
		assert_int_equal(chown(path, 65534, (gid_t)-1), 0);
		refuse(state_dir, -EPERM, "somebody else");
	}
	after = read_whole();
	assert_string_equal(after, KEY);
}

static void refuses_missing_directories(void **state)
{
	char deep[sizeof(path) + 16];
	struct stat st;

	(void)state;
	/* One level is made, two are not. */
	snprintf(deep, sizeof(deep), "%s/deep", state_dir);
	refuse(deep, -ENOENT, "No such file or directory");
	assert_int_equal(stat(state_dir, &st), -1);
	/* A file where the directory should be. */
	assert_int_equal(util_replace_file(state_dir, 0600, "x", 1), 0);
	refuse(state_dir, -ENOTDIR, "Not a directory");
	unlink(state_dir);
}

static void read_refused(int expected, const char *what)
{
	static const struct identity zero;
	char error[IDENTITY_ERROR] = "";
	struct identity identity;

	assert_int_equal(identity_read(state_dir, &identity, error), expected);
	assert_memory_equal(&identity, &zero, sizeof(zero));
	assert_int_equal(strncmp(error, path, strlen(path)), 0);
	if (!strstr(error, what))
		fail_msg("\"%s\" does not say \"%s\"", error, what);
}

/* Who only looks makes nothing, and is no less strict but for root. */
static void reads_without_making_one(void **state)
{
	char error[IDENTITY_ERROR] = "";
	struct identity made, read;
	struct stat st;

	(void)state;
	read_refused(-ENOENT, "there is no key yet: start blecon-hotspotd once");
	assert_int_equal(stat(state_dir, &st), -1);
	load(&made);
	assert_int_equal(identity_read(state_dir, &read, error), 0);
	assert_memory_equal(made.hotspot_id, read.hotspot_id, sizeof(made.hotspot_id));
	identity_done(&read);
	identity_done(&made);
	assert_int_equal(chmod(path, 0640), 0);
	read_refused(-EPERM, "mode 0640");
	write_key("no key", 6);
	read_refused(-EINVAL, "not a P-256 private key in PEM");
	assert_int_equal(unlink(path), 0);
	read_refused(-ENOENT, "there is no key yet");
	assert_int_equal(count_files(), 0);
	assert_int_equal(symlink("/dev/null", path), 0);
	read_refused(-EPERM, "not a regular file");
}

static void root_reads_the_key_of_the_daemons_user(void **state)
{
	char error[IDENTITY_ERROR] = "";
	struct identity identity;

	(void)state;
	/* Nobody else can give a file to another user. */
	if (geteuid() != 0)
		skip();
	write_key(KEY, strlen(KEY));
	assert_int_equal(chown(path, 65534, (gid_t)-1), 0);
	assert_int_equal(identity_read(state_dir, &identity, error), 0);
	assert_memory_equal(identity.public_key, key_public, sizeof(key_public));
	identity_done(&identity);
	/* The daemon's user is not root then. */
	assert_int_equal(seteuid(65533), 0);
	assert_int_equal(identity_read(state_dir, &identity, error), -EACCES);
	assert_int_equal(seteuid(0), 0);
	assert_non_null(strstr(error, "you must be root or the user it belongs to"));
}

/* A disk that is full leaves no half of a key, and no other file. */
static void a_full_disk_leaves_nothing(void **state)
{
	struct rlimit before, none;
	char error[IDENTITY_ERROR] = "";
	struct identity identity;
	int r;

	(void)state;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	none = before;
	none.rlim_cur = 100;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	r = identity_load(state_dir, &identity, error);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(r, -EFBIG);
	assert_non_null(strstr(error, "cannot make the hotspot's key"));
	assert_int_equal(count_files(), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, clear, clear)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(makes_a_key_once),
		TEST(every_hotspot_has_another_key),
		TEST(the_umask_does_not_matter),
		TEST(signs),
		TEST(reads_what_others_wrote),
		TEST(reads_a_key_of_zeros),
		TEST(reads_a_file_of_mode_0400),
		TEST(refuses_bad_keys),
		TEST(survives_every_changed_byte),
		TEST(refuses_large_files),
		TEST(refuses_what_others_can_read),
		TEST(refuses_what_is_no_file),
		TEST(refuses_another_owner),
		TEST(refuses_missing_directories),
		TEST(reads_without_making_one),
		TEST(root_reads_the_key_of_the_daemons_user),
		TEST(a_full_disk_leaves_nothing),
	};

	return cmocka_run_group_tests_name("identity", tests, setup, teardown);
}
