/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/ca.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <mbedtls/x509_crt.h>
#include <psa/crypto.h>

#include "agent/util.h"

#define FILE_MAX (4u << 20) /* a collection of all public CAs has 0.2 MB */

static bool is_known(const char *pem, size_t size)
{
	mbedtls_x509_crt crt;
	bool known;

	mbedtls_x509_crt_init(&crt);
	known = mbedtls_x509_crt_parse(&crt, (const unsigned char *)pem, size) == 0;
	mbedtls_x509_crt_free(&crt);
	return known;
}

/* The end of the certificate, with its line's; NULL where it has none. */
static char *end_of(char *pem)
{
	static const char line[] = "-----END CERTIFICATE-----";
	char *end = strstr(pem, line);

	if (!end)
		return NULL;
	end += strlen(line);
	end += strcspn(end, "\n");
	return *end ? end + 1 : end;
}

int ca_read(const char *path, char **ret, size_t *ret_len)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	ssize_t len = fd < 0 ? -errno : util_read_fd(fd, FILE_MAX, &text);
	char *to = text;

	if (len < 0)
		return (int)len;
	/* On 3.6 the parser may want PSA for the key. */
	if (psa_crypto_init() != PSA_SUCCESS)
		return -EIO;
	for (char *at = text, *end; (at = strstr(at, "-----BEGIN CERTIFICATE-----")); at = end) {
		char after;

		end = end_of(at);
		if (!end)
			break;
		after = *end;
		*end = '\0';
		if (is_known(at, (size_t)(end - at) + 1)) {
			memmove(to, at, (size_t)(end - at));
			to += end - at;
		}
		*end = after;
	}
	if (to == text)
		return -EINVAL;
	*to = '\0';
	*ret_len = (size_t)(to - text);
	*ret = TAKE_PTR(text);
	return 0;
}
