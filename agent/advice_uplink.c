/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/advice.h"

#include <stdbool.h>
#include <stdio.h>

#include "agent/util.h"
#include "uplink/message.h"
#include "uplink/uplink.h"

#define DAY_S	    86400
#define ENDS_SOON_S (14 * DAY_S) /* time enough to get a new certificate */

/* WebSocket close codes, as registered by IANA. */
#define WS_RESTARTS  1012
#define WS_TRY_LATER 1013

#define BY_ITSELF "the hub goes on trying by itself."
#define READ_LOG                                                                                   \
	"Look at the cloud's log for this hotspot, whose id blecon-hotspotctl identity shows."

static const char *of_resolve(enum failure_cause cause, bool proxy)
{
	switch ((int)cause) {
	case FAILURE_NO_NAME:
		return proxy ? "Is the name in uplink.proxy right, and does the DNS server in "
			       "/etc/resolv.conf know it?"
			     : "Is the name in uplink.url right, and does the DNS server in "
			       "/etc/resolv.conf know it?";
	case FAILURE_RESOLVER:
		return "See that /etc/resolv.conf is right, and that the hub has memory and "
		       "processes "
		       "left.";
	}
	return proxy ? "Is there a DNS server in /etc/resolv.conf that answers, and is the name in "
		       "uplink.proxy right?"
		     : "Is there a DNS server in /etc/resolv.conf that answers, and is the name in "
		       "uplink.url right?";
}

static const char *of_tcp(enum failure_cause cause)
{
	switch ((int)cause) {
	case FAILURE_REFUSED:
		return "Is the server up, and the port in uplink.url right?";
	case FAILURE_UNREACHABLE:
		return "Is the hub's network up, with a default gateway that answers? See ip "
		       "address "
		       "and ip route.";
	case FAILURE_SILENCE:
		return "Does a firewall drop it, is there a route (ip route), does the default "
		       "gateway answer, is the server up?";
	}
	return "Is the server up, and does a firewall on the way cut it off?";
}

static const char *of_proxy(enum failure_cause cause)
{
	switch ((int)cause) {
	case FAILURE_REFUSED:
		return "Is the proxy up, and the port in uplink.proxy (or https_proxy) right?";
	case FAILURE_PROXY_USER:
		return "Set the right user and password: uplink.proxy = "
		       "\"http://user:password@host:port\".";
	case FAILURE_PROXY_REFUSES:
		return "Have the proxy allow CONNECT to host and port of uplink.url, or set "
		       "another "
		       "uplink.proxy.";
	case FAILURE_PROXY_TARGET:
		return "The proxy cannot reach the server: is uplink.url right, is the server up?";
	case FAILURE_NO_PROXY:
		return "Is uplink.proxy (or https_proxy) an HTTP proxy that allows CONNECT, and "
		       "its "
		       "port right?";
	}
	return "Is uplink.proxy (or https_proxy) right, is the proxy up, does it let through to "
	       "the "
	       "server?";
}

static const char *of_tls(enum failure_cause cause)
{
	switch ((int)cause) {
	case FAILURE_SILENCE:
		return "Is there a TLS server at that port, and does a firewall let TLS through?";
	case FAILURE_CLOCK:
		return "Set the hub's clock, with NTP or date -s; with uplink.pins it needs none.";
	case FAILURE_NOT_YET_VALID:
		return "Set the hub's clock, with NTP or date -s; if it is right, the server needs "
		       "another certificate.";
	case FAILURE_EXPIRED:
		return "Renew it on the server; if the hub's clock is wrong, set that, with NTP or "
		       "date -s.";
	case FAILURE_OTHER_HOST:
		return "The host in uplink.url must be one that the certificate is for: correct "
		       "one "
		       "of them.";
	case FAILURE_UNKNOWN_CA:
		return "Put the CA's certificate into the file of uplink.ca_file, if it can be "
		       "trusted.";
	case FAILURE_BAD_CERTIFICATE:
		return "The server needs another certificate, made for TLS servers and not too "
		       "weak.";
	case FAILURE_PIN:
		return "If that is the server's new key, add it to uplink.pins; if not, somebody "
		       "else "
		       "answers there.";
	case FAILURE_CERTIFICATE_WANTED:
		return "Set auth.mode = \"certificate\" and auth.certificate_file; get one with "
		       "blecon-hotspotctl identity --csr.";
	case FAILURE_CERTIFICATE_REFUSED:
		return "Is auth.certificate_file valid, and of a CA that the cloud knows? Get a "
		       "new "
		       "one with blecon-hotspotctl identity --csr.";
	case FAILURE_TLS_VERSION:
		return "Turn on TLS 1.2 on the server.";
	case FAILURE_NO_TLS:
		return "Is the port in uplink.url that of the TLS server?";
	case FAILURE_FILES:
		return "Are uplink.ca_file and auth.certificate_file there, readable, and PEM? Try "
		       "blecon-hotspotd --check-config.";
	}
	return "Look at the server's log: it may want a client certificate (auth.mode); or a "
	       "firewall "
	       "cuts TLS off.";
}

static const char *of_upgrade(enum failure_cause cause, unsigned status)
{
	if (cause == FAILURE_TOKEN)
		return "Correct the file of auth.token_file; it is read again at each attempt.";
	if (cause == FAILURE_SUBPROTOCOL)
		return "Is uplink.url that of a Blecon cloud, path included?";
	if (cause == FAILURE_SILENCE)
		return "Is the cloud behind that server up? Look at its log.";
	switch (status) {
	case 0:
		return "Is uplink.url that of a Blecon cloud? Look at the server's log.";
	case 400:
	case 426:
		return "A proxy in front of the cloud must pass Upgrade on (nginx: "
		       "proxy_http_version "
		       "1.1): README, Behind nginx.";
	case 401:
		return "Put the right token into auth.token_file, or set auth.mode as the cloud "
		       "wants "
		       "it.";
	case 403:
		return "Have this hotspot allowed in the cloud; blecon-hotspotctl identity shows "
		       "its "
		       "id.";
	case 404:
		return "Correct the path in uplink.url, or what a proxy in front of the cloud "
		       "makes "
		       "of it.";
	case 429:
		return "The cloud has too much to do: see to that there; " BY_ITSELF;
	}
	if (status / 100 == 5)
		return "The cloud is down behind that server, or restarts: see to it "
		       "there; " BY_ITSELF;
	return "Something else answers there: is uplink.url right, does the network want a login?";
}

/* Of a WebSocket close code. NULL for none that is known. */
static const char *of_code(unsigned code)
{
	switch (code) {
	case MESSAGE_WS_NOT_AUTHENTICATED:
		return "Register the hotspot in the cloud (blecon-hotspotctl identity); if it says "
		       "\"this is not\", a proxy changes Host (README, Behind nginx).";
	case MESSAGE_WS_NOT_ALLOWED:
		return "Have this hotspot allowed in the cloud; blecon-hotspotctl identity shows "
		       "its "
		       "id.";
	case MESSAGE_WS_REPLACED:
		return "Two hubs have the same key: on the copy, delete hotspot.key in its "
		       "state_dir "
		       "and restart it.";
	case MESSAGE_WS_BAD_MESSAGE:
	case MESSAGE_WS_VERSION:
		return "Hub and cloud do not understand each other: update the older one.";
	case MESSAGE_WS_GOING_AWAY:
	case WS_RESTARTS:
	case WS_TRY_LATER:
		return "The cloud stops or restarts: wait; " BY_ITSELF;
	}
	return NULL;
}

static const char *of_hello(enum failure_cause cause)
{
	if (cause == FAILURE_SILENCE)
		return "Is uplink.url that of a Blecon cloud, path included, and is it up?";
	return READ_LOG;
}

static const char *of_up(const struct failure *failure)
{
	if (failure->cause == FAILURE_SILENCE)
		return "Is the line down? If it comes again and again, lower "
		       "uplink.ping_interval_s: "
		       "a NAT or firewall may forget too soon.";
	if (failure->code == 0)
		return "If it comes again and again: a proxy's idle time must be above "
		       "uplink.ping_interval_s (README, Behind nginx).";
	return READ_LOG;
}

static const char *of_failure(const struct failure *failure, bool proxy)
{
	const char *text = of_code(failure->code);

	if (text)
		return text;
	switch (failure->at) {
	case FAILURE_AT_NONE:
		break;
	case FAILURE_AT_RESOLVE:
		return of_resolve(failure->cause, proxy);
	case FAILURE_AT_TCP:
		return of_tcp(failure->cause);
	case FAILURE_AT_PROXY:
		return of_proxy(failure->cause);
	case FAILURE_AT_TLS:
		return of_tls(failure->cause);
	case FAILURE_AT_UPGRADE:
		return of_upgrade(failure->cause, failure->http_status);
	case FAILURE_AT_HELLO:
		return of_hello(failure->cause);
	case FAILURE_AT_UP:
		return of_up(failure);
	}
	return "";
}

void advice_own_certificate(const struct advice_uplink_facts *facts, char *ret, size_t size)
{
	int64_t left_s = facts->own_certificate_end - facts->now_s;
	int64_t days = (left_s < 0 ? -left_s : left_s) / DAY_S;

	*ret = '\0';
	if (facts->own_certificate_end == 0 || facts->now_s < UTIL_CLOCK_SET_S ||
	    left_s > ENDS_SOON_S)
		return;
	snprintf(ret, size,
		 "The hotspot's own certificate %s %lld day%s%s: get a new one with "
		 "blecon-hotspotctl identity --csr, and reload.",
		 left_s < 0 ? "ended" : "ends in", (long long)days, days == 1 ? "" : "s",
		 left_s < 0 ? " ago" : "");
}

void advice_uplink(const struct advice_uplink_facts *facts, char *ret, size_t size)
{
	const struct uplink_status *s = facts->uplink;

	if (s->state == UPLINK_STATE_UNCONFIGURED)
		snprintf(ret, size, "Set uplink.url in %s, and reload (SIGHUP).",
			 facts->config_file);
	else if (s->state == UPLINK_STATE_UP && facts->late_ms > 0)
		snprintf(ret, size,
			 "See to the cloud, which takes nothing in; the hub keeps what it hears.");
	else if (s->state == UPLINK_STATE_UP)
		advice_own_certificate(facts, ret, size);
	else
		snprintf(ret, size, "%s", of_failure(&s->failure, *s->proxy != '\0'));
}
