/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/diagnosis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <libwebsockets.h>
#include <mbedtls/ssl.h>

#include "agent/util.h"
#include "tests/unit/certificates.h"
#include "tests/unit/diagnose.h"
#include "tests/unit/peer.h"
#include "uplink/pin.h"

/* Whether mbedTLS speaks TLS 1.3, and libwebsockets too: there a server refuses late. */
#if defined(MBEDTLS_SSL_PROTO_TLS1_3) && !defined(LWS_WITH_MBEDTLS)
#define TLS_1_3 true
#else
#define TLS_1_3 false
#endif

static char ca[CERTIFICATE_PATH], other_ca[CERTIFICATE_PATH], self[CERTIFICATE_PATH];
static char client[CERTIFICATE_PATH], client_of_other[CERTIFICATE_PATH], key[CERTIFICATE_PATH];

static int setup(void **state)
{
	if (make_certificates(state) < 0)
		return -1;
	certificate_path("ca.pem", ca);
	certificate_path("other.pem", other_ca);
	certificate_path("self.pem", self);
	certificate_path("client.pem", client);
	certificate_path("unknown.pem", client_of_other);
	certificate_path("leaf.key", key);
	return 0;
}

static void check_begins(const char *text, const char *beginning)
{
	if (strncmp(text, beginning, strlen(beginning)) != 0)
		fail_msg("\"%s\", not \"%s...\"", text, beginning);
}

static void read_pin(struct pin *ret)
{
	char path[CERTIFICATE_PATH], text[PIN_TEXT] = "";
	FILE *file = fopen(certificate_path("leaf.pin", path), "r");

	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	assert_int_equal(pin_parse(text, ret), 0);
}

static struct diagnose at_port(uint16_t port, const char *authority)
{
	return (struct diagnose){
		.config = {.ca_file = ca},
		.target = {.address = "127.0.0.1", .port = port, .authority = authority},
	};
}

/* What is found at a server with this certificate. */
static const char *diagnose_certificate(const char *name, const char *ca_file,
					const char *authority, const struct pin *pin)
{
	char arguments[128];
	struct peer peer;
	struct diagnose what;
	const char *text;

	snprintf(arguments, sizeof(arguments), "-cert %s.pem -key %s.key %s%s", name,
		 strcmp(name, "weak") == 0 ? name : "leaf", "-cipher DEFAULT@SECLEVEL=0",
		 strcmp(name, "chain") == 0 ? " -cert_chain old.pem" : "");
	peer_start_openssl(&peer, arguments);
	what = at_port(peer.port, authority);
	what.config.ca_file = ca_file;
	what.config.pins = pin;
	what.config.n_pins = pin ? 1 : 0;
	text = diagnose(&what);
	peer_stop(&peer);
	return text;
}

static void tells_of_the_certificate(void **state)
{
	static const struct {
		const char *certificate, *ca_file, *authority;
		enum failure_cause cause;
		const char *text; /* its beginning, or all of it where it is empty */
	} vectors[] = {
		{"good", ca, "hub.example.com:443", FAILURE_UNKNOWN, ""},
		{"good", ca, "HUB.example.com:8443", FAILURE_UNKNOWN, ""},
		{"good", ca, "127.0.0.1:443", FAILURE_UNKNOWN, ""},
		{"self", self, "hub.example.com:443", FAILURE_UNKNOWN, ""},
		{"good", ca, "127.0.0.2:443", FAILURE_OTHER_HOST,
		 "the server's certificate is for another host: CN=hub.example.com, for "
		 "hub.example.com, b.example, 127.0.0.1, not for 127.0.0.2"},
		{"good", ca, "[2001:db8::1]:443", FAILURE_OTHER_HOST,
		 "the server's certificate is for another host: CN=hub.example.com, for "
		 "hub.example.com, b.example, 127.0.0.1, not for 2001:db8::1"},
		{"elsewhere", ca, "hub.example.com:443", FAILURE_OTHER_HOST,
		 "the server's certificate is for another host: CN=a.example, for a.example, "
		 "c.example, 192.0.2.1, not for hub.example.com"},
		{"many", ca, "hub.example.com:443", FAILURE_OTHER_HOST,
		 "the server's certificate is for another host: (no name), for 1.example, "
		 "2.example, 3.example, 4.example, and 1 more, not for hub.example.com"},
		{"expired", ca, "hub.example.com:443", FAILURE_EXPIRED,
		 "the server's certificate has expired: CN=hub.example.com, valid until "
		 "2025-01-02 03:04 UTC; the hub's clock says 20"},
		{"future", ca, "hub.example.com:443", FAILURE_NOT_YET_VALID,
		 "the server's certificate is not valid yet: CN=hub.example.com, valid from "
		 "2098-01-02 03:04 UTC; the hub's clock says 20"},
		{"unknown", ca, "hub.example.com:443", FAILURE_UNKNOWN_CA,
		 "the server's certificate is signed by an unknown CA: CN=hub.example.com by "
		 "CN=Other CA: is uplink.ca_file the right one?"},
		{"self", ca, "hub.example.com:443", FAILURE_UNKNOWN_CA,
		 "the server's certificate is self-signed and not in uplink.ca_file: "
		 "CN=hub.example.com"},
		/* With no CA it trusts nothing else counts. */
		{"worst", ca, "hub.example.com:443", FAILURE_UNKNOWN_CA,
		 "the server's certificate is signed by an unknown CA: CN=a.example by "
		 "CN=Other CA"},
		{"worst", other_ca, "hub.example.com:443", FAILURE_OTHER_HOST,
		 "the server's certificate is for another host: CN=a.example, for a.example, not "
		 "for hub.example.com"},
		{"worst", other_ca, "a.example:443", FAILURE_EXPIRED,
		 "the server's certificate has expired: CN=a.example"},
		{"chain", ca, "hub.example.com:443", FAILURE_EXPIRED,
		 "the certificate of CN=Old CA, which signs the server's, has expired, valid until "
		 "2025-01-02 03:04 UTC; the hub's clock says 20"},
		{"chain", other_ca, "hub.example.com:443", FAILURE_UNKNOWN_CA,
		 "the server's certificate is signed by an unknown CA: CN=Old CA by CN=Test CA"},
		{"client", ca, "hub.example.com:443", FAILURE_BAD_CERTIFICATE,
		 "the server's certificate is not made for a TLS server: CN=client"},
		{"weak", ca, "hub.example.com:443", FAILURE_BAD_CERTIFICATE,
		 "the server's certificate has a key that is too weak, or of a kind that is not "
		 "taken: CN=hub.example.com"},
		{"good", "/nothing/there", "hub.example.com:443", FAILURE_FILES,
		 "cannot use the CA file /nothing/there: No such file or directory"},
		{"good", key, "hub.example.com:443", FAILURE_FILES, "cannot use the CA file "},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		const char *text = diagnose_certificate(vectors[i].certificate, vectors[i].ca_file,
							vectors[i].authority, NULL);

		if (*vectors[i].text)
			check_begins(text, vectors[i].text);
		else
			assert_string_equal(text, "");
		assert_int_equal(diagnose_cause(), vectors[i].cause);
	}
}

/* With pins the key counts, and nothing else. */
static void tells_of_the_pins(void **state)
{
	static const char *const names[] = {"good",  "expired", "unknown", "self",
					    "worst", "client",	"future",  "elsewhere"};
	char expected[DIAGNOSIS_TEXT], text[PIN_TEXT];
	struct pin pin;

	(void)state;
	read_pin(&pin);
	pin_text(&pin, text);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		pin.hash[0] ^= 1;
		snprintf(expected, sizeof(expected),
			 "the server's key is none of uplink.pins: it is %s, of CN=", text);
		check_begins(diagnose_certificate(names[i], NULL, "hub.example.com:443", &pin),
			     expected);
		assert_int_equal(diagnose_cause(), FAILURE_PIN);
		pin.hash[0] ^= 1;
		assert_string_equal(
			diagnose_certificate(names[i], "/nothing", "hub.example.com:443", &pin),
			"");
	}
}

static const char *diagnose_openssl(const char *arguments, const char *certificate_file)
{
	char line[256];
	struct peer peer;
	struct diagnose what;
	const char *text;

	snprintf(line, sizeof(line), "-cert good.pem -key leaf.key %s", arguments);
	peer_start_openssl(&peer, line);
	what = at_port(peer.port, "hub.example.com:443");
	what.config.certificate_file = certificate_file;
	what.config.key_file = certificate_file ? key : NULL;
	text = diagnose(&what);
	peer_stop(&peer);
	return text;
}

static void tells_of_the_client_certificate(void **state)
{
	static const char *const versions[] = {"-tls1_2", TLS_1_3 ? "-tls1_3" : "-tls1_2"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
		char arguments[128];

		snprintf(arguments, sizeof(arguments),
			 "%s -Verify 2 -CAfile ca.pem -verify_return_error", versions[i]);
		assert_string_equal(diagnose_openssl(arguments, client), "");
		check_begins(diagnose_openssl(arguments, NULL),
			     "the server wants a client certificate: see auth.mode: alert ");
		assert_int_equal(diagnose_cause(), FAILURE_CERTIFICATE_WANTED);
		assert_string_equal(
			diagnose_openssl(arguments, client_of_other),
			"the server does not accept the hotspot's certificate: alert 48 "
			"(unknown_ca)");
		assert_int_equal(diagnose_cause(), FAILURE_CERTIFICATE_REFUSED);
	}
}

static void sends_the_name(void **state)
{
	(void)state;
	assert_string_equal(diagnose_openssl("-servername hub.example.com -servername_fatal "
					     "-cert2 good.pem -key2 leaf.key",
					     NULL),
			    "");
	assert_string_equal(diagnose_openssl("-servername a.example -servername_fatal "
					     "-cert2 good.pem -key2 leaf.key",
					     NULL),
			    "the server refused the TLS handshake: alert 112 (unrecognized_name)");
}

static void tells_of_an_old_version(void **state)
{
	(void)state;
	check_begins(diagnose_openssl("-tls1_1 -cipher ALL@SECLEVEL=0", NULL),
		     "TLS: the server does not speak TLS 1.2");
	assert_int_equal(diagnose_cause(), FAILURE_TLS_VERSION);
	if (!TLS_1_3)
		check_begins(diagnose_openssl("-tls1_3", NULL),
#ifdef LWS_WITH_MBEDTLS
			     "TLS: the server does not speak TLS 1.2, and libwebsockets with "
			     "mbedTLS no other");
#else
			     "TLS: the server does not speak TLS 1.2 (this cannot tell "
			     "whether it speaks 1.3)");
#endif
}

/* What a server may answer to a ClientHello besides. */
static void tells_of_what_is_no_handshake(void **state)
{
	static const struct {
		struct peer_script script;
		const char *text;
	} vectors[] = {
		{{.answer = "HTTP/1.1 400 Bad Request\r\n\r\n"},
		 "the server does not answer in TLS: is it a TLS server?"},
		{{.answer = "SSH-2.0-OpenSSH_9.2\r\n", .end = PEER_WAITS},
		 "the server does not answer in TLS: is it a TLS server?"},
		{{.answer = "220 mail.example\r\n", .end = PEER_CLOSES},
		 "the server does not answer in TLS: is it a TLS server?"},
		{{.end = PEER_RESETS}, "Connection reset by peer in the TLS handshake"},
		{{.end = PEER_CLOSES}, "the server closed the connection in the TLS handshake"},
		{{.answer = "\x15\x03\x03\x00\x02\x02\x28", .answer_len = 7},
		 "the server refused the TLS handshake: alert 40 (handshake_failure)"},
		{{.answer = "\x15\x03\x03\x00\x02\x02\x50", .answer_len = 7, .end = PEER_WAITS},
		 "the server refused the TLS handshake: alert 80 (internal_error)"},
		{{.answer = "\x15\x03\x03\x00\x02\x02\xc8", .answer_len = 7},
		 "the server refused the TLS handshake: alert 200"},
		{{.answer = "\x15\x03\x03\x00\x02\x01\x00", .answer_len = 7},
		 "the server closed the connection in the TLS handshake"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		struct peer_script script = vectors[i].script;
		struct peer peer;
		struct diagnose what;

		script.until = "\x16";
		peer_start(&peer, &script);
		what = at_port(peer.port, "hub.example.com:443");
		assert_string_equal(diagnose(&what), vectors[i].text);
		assert_int_equal(diagnose_cause(), strstr(vectors[i].text, "in TLS")
							   ? FAILURE_NO_TLS
							   : FAILURE_TLS_FAILED);
		assert_int_equal(diagnose_step(), WEBSOCKET_STEP_TLS);
		peer_stop(&peer);
	}
}

static void goes_through_the_proxy(void **state)
{
	static const char *const certificates[] = {"good", "expired"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(certificates); i++) {
		struct peer_script script = {
			.until = "\r\n\r\n",
			.answer = "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n",
			.end = PEER_TUNNELS,
		};
		char arguments[64];
		struct peer server, proxy;
		struct diagnose what;

		snprintf(arguments, sizeof(arguments), "-cert %s.pem -key leaf.key",
			 certificates[i]);
		peer_start_openssl(&server, arguments);
		script.to = server.port;
		peer_start(&proxy, &script);
		what = at_port(proxy.port, "hub.example.com:443");
		what.target.proxy = true;
		if (i == 0)
			assert_string_equal(diagnose(&what), "");
		else
			check_begins(diagnose(&what), "the server's certificate has expired");
		peer_stop(&proxy);
		peer_stop(&server);
	}
}

/* A server behind the tunnel that speaks first: it comes with the proxy's answer. */
static void reads_what_comes_with_the_answer(void **state)
{
	struct peer_script script = {
		.until = "\r\n\r\n",
		.answer = "HTTP/1.1 200 OK\r\n\r\nSSH-2.0-OpenSSH_9.2\r\n",
		.end = PEER_WAITS,
	};
	struct diagnose what;
	struct peer peer;

	(void)state;
	peer_start(&peer, &script);
	what = at_port(peer.port, "hub.example.com:443");
	what.target.proxy = true;
	assert_string_equal(diagnose(&what),
			    "the server does not answer in TLS: is it a TLS server?");
	peer_stop(&peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_of_the_certificate),
		cmocka_unit_test(tells_of_the_pins),
		cmocka_unit_test(tells_of_the_client_certificate),
		cmocka_unit_test(sends_the_name),
		cmocka_unit_test(tells_of_an_old_version),
		cmocka_unit_test(tells_of_what_is_no_handshake),
		cmocka_unit_test(goes_through_the_proxy),
		cmocka_unit_test(reads_what_comes_with_the_answer),
	};

	return cmocka_run_group_tests_name("diagnosis_tls", tests, setup, remove_certificates);
}
