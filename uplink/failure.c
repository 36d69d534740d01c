/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/failure.h"

#include <errno.h>

const char *failure_at_name(enum failure_at at)
{
	static const char *const names[] = {
		[FAILURE_AT_NONE] = "",	      [FAILURE_AT_RESOLVE] = "resolve",
		[FAILURE_AT_TCP] = "tcp",     [FAILURE_AT_PROXY] = "proxy",
		[FAILURE_AT_TLS] = "tls",     [FAILURE_AT_UPGRADE] = "upgrade",
		[FAILURE_AT_HELLO] = "hello", [FAILURE_AT_UP] = "up",
	};

	return names[at];
}

enum failure_at failure_at_of(enum failure_cause cause)
{
	switch (cause) {
	case FAILURE_UNKNOWN:
	case FAILURE_SILENCE:
		break;
	case FAILURE_RESOLVER:
	case FAILURE_NO_NAME:
	case FAILURE_NO_DNS:
		return FAILURE_AT_RESOLVE;
	case FAILURE_REFUSED:
	case FAILURE_UNREACHABLE:
		return FAILURE_AT_TCP;
	case FAILURE_PROXY_REFUSES:
	case FAILURE_PROXY_USER:
	case FAILURE_PROXY_TARGET:
	case FAILURE_NO_PROXY:
		return FAILURE_AT_PROXY;
	case FAILURE_CLOCK:
	case FAILURE_NOT_YET_VALID:
	case FAILURE_EXPIRED:
	case FAILURE_OTHER_HOST:
	case FAILURE_UNKNOWN_CA:
	case FAILURE_BAD_CERTIFICATE:
	case FAILURE_PIN:
	case FAILURE_CERTIFICATE_WANTED:
	case FAILURE_CERTIFICATE_REFUSED:
	case FAILURE_TLS_VERSION:
	case FAILURE_NO_TLS:
	case FAILURE_TLS_FAILED:
	case FAILURE_FILES:
		return FAILURE_AT_TLS;
	case FAILURE_TOKEN:
	case FAILURE_SUBPROTOCOL:
		return FAILURE_AT_UPGRADE;
	}
	return FAILURE_AT_NONE;
}

enum failure_cause failure_of_errno(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return FAILURE_REFUSED;
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ENETDOWN:
	case EHOSTDOWN:
	case EADDRNOTAVAIL:
		return FAILURE_UNREACHABLE;
	case ETIMEDOUT:
		return FAILURE_SILENCE;
	}
	return FAILURE_UNKNOWN;
}

enum failure_cause failure_of_proxy(unsigned http_status)
{
	/* 401: of a wrong password with tinyproxy. */
	if (http_status == 407 || http_status == 401)
		return FAILURE_PROXY_USER;
	return http_status / 100 == 5 ? FAILURE_PROXY_TARGET : FAILURE_PROXY_REFUSES;
}
