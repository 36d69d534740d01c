/* SPDX-License-Identifier: Apache-2.0 */
/* Where a connection to the cloud failed and, as far as it is known, why: what the error says in
 * words, for who has to decide what to do about it. Pure. */
#pragma once

/* The step it was at; behind a proxy, all up to the tunnel is FAILURE_AT_PROXY. */
enum failure_at {
	FAILURE_AT_NONE, /* nothing has failed */
	FAILURE_AT_RESOLVE,
	FAILURE_AT_TCP,
	FAILURE_AT_PROXY,
	FAILURE_AT_TLS,
	FAILURE_AT_UPGRADE,
	FAILURE_AT_HELLO,
	FAILURE_AT_UP, /* it was up, and broke */
};

enum failure_cause {
	FAILURE_UNKNOWN, /* no more than where, and the code that came with it */
	FAILURE_SILENCE, /* no answer in time; while up, to a ping */
	FAILURE_RESOLVER, /* the hub's own cannot be asked, or fails */
	FAILURE_NO_NAME, /* there is no such name */
	FAILURE_NO_DNS, /* nobody answers who could know the name */
	FAILURE_REFUSED, /* nobody listens at that port */
	FAILURE_UNREACHABLE, /* there is no way to that address */
	FAILURE_PROXY_REFUSES, /* the tunnel */
	FAILURE_PROXY_USER, /* the proxy wants to know who asks, or knows no such user */
	FAILURE_PROXY_TARGET, /* the proxy cannot reach the server */
	FAILURE_NO_PROXY, /* what is there does not answer as an HTTP proxy */
	FAILURE_CLOCK, /* the hub's was never set, so no certificate is valid yet */
	FAILURE_NOT_YET_VALID, /* a certificate of the server's */
	FAILURE_EXPIRED, /* likewise */
	FAILURE_OTHER_HOST, /* the server's certificate is for that */
	FAILURE_UNKNOWN_CA,
	FAILURE_BAD_CERTIFICATE, /* of the server's, in another way */
	FAILURE_PIN, /* the server's key is none of the pins */
	FAILURE_CERTIFICATE_WANTED, /* the hotspot's; it has none */
	FAILURE_CERTIFICATE_REFUSED, /* the hotspot's */
	FAILURE_TLS_VERSION,
	FAILURE_NO_TLS, /* what is there speaks something else */
	FAILURE_TLS_FAILED, /* in another way */
	FAILURE_FILES, /* those of TLS on the hub cannot be used */
	FAILURE_TOKEN, /* its file cannot be used */
	FAILURE_SUBPROTOCOL, /* the server upgrades, but not to the relay protocol */
};

struct failure {
	enum failure_at at;
	enum failure_cause cause;
	unsigned code; /* the WebSocket close code, 0 for none */
	unsigned http_status; /* of an upgrade that was refused, 0 for none */
};

/* As in the status; empty for FAILURE_AT_NONE. */
const char *failure_at_name(enum failure_at at);
/* Where such a cause shows, without a proxy; FAILURE_AT_NONE where it can be anywhere. */
enum failure_at failure_at_of(enum failure_cause cause);
/* Of a connect(2) that failed with this errno. */
enum failure_cause failure_of_errno(int error);
/* Of a proxy's answer to CONNECT. */
enum failure_cause failure_of_proxy(unsigned http_status);
