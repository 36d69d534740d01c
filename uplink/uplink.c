/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/uplink.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/loop.h"
#include "agent/util.h"
#include "uplink/describe.h"
#include "uplink/hello.h"
#include "uplink/keepalive.h"
#include "uplink/route.h"
#include "uplink/token.h"

#define STABLE_MS     60000 /* up for that long: the back-off starts over */
#define GOAWAY_MAX_MS 3600000 /* the longest delay GOAWAY is granted */

struct uplink {
	struct loop *loop; /* not owned */
	struct uplink_config config;
	const struct uplink_identity *identity; /* not owned */
	struct uplink_handler handler;
	void *userdata; /* not owned */
	struct urls urls;
	struct url *url; /* of urls: in use or tried last, NULL for none yet */
	struct websocket *ws;
	struct route route; /* to url */

	enum uplink_state state;
	uint64_t since_ms;
	uint64_t retry_ms;
	char error[URLS_ERROR];
	struct failure failure; /* of error */
	uint64_t error_ms;
	char hotspot_name[MESSAGE_NAME_MAX + 1];
	uint8_t hello[MESSAGE_HELLO_MAX]; /* waits to be sent while hello_len > 0 */
	size_t hello_len;
	bool challenged;
	bool going_away; /* as the server asked, so its end is no failure */
	bool silent; /* the server was, so the connection is to end */
	bool stopping;
	void (*on_stopped)(void *userdata);

	const char *missing; /* what the deadline is for */
	struct keepalive keepalive;
	struct loop_timer retry_timer;
	struct loop_timer deadline_timer; /* of the state, and of its steps */
	struct loop_timer stable_timer;
	struct loop_timer goaway_timer;
	uint64_t attempts, connects;
	struct traffic traffic;
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

/* Until the first URL whose time comes. Returns the wait. */
static uint64_t wait_for_retry(struct uplink *uplink)
{
	uint64_t now_ms = util_now_ms();
	uint64_t retry_ms = MAX(urls_next(&uplink->urls, now_ms)->retry_ms, now_ms);

	uplink_set_state(uplink, UPLINK_STATE_WAITING);
	uplink->retry_ms = retry_ms;
	loop_timer_start(&uplink->retry_timer, retry_ms - now_ms);
	return retry_ms - now_ms;
}

/* error says why. end: of the connection, NULL where none was begun; dropped: the server ended one
 * that was up. */
static void failed(struct uplink *uplink, const struct websocket_end *end, bool dropped)
{
	bool hopeless = end && describe_hopeless(end);
	uint64_t now_ms = util_now_ms(), wait_ms;

	uplink->error_ms = now_ms;
	snprintf(uplink->url->error, sizeof(uplink->url->error), "%s", uplink->error);
	uplink->url->failure = uplink->failure;
	url_failed(uplink->url, now_ms, hopeless, end ? end->retry_after_s * 1000 : 0,
		   util_random_below(UINT32_MAX));
	/* After that, or its own wait could be the shorter one, and the order not count. */
	if (dropped)
		urls_disperse(&uplink->urls, now_ms, util_random_below(UINT32_MAX));
	log_event(hopeless ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, LOG_EVENT_UPLINK, "uplink: %s",
		  uplink->error);
	wait_ms = wait_for_retry(uplink);
	log_debug("uplink: next attempt in %u.%u s", (unsigned)(wait_ms / 1000),
		  (unsigned)(wait_ms % 1000 / 100));
}

/* An attempt that came to no connection. */
static void _printf_(3, 4)
	failed_with(struct uplink *uplink, enum failure_cause cause, const char *fmt, ...)
{
	va_list args;

	uplink->failure = (struct failure){.at = failure_at_of(cause), .cause = cause};
	va_start(args, fmt);
	vsnprintf(uplink->error, sizeof(uplink->error), fmt, args);
	va_end(args);
	failed(uplink, NULL, false);
}

static void start_deadline(struct uplink *uplink)
{
	loop_timer_start(&uplink->deadline_timer, uplink->config.connect_timeout_ms);
}

static void connect_next(struct uplink *uplink)
{
	const char *address = route_advance(&uplink->route);
	const struct endpoint *endpoint = &uplink->url->endpoint;
	const struct proxy *proxy = uplink->route.proxy;
	char token[TOKEN_MAX + 1] = "", error[TOKEN_ERROR];
	const struct websocket_target target = {
		.address = address,
		.port = route_port(&uplink->route),
		.proxy = proxy != NULL,
		.proxy_credentials = proxy && *proxy->credentials ? proxy->credentials : NULL,
		.authority = endpoint->authority,
		.path = endpoint->path,
		.subprotocol = MESSAGE_SUBPROTOCOL,
		.bearer_token = uplink->config.token_file ? token : NULL,
	};

	if (uplink->config.token_file && token_read(uplink->config.token_file, token, error) < 0) {
		failed_with(uplink, FAILURE_TOKEN, "%s", error);
		return;
	}
	log_debug("uplink: connecting to %s, port %u", address, target.port);
	uplink_set_state(uplink, UPLINK_STATE_CONNECTING);
	uplink->missing = describe_missing(&uplink->route, WEBSOCKET_STEP_TCP);
	start_deadline(uplink);
	websocket_connect(uplink->ws, &target);
	explicit_bzero(token, sizeof(token));
}

static void on_found(void *userdata, const char *error)
{
	struct uplink *uplink = userdata;

	loop_timer_stop(&uplink->deadline_timer);
	if (error)
		failed_with(uplink, uplink->route.addresses.cause, "cannot resolve %s: %s",
			    route_host(&uplink->route), error);
	else
		connect_next(uplink);
}

static int open_websocket(struct uplink *uplink);

static void on_retry(void *userdata)
{
	struct uplink *uplink = userdata;
	int r;

	uplink->retry_ms = 0;
	uplink->attempts++;
	uplink->url = urls_next(&uplink->urls, util_now_ms());
	if (!uplink->ws && open_websocket(uplink) < 0) {
		failed_with(uplink, FAILURE_FILES, "cannot set up TLS, see the log");
		return;
	}
	uplink_set_state(uplink, UPLINK_STATE_RESOLVING);
	r = route_find(&uplink->route, &uplink->url->endpoint);
	if (r < 0)
		failed_with(uplink, FAILURE_RESOLVER, "cannot start the resolver: %s",
			    strerror(-r));
	else
		start_deadline(uplink);
}

static void on_resolve_deadline(struct uplink *uplink)
{
	route_cancel(&uplink->route);
	failed_with(uplink, FAILURE_NO_DNS, "cannot resolve %s: no answer in %u s",
		    route_host(&uplink->route), uplink->config.connect_timeout_ms / 1000);
}

static void on_deadline(void *userdata)
{
	struct uplink *uplink = userdata;
	char reason[96];

	if (uplink->state == UPLINK_STATE_RESOLVING) {
		on_resolve_deadline(uplink);
		return;
	}
	if (uplink->stopping)
		snprintf(reason, sizeof(reason), "not closed in time");
	else
		snprintf(reason, sizeof(reason), "%s in %u s", uplink->missing,
			 uplink->config.connect_timeout_ms / 1000);
	uplink->silent = true;
	websocket_close(uplink->ws, 0, reason);
}

static void on_step(void *userdata, enum websocket_step step)
{
	struct uplink *uplink = userdata;

	start_deadline(uplink);
	uplink->missing = describe_missing(&uplink->route, step);
	if (step == WEBSOCKET_STEP_OPEN)
		uplink_set_state(uplink, UPLINK_STATE_AUTHENTICATING);
}

static void forget_connection(struct uplink *uplink)
{
	loop_timer_stop(&uplink->deadline_timer);
	loop_timer_stop(&uplink->stable_timer);
	loop_timer_stop(&uplink->goaway_timer);
	keepalive_stop(&uplink->keepalive);
	uplink->hello_len = 0;
	uplink->challenged = uplink->going_away = uplink->silent = false;
}

/* Whether it is to be tried again with the next address: the server itself has not spoken yet. */
static bool has_other_address(const struct uplink *uplink, const struct websocket_end *end)
{
	return end->step < WEBSOCKET_STEP_UPGRADE && route_has_next(&uplink->route);
}

static void on_closed(void *userdata, const struct websocket_end *end)
{
	struct uplink *uplink = userdata;
	bool was_up = uplink->state == UPLINK_STATE_UP;
	bool going_away = uplink->going_away;
	struct failure failure = describe_failure(&uplink->route, end, was_up, uplink->silent);

	forget_connection(uplink);
	if (was_up)
		uplink->handler.on_down(uplink->userdata);
	if (going_away && !end->by_peer && !uplink->stopping) {
		wait_for_retry(uplink);
		return;
	}
	describe_end(&uplink->route, end, uplink->error, sizeof(uplink->error));
	uplink->failure = failure;
	if (uplink->stopping) {
		uplink_set_state(uplink, UPLINK_STATE_UNCONFIGURED);
		uplink->on_stopped(uplink->userdata);
	} else if (has_other_address(uplink, end)) {
		log_info("uplink: %s; trying the next address", uplink->error);
		connect_next(uplink);
	} else {
		failed(uplink, end, was_up && end->by_peer);
	}
}

static void on_challenge(struct uplink *uplink, const struct message *m)
{
	struct message_resume resume[MESSAGE_RESUME_MAX];
	const struct hello hello = {
		.identity = uplink->identity,
		.config = &uplink->config,
		.authority = uplink->url->endpoint.authority,
		.resume = resume,
		.n_resume = uplink->handler.on_hello(uplink->userdata, resume),
	};

	uplink->challenged = true;
	uplink->hello_len =
		hello_encode(&hello, m->challenge.nonce, uplink->hello, sizeof(uplink->hello));
	if (uplink->hello_len > 0)
		websocket_want_write(uplink->ws);
	else
		websocket_close(uplink->ws, 0, "cannot sign the hello");
}

static void on_welcome(struct uplink *uplink, const struct message *m)
{
	loop_timer_stop(&uplink->deadline_timer);
	uplink->connects++;
	uplink->url->failures = 0;
	route_good(&uplink->route);
	memcpy(uplink->hotspot_name, m->welcome.hotspot_name, sizeof(uplink->hotspot_name));
	uplink_set_state(uplink, UPLINK_STATE_UP);
	log_event(LOG_LEVEL_INFO, LOG_EVENT_UPLINK, "uplink: up, %s at %s%s%s",
		  uplink->url->endpoint.authority, route_address(&uplink->route),
		  *uplink->hotspot_name ? ", this hotspot is " : "", uplink->hotspot_name);
	loop_timer_start(&uplink->stable_timer, STABLE_MS);
	keepalive_start(&uplink->keepalive);
	uplink->handler.on_up(uplink->userdata, &m->welcome);
	websocket_want_write(uplink->ws);
}

static void on_goaway(struct uplink *uplink, const struct message *m)
{
	uint32_t after_ms = (uint32_t)MIN(m->goaway.after_ms, (uint64_t)GOAWAY_MAX_MS);

	/* Jitter on top, as many hubs hear the same. */
	after_ms += util_random_below(after_ms / 4 + 500);
	log_event(LOG_LEVEL_INFO, LOG_EVENT_UPLINK,
		  "uplink: the server asks to reconnect: %s; in %u.%u s", m->goaway.reason,
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
	struct message m = {0};
	const char *what;
	int r = message_decode(data, len, &m, &what);

	traffic_received(&uplink->traffic, r == 0 ? m.type : 0, len);
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

	if (pong)
		traffic_pong(&uplink->traffic);
	keepalive_alive(&uplink->keepalive, pong);
}

static void on_ping(void *userdata)
{
	struct uplink *uplink = userdata;

	traffic_ping(&uplink->traffic);
	websocket_ping(uplink->ws);
}

static void on_dead(void *userdata)
{
	struct uplink *uplink = userdata;

	uplink->silent = true;
	websocket_close(uplink->ws, 0, "no answer to a ping");
}

/* Encodes the next message. Returns its length, 0 for none. */
static size_t next_message(struct uplink *uplink, uint8_t *buf, size_t size)
{
	size_t len = uplink->hello_len;

	if (len > 0) {
		memcpy(buf, uplink->hello, len);
		uplink->hello_len = 0;
		return len;
	}
	if (uplink->state != UPLINK_STATE_UP)
		return 0;
	return uplink->handler.on_writable(uplink->userdata, buf, size);
}

static size_t on_writable(void *userdata, uint8_t *buf, size_t size)
{
	struct uplink *uplink = userdata;
	size_t len = next_message(uplink, buf, size);

	if (len > 0) {
		traffic_sent(&uplink->traffic, message_type(buf, len), len);
	} else if (uplink->stopping && uplink->state == UPLINK_STATE_UP) {
		websocket_close(uplink->ws, MESSAGE_WS_GOING_AWAY, "hotspot stopping");
	}
	return len;
}

static void on_stable(void *userdata)
{
	struct uplink *uplink = userdata;

	url_good(uplink->url);
}

static void on_goaway_timer(void *userdata)
{
	struct uplink *uplink = userdata;

	url_good(uplink->url);
	uplink->going_away = true;
	log_info("uplink: reconnecting, as the server asked");
	websocket_close(uplink->ws, MESSAGE_WS_GOING_AWAY, "reconnecting as asked");
}

static int open_websocket(struct uplink *uplink)
{
	static const struct websocket_handler handler = {
		.on_step = on_step,
		.on_message = on_message,
		.on_alive = on_alive,
		.on_writable = on_writable,
		.on_closed = on_closed,
	};
	const struct uplink_config *config = &uplink->config;
	const struct websocket_config ws_config = {
		.ca_file = config->ca_file,
		.pins = config->pins,
		.n_pins = config->n_pins,
		.certificate_file = config->certificate_file,
		.key_file = config->key_file,
		.max_message = MESSAGE_MAX,
		.bad_message_code = MESSAGE_WS_BAD_MESSAGE,
	};
	int r = websocket_new(uplink->loop, &ws_config, &handler, uplink, &uplink->ws);

	if (r < 0)
		log_error("uplink: cannot set up TLS with %s%s%s: %s", config->ca_file,
			  config->certificate_file ? " and " : "",
			  config->certificate_file ? config->certificate_file : "", strerror(-r));
	return r;
}

/* With its configuration, from nothing. The first attempt sets up TLS if nobody did before. */
static int begin(struct uplink *uplink)
{
	const struct uplink_config *config = &uplink->config;
	const char *what;
	size_t bad;
	int r;

	route_init(&uplink->route, uplink->loop, config->proxy, config->no_proxy, on_found, uplink);
	keepalive_init(&uplink->keepalive, uplink->loop, config->ping_interval_ms,
		       config->ping_timeout_ms, on_ping, on_dead, uplink);
	r = urls_init(&uplink->urls, config->urls, config->n_urls, config->backoff_min_ms,
		      config->backoff_max_ms, &bad, &what);
	if (r < 0)
		log_error("uplink: %s: %s", config->urls[bad], what);
	else if (config->n_urls > 0)
		wait_for_retry(uplink);
	return r;
}

/* Back to nothing, without a word to the server. */
static void drop(struct uplink *uplink)
{
	forget_connection(uplink);
	loop_timer_stop(&uplink->retry_timer);
	route_cancel(&uplink->route);
	websocket_free(TAKE_PTR(uplink->ws));
	uplink->url = NULL;
	uplink->retry_ms = 0;
}

int uplink_new(struct loop *loop, const struct uplink_config *config,
	       const struct uplink_identity *identity, const struct uplink_handler *handler,
	       void *userdata, struct uplink **ret)
{
	struct uplink *uplink = calloc(1, sizeof(*uplink));
	int r;

	if (!uplink)
		return -ENOMEM;
	uplink->loop = loop;
	uplink->config = *config;
	uplink->identity = identity;
	uplink->handler = *handler;
	uplink->userdata = userdata;
	uplink->since_ms = util_now_ms();
	loop_timer_init(loop, &uplink->retry_timer, on_retry, uplink);
	loop_timer_init(loop, &uplink->deadline_timer, on_deadline, uplink);
	loop_timer_init(loop, &uplink->stable_timer, on_stable, uplink);
	loop_timer_init(loop, &uplink->goaway_timer, on_goaway_timer, uplink);
	r = begin(uplink);
	if (r == 0 && config->n_urls > 0)
		r = open_websocket(uplink);
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
	drop(uplink);
	free(uplink);
}

int uplink_configure(struct uplink *uplink, const struct uplink_config *config)
{
	bool was_up = uplink->state == UPLINK_STATE_UP;

	if (uplink->stopping)
		return -ESHUTDOWN;
	drop(uplink);
	uplink_set_state(uplink, UPLINK_STATE_UNCONFIGURED);
	if (was_up)
		uplink->handler.on_down(uplink->userdata);
	uplink->config = *config;
	uplink->error[0] = '\0';
	uplink->failure = (struct failure){0};
	return begin(uplink);
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
		route_cancel(&uplink->route);
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
		.url = uplink->url	    ? uplink->url->text
		       : uplink->urls.n > 0 ? uplink->urls.urls[0].text
					    : "",
		.address = route_address(&uplink->route),
		.proxy = uplink->route.proxy ? uplink->route.proxy->authority : "",
		.error = uplink->error,
		.error_ms = uplink->error_ms,
		.failure = uplink->failure,
		.hotspot_name = uplink->hotspot_name,
		.rtt_us = uplink->keepalive.rtt_us,
		.attempts = uplink->attempts,
		.connects = uplink->connects,
		.traffic = uplink->traffic,
		.urls = &uplink->urls,
	};
	if (uplink->goaway_timer.armed)
		ret->reconnect_ms = uplink->goaway_timer.due_us / 1000;
	if (uplink->ws)
		ret->certificate_end = websocket_certificate_end(uplink->ws);
}
