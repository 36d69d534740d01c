/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/ending_cloud.h"

#include <libwebsockets.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "uplink/message.h"

enum end {
	END_GOING_AWAY,
	END_BAD_MESSAGE,
	END_RESET,
	END_WITHOUT_A_WORD,
	ENDS,
	END_GOAWAY = ENDS,
};

/* How often each came to be asked. */
struct counts {
	unsigned connections, upgrades, welcomes;
};

struct hotspot {
	enum end end;
	unsigned received;
	bool goes; /* GOAWAY is due */
};

struct written {
	uint8_t room[LWS_PRE];
	uint8_t message[64];
};

static int write_message(struct lws *wsi, const uint8_t *message, size_t len)
{
	struct written written;

	memcpy(written.message, message, len);
	return lws_write(wsi, written.message, len, LWS_WRITE_BINARY) < (int)len ? -1 : 0;
}

/* What is due after so many messages of the hotspot. */
static int write_next(struct lws *wsi, const struct hotspot *hotspot)
{
	/* A nonce and a time of zeros; no settings and no sessions; in 0 ms, for no reason. */
	static const uint8_t challenge[4 + MESSAGE_NONCE_LEN + 1] = {0x83, MESSAGE_CHALLENGE, 0x58,
								     MESSAGE_NONCE_LEN};
	static const uint8_t welcome[] = {0x83, MESSAGE_WELCOME, 0xa0, 0x80};
	static const uint8_t goaway[] = {0x83, 0x18, MESSAGE_GOAWAY, 0, 0x60};

	if (hotspot->goes)
		return write_message(wsi, goaway, sizeof(goaway));
	if (hotspot->received == 0)
		return write_message(wsi, challenge, sizeof(challenge));
	return write_message(wsi, welcome, sizeof(welcome));
}

/* Returns what libwebsockets wants of a callback: -1 to close. */
static int end(struct lws *wsi, struct hotspot *hotspot)
{
	const struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	switch (hotspot->end) {
	case END_GOAWAY:
		hotspot->goes = true;
		lws_callback_on_writable(wsi);
		return 0;
	case END_GOING_AWAY:
		lws_close_reason(wsi, LWS_CLOSE_STATUS_GOINGAWAY, NULL, 0);
		return -1;
	case END_BAD_MESSAGE:
		lws_close_reason(wsi, (enum lws_close_status)MESSAGE_WS_BAD_MESSAGE,
				 (uint8_t *)"no", 2);
		return -1;
	case END_RESET:
		/* RST, before libwebsockets has TLS say goodbye. */
		connect(lws_get_socket_fd(wsi), &nowhere, sizeof(nowhere));
		return -1;
	case END_WITHOUT_A_WORD:
		break;
	}
	return -1;
}

static int receive(struct lws *wsi, struct hotspot *hotspot)
{
	if (++hotspot->received > 1)
		return hotspot->goes ? 0 : end(wsi, hotspot);
	lws_callback_on_writable(wsi);
	return 0;
}

static void welcome(struct hotspot *hotspot, unsigned number)
{
	*hotspot = (struct hotspot){
		.end = number % ENDING_CLOUD_GOAWAY == 0 ? END_GOAWAY : (enum end)(number % ENDS),
	};
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
		  size_t len)
{
	struct counts *counts = lws_context_user(lws_get_context(wsi));

	(void)in;
	(void)len;
	switch ((int)reason) {
	case LWS_CALLBACK_FILTER_NETWORK_CONNECTION:
		return ++counts->connections % ENDING_CLOUD_REFUSES == 0;
	case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
		if (++counts->upgrades % ENDING_CLOUD_REFUSES > 0)
			return 0;
		lws_return_http_status(wsi, HTTP_STATUS_SERVICE_UNAVAILABLE, NULL);
		return 1;
	case LWS_CALLBACK_ESTABLISHED:
		welcome(user, ++counts->welcomes);
		lws_callback_on_writable(wsi);
		return 0;
	case LWS_CALLBACK_SERVER_WRITEABLE:
		return write_next(wsi, user);
	case LWS_CALLBACK_RECEIVE:
		return receive(wsi, user);
	}
	return 0;
}

static void run_child(const char *certificate, const char *key, int port_fd)
{
	static const struct lws_protocols protocols[] = {
		{.name = MESSAGE_SUBPROTOCOL,
		 .callback = on_lws,
		 .per_session_data_size = sizeof(struct hotspot),
		 .rx_buffer_size = 4096},
		{0},
	};
	struct counts counts = {0};
	struct lws_context_creation_info info = {
		.iface = "127.0.0.1",
		.protocols = protocols,
		.ssl_cert_filepath = certificate,
		.ssl_private_key_filepath = key,
		.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
		.gid = (gid_t)-1,
		.uid = (uid_t)-1,
		.user = &counts,
	};
	struct lws_context *context;
	struct lws_vhost *vhost;
	uint16_t port;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	lws_set_log_level(0, NULL);
	context = lws_create_context(&info);
	vhost = context ? lws_create_vhost(context, &info) : NULL;
	port = vhost ? (uint16_t)lws_get_vhost_listen_port(vhost) : 0;
	if (port == 0 || write(port_fd, &port, sizeof(port)) != sizeof(port))
		_exit(1);
	close(port_fd);
	while (lws_service(context, 0) >= 0)
		;
	_exit(1);
}

void ending_cloud_start(struct ending_cloud *cloud, const char *certificate, const char *key)
{
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	cloud->child = fork();
	assert_true(cloud->child >= 0);
	if (cloud->child == 0)
		run_child(certificate, key, fds[1]);
	close(fds[1]);
	assert_int_equal(read(fds[0], &cloud->port, sizeof(cloud->port)), sizeof(cloud->port));
	close(fds[0]);
}

void ending_cloud_stop(struct ending_cloud *cloud)
{
	kill(cloud->child, SIGKILL);
	waitpid(cloud->child, NULL, 0);
}
