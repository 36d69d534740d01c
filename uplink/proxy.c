/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/proxy.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/util.h"

#define SCHEME	    "http://"
#define PORT	    8080
#define LIST_BREAKS ", \t"

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)tolower((unsigned char)c);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Takes a character at *s, percent-encoded or not. Returns it, or -EINVAL. */
static int next_character(const char **s, const char *end)
{
	int high, low;

	if (**s != '%')
		return (unsigned char)*(*s)++;
	if (end - *s < 3)
		return -EINVAL;
	high = hex_digit((*s)[1]);
	low = hex_digit((*s)[2]);
	if (high < 0 || low < 0)
		return -EINVAL;
	*s += 3;
	return high << 4 | low;
}

/* user and password, or user alone, in ret as Basic has it (RFC 7617, section 2). */
static int parse_credentials(const char *s, size_t len, char ret[PROXY_CREDENTIALS_MAX + 1],
			     const char **ret_what)
{
	const char *end = s + len, *colon = memchr(s, ':', len);
	size_t n = 0;

	if (len == 0) {
		*ret_what = "the user name is missing before the @";
		return -EINVAL;
	}
	while (s < end) {
		bool separates = s == colon;
		int c = next_character(&s, end);

		if (c < ' ' || c == 127) {
			*ret_what = c < 0 ? "a % in user or password is not followed by two "
					    "hexadecimal digits"
					  : "user or password has a control character";
			return -EINVAL;
		}
		if (c == ':' && !separates && (!colon || s <= colon)) {
			*ret_what = "the user name has a colon, which Basic authentication cannot "
				    "send";
			return -EINVAL;
		}
		if (n >= PROXY_CREDENTIALS_MAX - (colon ? 0u : 1u)) {
			*ret_what = "user and password are too long";
			return -EINVAL;
		}
		ret[n++] = (char)c;
	}
	if (!colon)
		ret[n++] = ':';
	ret[n] = '\0';
	return 0;
}

static int check_url(const char *url, const char **ret_what)
{
	if (strncasecmp(url, "https://", strlen("https://")) == 0) {
		*ret_what = "only http:// proxies are spoken to, no https:// ones";
		return -EINVAL;
	}
	if (strncasecmp(url, SCHEME, strlen(SCHEME)) != 0) {
		*ret_what = "the URL of the proxy does not start with http://";
		return -EINVAL;
	}
	if (!endpoint_printable(url)) {
		*ret_what = "the URL has a space, or a letter that a URL does not have";
		return -EINVAL;
	}
	url += strlen(SCHEME);
	url += strcspn(url, "/?#");
	if (*url && strcmp(url, "/") != 0) {
		*ret_what = "the URL of a proxy has no path; a /, ? or # in user or password is "
			    "written %2F, %3F or %23";
		return -EINVAL;
	}
	return 0;
}

/* The last @ of len bytes, or NULL. */
static const char *last_at(const char *s, size_t len)
{
	while (len > 0) {
		if (s[--len] == '@')
			return s + len;
	}
	return NULL;
}

int proxy_parse(const char *url, struct proxy *ret, const char **ret_what)
{
	struct endpoint ep = {0};
	struct proxy proxy = {0};
	const char *authority, *at;
	size_t len;
	int r = 0;

	if (check_url(url, ret_what) < 0)
		return -EINVAL;
	authority = url + strlen(SCHEME);
	len = strcspn(authority, "/");
	at = last_at(authority, len);
	if (at) {
		r = parse_credentials(authority, (size_t)(at - authority), proxy.credentials,
				      ret_what);
		len -= (size_t)(at + 1 - authority);
		authority = at + 1;
	}
	if (r == 0)
		r = endpoint_parse_authority(authority, len, PORT, &ep, ret_what);
	if (r == 0) {
		memcpy(proxy.host, ep.host, sizeof(proxy.host));
		memcpy(proxy.authority, ep.authority, sizeof(proxy.authority));
		proxy.port = ep.port;
		*ret = proxy;
	}
	explicit_bzero(&proxy, sizeof(proxy));
	return r;
}

/* The first of names that is set and not empty, NULL for none. */
static const char *first_set(const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const char *value = getenv(names[i]);

		if (value && *value)
			return value;
	}
	return NULL;
}

const char *proxy_from_environment(void)
{
	static const char *const names[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"};

	return first_set(names, ARRAY_SIZE(names));
}

const char *proxy_exceptions(void)
{
	static const char *const names[] = {"no_proxy", "NO_PROXY"};

	return first_set(names, ARRAY_SIZE(names));
}

struct address {
	size_t len; /* in bytes, 0 for none */
	uint8_t bytes[sizeof(struct in6_addr)];
};

static struct address parse_address(const char *text)
{
	struct address address = {0};

	if (inet_pton(AF_INET, text, address.bytes) == 1)
		address.len = sizeof(struct in_addr);
	else if (inet_pton(AF_INET6, text, address.bytes) == 1)
		address.len = sizeof(struct in6_addr);
	return address;
}

/* entry: an address, in brackets or not, or a network as CIDR writes it (RFC 4632, section 3.1). It
 * is cut up. */
static bool holds_address(char *entry, const struct address *host)
{
	char *slash = strchr(entry, '/'), *last = entry + strlen(entry) - 1;
	struct address network;
	unsigned bits = (unsigned)host->len * 8;
	char tail;

	if (slash && sscanf(slash + 1, "%3u%c", &bits, &tail) != 1)
		return false;
	if (slash) {
		*slash = '\0';
	} else if (*entry == '[' && *last == ']') {
		*last = '\0';
		entry++;
	}
	network = parse_address(entry);
	if (network.len != host->len || bits > network.len * 8 ||
	    memcmp(network.bytes, host->bytes, bits / 8) != 0)
		return false;
	return bits % 8 == 0 ||
	       (network.bytes[bits / 8] ^ host->bytes[bits / 8]) >> (8 - bits % 8) == 0;
}

/* The length without the dot at the end, which makes no other name of it. */
static size_t name_len(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && name[len - 1] == '.' ? len - 1 : len;
}

/* entry: a name, that holds itself and all below it. */
static bool holds_name(const char *entry, const char *host)
{
	size_t n, len = name_len(host);

	if (*entry == '.')
		entry++;
	n = name_len(entry);
	if (n == 0 || n > len || strncasecmp(entry, host + len - n, n) != 0)
		return false;
	return n == len || host[len - n - 1] == '.';
}

bool proxy_exempt(const char *list, const char *host)
{
	const struct address address = parse_address(host);
	_cleanup_free_ char *copy = strdup(list ? list : "");
	char *rest = NULL;

	if (!copy)
		return false;
	if (strcmp(copy, "*") == 0)
		return true;
	for (char *entry = strtok_r(copy, LIST_BREAKS, &rest); entry;
	     entry = strtok_r(NULL, LIST_BREAKS, &rest)) {
		if (address.len > 0 ? holds_address(entry, &address) : holds_name(entry, host))
			return true;
	}
	return false;
}
