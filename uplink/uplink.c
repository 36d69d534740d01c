/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/uplink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/loop.h"
#include "agent/util.h"
#include "uplink/backoff.h"
#include "uplink/endpoint.h"
#include "uplink/resolver.h"

#define RESOLVE_TIMEOUT_MS 15000
#define STABLE_MS	   60000 /* up for that long: the back-off starts over */
#define GOAWAY_MAX_MS	   3600000 /* the longest delay GOAWAY is granted */

struct uplink {
	struct loop *loop; /* not owned */
	struct uplink_config config;
	const struct uplink_identity *identity; /* not owned */
	struct uplink_handler handler;
	void *userdata; /* not owned */
	struct endpoint endpoint;
	struct websocket *ws;
	struct resolver *resolver; /* NULL while not resolving */
	struct resolver_result addresses;
	size_t next_address;
	uint8_t run[MESSAGE_RUN_LEN];

	enum uplink_state state;
	uint64_t since_ms;
	uint64_t retry_ms;
	char error[ENDPOINT_HOST_MAX + WEBSOCKET_REASON + 96];
	uint64_t error_ms;
	char hotspot_name[MESSAGE_NAME_MAX + 1];
	uint8_t hello[MESSAGE_HELLO_MAX]; /* waits to be sent while hello_len > 0 */
	size_t hello_len;
	bool challenged;
	bool going_away; /* as the server asked, so its end is no failure */
	bool stopping;
	void (*on_stopped)(void *userdata);

	struct backoff backoff;
	struct loop_timer retry_timer;
	struct loop_timer deadline_timer; /* of the state */
	struct loop_timer stable_timer;
	struct loop_timer goaway_timer;
	struct loop_timer ping_timer; /* the next ping, or its answer's deadline */
	uint64_t ping_sent_us; /* 0: no ping is out */
	uint32_t rtt_us;
	uint64_t attempts, connects;
};

static const char *const state_names[] = {
	[UPLINK_STATE_UNCONFIGURED] = "unconfigured",	  [UPLINK_STATE_WAITING] = "waiting",
	[UPLINK_STATE_RESOLVING] = "resolving",		  [UPLINK_STATE_CONNECTING] = "connecting",
	[UPLINK_STATE_AUTHENTICATING] = "authenticating", [UPLINK_STATE_UP] = "up",
};

const char *uplink_state_name(enum uplink_state state)
{
	return state_names[state];
}

static void uplink_set_state(struct uplink *uplink, enum uplink_state state)
{
	log_debug("uplink: %s -> %s", state_names[uplink->state], state_names[state]);
	uplink->state = state;
	uplink->since_ms = util_now_ms();
}

static void wait_for_retry(struct uplink *uplink, uint32_t wait_ms)
{
	uplink_set_state(uplink, UPLINK_STATE_WAITING);
	uplink->retry_ms = util_now_ms() + wait_ms;
	loop_timer_start(&uplink->retry_timer, wait_ms);
}

static uint32_t random_word(void)
{
	uint32_t word;

	util_random(&word, sizeof(word));
	return word;
}

static void failed(struct uplink *uplink, unsigned code)
{
	/* Nothing but a person changes it: who admits the hotspot, or who gave two hubs one key. */
	bool hopeless = code == MESSAGE_WS_NOT_AUTHENTICATED || code == MESSAGE_WS_NOT_ALLOWED ||
			code == MESSAGE_WS_REPLACED || code == MESSAGE_WS_VERSION;
	uint32_t wait_ms;

	uplink->error_ms = util_now_ms();
	if (hopeless)
		wait_ms = backoff_longest(&uplink->backoff, random_word());
	else
		wait_ms = backoff_next(&uplink->backoff, random_word());
	log_at(hopeless ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING,
	       "uplink: %s; next attempt in %u.%u s", uplink->error, wait_ms / 1000,
	       wait_ms % 1000 / 100);
	wait_for_retry(uplink, wait_ms);
}

static void connect_next(struct uplink *uplink)
{
	const char *address = uplink->addresses.addresses[uplink->next_address++];
	const struct websocket_target target = {
		.address = address,
		.port = uplink->endpoint.port,
		.authority = uplink->endpoint.authority,
		.path = uplink->endpoint.path,
		.subprotocol = MESSAGE_SUBPROTOCOL,
	};

	log_debug("uplink: connecting to %s, port %u", address, target.port);
	uplink_set_state(uplink, UPLINK_STATE_CONNECTING);
	loop_timer_start(&uplink->deadline_timer, uplink->config.connect_timeout_ms);
	websocket_connect(uplink->ws, &target);
}

static void on_resolved(void *userdata, const struct resolver_result *result)
{
	struct uplink *uplink = userdata;

	loop_timer_stop(&uplink->deadline_timer);
	uplink->addresses = *result;
	uplink->next_address = 0;
	resolver_cancel(TAKE_PTR(uplink->resolver));
	if (uplink->addresses.n > 0) {
		connect_next(uplink);
		return;
	}
	snprintf(uplink->error, sizeof(uplink->error), "cannot resolve %s: %s",
		 uplink->endpoint.host, uplink->addresses.error);
	failed(uplink, 0);
}

static void on_retry(void *userdata)
{
	struct uplink *uplink = userdata;
	int r;

	uplink->retry_ms = 0;
	uplink->attempts++;
	uplink_set_state(uplink, UPLINK_STATE_RESOLVING);
	r = resolver_start(uplink->loop, uplink->endpoint.host, on_resolved, uplink,
			   &uplink->resolver);
	if (r < 0) {
		snprintf(uplink->error, sizeof(uplink->error), "cannot start the resolver: %s",
			 strerror(-r));
		failed(uplink, 0);
		return;
	}
	loop_timer_start(&uplink->deadline_timer, RESOLVE_TIMEOUT_MS);
}

static void on_deadline(void *userdata)
{
	struct uplink *uplink = userdata;

	if (uplink->resolver) {
		resolver_cancel(TAKE_PTR(uplink->resolver));
		snprintf(uplink->error, sizeof(uplink->error),
			 "cannot resolve %s: no answer in %d s", uplink->endpoint.host,
			 RESOLVE_TIMEOUT_MS / 1000);
		failed(uplink, 0);
	} else if (uplink->state == UPLINK_STATE_CONNECTING) {
		websocket_close(uplink->ws, 0, "no connection in time");
	} else if (uplink->stopping) {
		websocket_close(uplink->ws, 0, "not closed in time");
	} else {
		websocket_close(uplink->ws, 0, "no CHALLENGE and WELCOME in time");
	}
}

static void on_open(void *userdata)
{
	struct uplink *uplink = userdata;

	uplink_set_state(uplink, UPLINK_STATE_AUTHENTICATING);
	loop_timer_start(&uplink->deadline_timer, uplink->config.connect_timeout_ms);
}

static void forget_connection(struct uplink *uplink)
{
	loop_timer_stop(&uplink->deadline_timer);
	loop_timer_stop(&uplink->stable_timer);
	loop_timer_stop(&uplink->goaway_timer);
	loop_timer_stop(&uplink->ping_timer);
	uplink->ping_sent_us = 0;
	uplink->hello_len = 0;
	uplink->challenged = uplink->going_away = false;
}

/* Why the connection ended, for the log and the status. */
static void describe_end(struct uplink *uplink, bool by_peer, unsigned code, const char *reason)
{
	size_t size = sizeof(uplink->error);

	if (!*reason)
		reason = "no reason given";
	if (uplink->state == UPLINK_STATE_CONNECTING)
		snprintf(uplink->error, size, "cannot connect to %s, port %u: %s",
			 uplink->addresses.addresses[uplink->next_address - 1],
			 uplink->endpoint.port, reason);
	else if (code == WEBSOCKET_NO_HANDSHAKE)
		snprintf(uplink->error, size, "%s", reason);
	else if (by_peer && code == MESSAGE_WS_REPLACED)
		snprintf(uplink->error, size,
			 "closed by the server (%u): another hotspot has this one's key: %s", code,
			 reason);
	else if (by_peer)
		snprintf(uplink->error, size, "closed by the server (%u): %s", code, reason);
	else if (code == MESSAGE_WS_BAD_MESSAGE)
		snprintf(uplink->error, size, "bad message from the server, closed (%u): %s", code,
			 reason);
	else
		snprintf(uplink->error, size, "closed (%u): %s", code, reason);
}

static void on_closed(void *userdata, bool by_peer, unsigned code, const char *reason)
{
	struct uplink *uplink = userdata;
	enum uplink_state was = uplink->state;
	bool going_away = uplink->going_away;

	forget_connection(uplink);
	if (going_away && !by_peer && !uplink->stopping) {
		uplink->handler.on_down(uplink->userdata);
		wait_for_retry(uplink, 0);
		return;
	}
	describe_end(uplink, by_peer, code, reason);
	if (was == UPLINK_STATE_UP)
		uplink->handler.on_down(uplink->userdata);
	if (uplink->stopping) {
		uplink_set_state(uplink, UPLINK_STATE_UNCONFIGURED);
		uplink->on_stopped(uplink->userdata);
		return;
	}
	if (was == UPLINK_STATE_CONNECTING && uplink->next_address < uplink->addresses.n) {
		log_info("uplink: %s; trying the next address", uplink->error);
		connect_next(uplink);
		return;
	}
	failed(uplink, code);
}

static void on_challenge(struct uplink *uplink, const struct message *m)
{
	const struct uplink_identity *identity = uplink->identity;
	uint8_t covered[512], signature[MESSAGE_SIGNATURE_LEN];
	struct message_resume resume[MESSAGE_RESUME_MAX];
	const struct message_hello hello = {
		.hotspot_id = identity->hotspot_id,
		.public_key = identity->public_key,
		.signature = signature,
		.run = uplink->run,
		.agent = uplink->config.agent,
		.resume = resume,
		.n_resume = uplink->handler.on_hello(uplink->userdata, resume),
	};
	size_t len = message_signed_bytes(m->challenge.nonce, identity->hotspot_id,
					  uplink->endpoint.authority, covered, sizeof(covered));
	int r = identity->sign(identity->userdata, covered, len, signature);

	uplink->challenged = true;
	if (r < 0) {
		log_error("uplink: cannot sign the hello: %s", strerror(-r));
		websocket_close(uplink->ws, 0, "cannot sign the hello");
		return;
	}
	uplink->hello_len = message_encode_hello(&hello, uplink->hello, sizeof(uplink->hello));
	websocket_want_write(uplink->ws);
}

static void schedule_ping(struct uplink *uplink)
{
	if (uplink->config.ping_interval_ms > 0)
		loop_timer_start(&uplink->ping_timer, uplink->config.ping_interval_ms);
}

static void on_welcome(struct uplink *uplink, const struct message *m)
{
	loop_timer_stop(&uplink->deadline_timer);
	uplink->connects++;
	memcpy(uplink->hotspot_name, m->welcome.hotspot_name, sizeof(uplink->hotspot_name));
	uplink_set_state(uplink, UPLINK_STATE_UP);
	log_info("uplink: up, %s at %s%s%s", uplink->endpoint.authority,
		 uplink->addresses.addresses[uplink->next_address - 1],
		 *uplink->hotspot_name ? ", this hotspot is " : "", uplink->hotspot_name);
	loop_timer_start(&uplink->stable_timer, STABLE_MS);
	schedule_ping(uplink);
	uplink->handler.on_up(uplink->userdata, &m->welcome);
	websocket_want_write(uplink->ws);
}

static void on_goaway(struct uplink *uplink, const struct message *m)
{
	uint32_t after_ms = (uint32_t)MIN(m->goaway.after_ms, (uint64_t)GOAWAY_MAX_MS);

	/* Jitter on top, as many hubs hear the same. */
	after_ms += util_random_below(after_ms / 4 + 500);
	log_info("uplink: the server asks to reconnect: %s; in %u.%u s", m->goaway.reason,
		 after_ms / 1000, after_ms % 1000 / 100);
	loop_timer_start(&uplink->goaway_timer, after_ms);
	uplink->handler.on_goaway(uplink->userdata);
}

static void on_decoded(struct uplink *uplink, const struct message *m)
{
	bool up = uplink->state == UPLINK_STATE_UP;

	if (m->type == MESSAGE_CHALLENGE) {
		if (uplink->challenged)
			websocket_close(uplink->ws, MESSAGE_WS_BAD_MESSAGE, "a second CHALLENGE");
		else
			on_challenge(uplink, m);
	} else if (m->type == MESSAGE_WELCOME) {
		if (up || !uplink->challenged)
			websocket_close(uplink->ws, MESSAGE_WS_BAD_MESSAGE,
					"a WELCOME that answers no HELLO");
		else
			on_welcome(uplink, m);
	} else if (!up) {
		websocket_close(uplink->ws, MESSAGE_WS_BAD_MESSAGE, "a message before WELCOME");
	} else if (m->type == MESSAGE_GOAWAY) {
		on_goaway(uplink, m);
	} else {
		uplink->handler.on_message(uplink->userdata, m);
	}
}

static void on_message(void *userdata, const uint8_t *data, size_t len)
{
	struct uplink *uplink = userdata;
	struct message m;
	const char *what;
	int r = message_decode(data, len, &m, &what);

	if (r == -ENOMSG)
		log_debug("uplink: ignoring a message of unknown type, %zu bytes", len);
	else if (r < 0)
		websocket_close(uplink->ws, MESSAGE_WS_BAD_MESSAGE, what);
	else
		on_decoded(uplink, &m);
}

static void on_alive(void *userdata, bool pong)
{
	struct uplink *uplink = userdata;

	if (uplink->ping_sent_us == 0)
		return;
	if (pong)
		uplink->rtt_us = (uint32_t)(util_now_us() - uplink->ping_sent_us);
	uplink->ping_sent_us = 0;
	schedule_ping(uplink);
}

static void on_ping_timer(void *userdata)
{
	struct uplink *uplink = userdata;

	if (uplink->ping_sent_us != 0) {
		websocket_close(uplink->ws, 0, "no answer to a ping");
		return;
	}
	uplink->ping_sent_us = util_now_us();
	loop_timer_start(&uplink->ping_timer, uplink->config.ping_timeout_ms);
	websocket_ping(uplink->ws);
}

static size_t on_writable(void *userdata, uint8_t *buf, size_t size)
{
	struct uplink *uplink = userdata;
	size_t len = uplink->hello_len;

	if (len > 0) {
		memcpy(buf, uplink->hello, len);
		uplink->hello_len = 0;
		return len;
	}
	if (uplink->state != UPLINK_STATE_UP)
		return 0;
	len = uplink->handler.on_writable(uplink->userdata, buf, size);
	if (len == 0 && uplink->stopping)
		websocket_close(uplink->ws, MESSAGE_WS_GOING_AWAY, "hotspot stopping");
	return len;
}

static void on_stable(void *userdata)
{
	struct uplink *uplink = userdata;

	backoff_reset(&uplink->backoff);
}

static void on_goaway_timer(void *userdata)
{
	struct uplink *uplink = userdata;

	backoff_reset(&uplink->backoff);
	uplink->going_away = true;
	log_info("uplink: reconnecting, as the server asked");
	websocket_close(uplink->ws, MESSAGE_WS_GOING_AWAY, "reconnecting as asked");
}

static int open_endpoint(struct uplink *uplink)
{
	static const struct websocket_handler ws_handler = {
		.on_open = on_open,
		.on_message = on_message,
		.on_alive = on_alive,
		.on_writable = on_writable,
		.on_closed = on_closed,
	};
	const char *what;
	int r = endpoint_parse(uplink->config.url, &uplink->endpoint, &what);

	if (r < 0) {
		log_error("uplink: %s: %s", uplink->config.url, what);
		return r;
	}
	r = websocket_new(uplink->loop, uplink->config.ca_file, MESSAGE_MAX, MESSAGE_WS_BAD_MESSAGE,
			  &ws_handler, uplink, &uplink->ws);
	if (r < 0)
		log_error("uplink: cannot set up TLS with %s: %s", uplink->config.ca_file,
			  strerror(-r));
	return r;
}

int uplink_new(struct loop *loop, const struct uplink_config *config,
	       const struct uplink_identity *identity, const struct uplink_handler *handler,
	       void *userdata, struct uplink **ret)
{
	struct uplink *uplink = calloc(1, sizeof(*uplink));
	int r = 0;

	if (!uplink)
		return -ENOMEM;
	uplink->loop = loop;
	uplink->config = *config;
	uplink->identity = identity;
	uplink->handler = *handler;
	uplink->userdata = userdata;
	uplink->since_ms = util_now_ms();
	util_random(uplink->run, sizeof(uplink->run));
	backoff_init(&uplink->backoff, config->backoff_min_ms, config->backoff_max_ms);
	loop_timer_init(loop, &uplink->retry_timer, on_retry, uplink);
	loop_timer_init(loop, &uplink->deadline_timer, on_deadline, uplink);
	loop_timer_init(loop, &uplink->stable_timer, on_stable, uplink);
	loop_timer_init(loop, &uplink->goaway_timer, on_goaway_timer, uplink);
	loop_timer_init(loop, &uplink->ping_timer, on_ping_timer, uplink);
	if (*config->url) {
		r = open_endpoint(uplink);
		if (r == 0)
			wait_for_retry(uplink, 0);
	}
	if (r < 0) {
		uplink_free(uplink);
		return r;
	}
	*ret = uplink;
	return 0;
}

void uplink_free(struct uplink *uplink)
{
	if (!uplink)
		return;
	forget_connection(uplink);
	loop_timer_stop(&uplink->retry_timer);
	resolver_cancel(uplink->resolver);
	websocket_free(uplink->ws);
	free(uplink);
}

void uplink_want_write(struct uplink *uplink)
{
	if (uplink->state == UPLINK_STATE_UP)
		websocket_want_write(uplink->ws);
}

static void on_nothing_to_stop(void *userdata)
{
	struct uplink *uplink = userdata;

	uplink->on_stopped(uplink->userdata);
}

void uplink_stop(struct uplink *uplink, uint32_t timeout_ms, void (*on_stopped)(void *userdata))
{
	uplink->stopping = true;
	uplink->on_stopped = on_stopped;
	if (uplink->state == UPLINK_STATE_UP) {
		loop_timer_start(&uplink->deadline_timer, timeout_ms);
		websocket_want_write(uplink->ws);
	} else if (uplink->state == UPLINK_STATE_CONNECTING ||
		   uplink->state == UPLINK_STATE_AUTHENTICATING) {
		websocket_close(uplink->ws, 0, "hotspot stopping");
	} else {
		resolver_cancel(TAKE_PTR(uplink->resolver));
		loop_timer_stop(&uplink->deadline_timer);
		loop_timer_stop(&uplink->retry_timer);
		loop_timer_init(uplink->loop, &uplink->retry_timer, on_nothing_to_stop, uplink);
		loop_timer_start(&uplink->retry_timer, 0);
	}
}

void uplink_get_status(const struct uplink *uplink, struct uplink_status *ret)
{
	*ret = (struct uplink_status){
		.state = uplink->state,
		.since_ms = uplink->since_ms,
		.retry_ms = uplink->retry_ms,
		.url = uplink->config.url,
		.address = "",
		.error = uplink->error,
		.error_ms = uplink->error_ms,
		.hotspot_name = uplink->hotspot_name,
		.rtt_us = uplink->rtt_us,
		.attempts = uplink->attempts,
		.connects = uplink->connects,
	};
	if (uplink->goaway_timer.armed)
		ret->reconnect_ms = uplink->goaway_timer.due_us / 1000;
	if (uplink->next_address > 0)
		ret->address = uplink->addresses.addresses[uplink->next_address - 1];
	if (uplink->ws)
		websocket_get_counters(uplink->ws, &ret->counters);
}
