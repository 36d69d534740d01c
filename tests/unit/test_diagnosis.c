/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/diagnosis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "agent/util.h"
#include "tests/unit/diagnose.h"
#include "tests/unit/peer.h"

#define SECRET "user:pass\xc3\xb6"

static struct diagnose at_port(uint16_t port)
{
	return (struct diagnose){
		.target = {.address = "127.0.0.1",
			   .port = port,
			   .authority = "hub.example.com:443"},
	};
}

static struct diagnose at_proxy(uint16_t port, const char *credentials)
{
	struct diagnose what = at_port(port);

	what.target.proxy = true;
	what.target.proxy_credentials = credentials;
	return what;
}

static void tells_of_tcp(void **state)
{
	struct diagnose what = at_port(closed_port());

	(void)state;
	for (int within = 0; within < 2; within++) {
		what.cancel_within = within;
		assert_string_equal(diagnose(&what), "Connection refused");
		assert_int_equal(diagnose_cause(), FAILURE_REFUSED);
		assert_int_equal(diagnose_step(), WEBSOCKET_STEP_TCP);
	}
	what.target.proxy = true;
	assert_string_equal(diagnose(&what), "the proxy cannot be reached: Connection refused");
}

/* connect() itself fails: told later all the same. */
static void tells_what_fails_at_once(void **state)
{
	struct diagnose what = at_port(443);

	(void)state;
	what.target.address = "255.255.255.255";
	for (int within = 0; within < 2; within++) {
		what.cancel_within = within;
		assert_true(strlen(diagnose(&what)) > 0);
	}
	what.target.address = "no.number";
	assert_string_equal(diagnose(&what), "Invalid argument");
}

static void tells_of_the_proxy(void **state)
{
	static const struct {
		const char *answer;
		enum peer_end end;
		const char *credentials;
		enum failure_cause cause;
		const char *text;
	} vectors[] = {
		{"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 1000000\r\n\r\n",
		 PEER_WAITS, SECRET, FAILURE_PROXY_USER,
		 "the proxy refuses the tunnel: HTTP 407 Proxy Authentication Required: check the "
		 "user and password of uplink.proxy"},
		{"HTTP/1.0 407 No\r\n\r\n", PEER_CLOSES, NULL, FAILURE_PROXY_USER,
		 "the proxy refuses the tunnel: HTTP 407 No: it wants a user and a password in "
		 "uplink.proxy"},
		{"HTTP/1.0 401 No\r\n\r\n", PEER_CLOSES, SECRET, FAILURE_PROXY_USER,
		 "the proxy refuses the tunnel: HTTP 401 No: check the user and password of "
		 "uplink.proxy"},
		{"HTTP/1.1 403 Forbidden\r\n", PEER_WAITS, SECRET, FAILURE_PROXY_REFUSES,
		 "the proxy refuses the tunnel: HTTP 403 Forbidden"},
		{"HTTP/1.1 502\n", PEER_WAITS, NULL, FAILURE_PROXY_TARGET,
		 "the proxy refuses the tunnel: HTTP 502"},
		{"HTTP/1.1 502 a\x1b[31m\x80\r\n", PEER_WAITS, NULL, FAILURE_PROXY_TARGET,
		 "the proxy refuses the tunnel: HTTP 502 a?[31m?"},
		{"HTTP/1.1 302 Found, and so much more than anybody would ever want to read in one "
		 "line of a log\r\n\r\n",
		 PEER_WAITS, NULL, FAILURE_PROXY_REFUSES,
		 "the proxy refuses the tunnel: HTTP 302 Found, and so much more than anybody "
		 "would "
		 "ever want to read i"},
		{"SSH-2.0-OpenSSH_9.2\r\n", PEER_WAITS, NULL, FAILURE_NO_PROXY,
		 "the proxy does not speak HTTP"},
		{"HTTP/2 200 OK\r\n\r\n", PEER_WAITS, NULL, FAILURE_NO_PROXY,
		 "the proxy does not speak HTTP"},
		{"HTTP/1.1 2000 OK\r\n\r\n", PEER_WAITS, NULL, FAILURE_NO_PROXY,
		 "the proxy does not speak HTTP"},
		{"HTTP/1.1 -20 OK\r\n\r\n", PEER_WAITS, NULL, FAILURE_NO_PROXY,
		 "the proxy does not speak HTTP"},
		{"\x05\xff", PEER_CLOSES, NULL, FAILURE_NO_PROXY, "the proxy does not speak HTTP"},
		{"HTTP/1.1 20", PEER_CLOSES, NULL, FAILURE_NO_PROXY,
		 "the proxy does not speak HTTP"},
		{NULL, PEER_CLOSES, NULL, FAILURE_NO_PROXY,
		 "the proxy does not answer: it closes the connection"},
		{NULL, PEER_RESETS, NULL, FAILURE_NO_PROXY,
		 "the proxy does not answer: Connection reset by peer"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		struct peer_script script = {
			.until = "\r\n\r\n",
			.answer = vectors[i].answer,
			.end = vectors[i].end,
		};
		struct peer peer;
		struct diagnose what;

		peer_start(&peer, &script);
		what = at_proxy(peer.port, vectors[i].credentials);
		assert_string_equal(diagnose(&what), vectors[i].text);
		assert_int_equal(diagnose_cause(), vectors[i].cause);
		peer_stop(&peer);
	}
}

static void asks_the_proxy(void **state)
{
	static const struct {
		const char *authority, *credentials, *request;
	} vectors[] = {
		{"hub.example.com:443", SECRET,
		 "CONNECT hub.example.com:443 HTTP/1.1\r\nHost: hub.example.com:443\r\n"
		 "Proxy-Authorization: Basic dXNlcjpwYXNzw7Y=\r\n\r\n"},
		{"[2001:db8::1]:8443", NULL,
		 "CONNECT [2001:db8::1]:8443 HTTP/1.1\r\nHost: [2001:db8::1]:8443\r\n\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		struct peer_script script = {
			.until = "\r\n\r\n",
			.answer = "HTTP/1.1 500 No\r\n\r\n",
		};
		struct peer peer;
		struct diagnose what;
		char heard[1024];

		peer_start(&peer, &script);
		what = at_proxy(peer.port, vectors[i].credentials);
		what.target.authority = vectors[i].authority;
		diagnose(&what);
		peer_heard(&peer, heard, sizeof(heard));
		assert_string_equal(heard, vectors[i].request);
		peer_stop(&peer);
	}
}

/* A head that never ends, and one that ends at the limit. */
static void reads_no_endless_answer(void **state)
{
	static char answer[8193] = "HTTP/1.1 200 OK\r\nX: ";
	struct peer_script script = {.until = "\r\n\r\n", .answer = answer, .end = PEER_WAITS};

	(void)state;
	memset(answer + strlen(answer), 'x', sizeof(answer) - 1 - strlen(answer));
	for (size_t len = sizeof(answer) - 2; len < sizeof(answer); len++) {
		struct peer peer;
		struct diagnose what;

		memcpy(answer + len - 4, "\r\n\r\n", 5);
		script.answer_len = len;
		script.end = len < sizeof(answer) - 1 ? PEER_CLOSES : PEER_WAITS;
		if (script.end == PEER_WAITS)
			memset(answer + len - 4, 'x', 4);
		peer_start(&peer, &script);
		what = at_proxy(peer.port, NULL);
		assert_non_null(strstr(diagnose(&what), script.end == PEER_CLOSES
								? "TLS handshake"
								: "answer is too long"));
		peer_stop(&peer);
	}
}

/* Where each step waits when the time is over. */
static void tells_what_it_waits_for(void **state)
{
	struct peer peer;
	struct diagnose what;

	(void)state;
	peer_start(&peer, &(struct peer_script){.end = PEER_WAITS});
	what = at_port(peer.port);
	what.timeout_ms = 200;
	assert_string_equal(diagnose(&what), "no answer in the TLS handshake in 0.2 s");
	peer_stop(&peer);
	peer_start(&peer, &(struct peer_script){.end = PEER_WAITS});
	what = at_proxy(peer.port, NULL);
	what.timeout_ms = 200;
	assert_string_equal(diagnose(&what), "the proxy does not answer: nothing in 0.2 s");
	peer_stop(&peer);
}

static void never(void *userdata, const char *text)
{
	(void)userdata;
	fail_msg("told \"%s\" of what was cancelled", text);
}

static void cancels(void **state)
{
	struct diagnose what = at_port(closed_port());
	struct diagnosis *diagnosis;
	struct loop *loop;

	(void)state;
	diagnosis_cancel(NULL);
	assert_int_equal(loop_new(&loop), 0);
	for (int i = 0; i < 3; i++) {
		what.target.address = i == 0 ? "no.number" : "127.0.0.1";
		assert_int_equal(diagnosis_start(loop, &what.config, &what.target, DIAGNOSE_MS,
						 never, NULL, &diagnosis),
				 0);
		diagnosis_cancel(diagnosis);
	}
	loop_free(loop);
	/* The next one's loop would tell. */
	what = at_port(closed_port());
	assert_string_equal(diagnose(&what), "Connection refused");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tells_of_tcp),
		cmocka_unit_test(tells_what_fails_at_once),
		cmocka_unit_test(tells_of_the_proxy),
		cmocka_unit_test(asks_the_proxy),
		cmocka_unit_test(reads_no_endless_answer),
		cmocka_unit_test(tells_what_it_waits_for),
		cmocka_unit_test(cancels),
	};

	return cmocka_run_group_tests_name("diagnosis", tests, NULL, NULL);
}
