/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to the cloud, kept up: resolve, connect, authenticate (PROTOCOL.md, section
 * "Connecting"), ping, and again after a back-off whenever it breaks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uplink/failure.h"
#include "uplink/message.h"
#include "uplink/traffic.h"
#include "uplink/urls.h"
#include "uplink/websocket.h"

struct loop;
struct pin;
struct proxy;
struct uplink;

/* Strings and arrays must outlive the object. */
struct uplink_config {
	const char *const *urls; /* wss://..., tried in this order */
	size_t n_urls; /* at most URLS_MAX; 0: waits for one to be configured */
	const char *ca_file; /* PEM */
	const struct pin *pins; /* where there are any, they count instead of ca_file */
	size_t n_pins;
	const char *certificate_file; /* PEM, for TLS client authentication; NULL for none */
	const char *key_file; /* PEM, its key */
	const char *token_file; /* of the bearer token, read at each attempt; NULL for none */
	const struct proxy *proxy; /* NULL for none */
	const char *no_proxy; /* hosts that are reached without it (proxy.h); NULL for none */
	const char *agent; /* name and version for HELLO */
	const uint8_t *run; /* MESSAGE_RUN_LEN bytes for HELLO */
	const struct message_location *location; /* for HELLO; NULL for none */
	uint32_t ping_interval_ms; /* without a frame from the server; 0: never */
	uint32_t ping_timeout_ms;
	uint32_t connect_timeout_ms; /* for each step: TCP, TLS, upgrade, hello */
	uint32_t backoff_min_ms;
	uint32_t backoff_max_ms;
};

/* Who the hotspot is. */
struct uplink_identity {
	uint8_t hotspot_id[MESSAGE_ID_LEN];
	uint8_t public_key[MESSAGE_PUBLIC_KEY_LEN];
	/* ECDSA P-256 with SHA-256, r||s. Returns 0 or -errno. */
	int (*sign)(void *userdata, const uint8_t *data, size_t len,
		    uint8_t ret_signature[MESSAGE_SIGNATURE_LEN]);
	void *userdata; /* not owned */
};

struct uplink_handler {
	/* A HELLO is about to be sent: lists the sessions there are, at most MESSAGE_RESUME_MAX, and
	 * returns their number. on_up follows, or there will be another HELLO. */
	size_t (*on_hello)(void *userdata, struct message_resume *ret);
	/* Welcomed: messages may go. settings: valid during the callback. */
	void (*on_up)(void *userdata, const struct message_settings *settings);
	/* The server wants the connection gone soon: nothing new is to be started on it. */
	void (*on_goaway)(void *userdata);
	/* Not any more; what was sent and not acknowledged may be lost. Only after on_up. */
	void (*on_down)(void *userdata);
	/* Of type SIGHTINGS_ACK, ACCEPT, DATA, CREDIT or CLOSE; valid during the callback. */
	void (*on_message)(void *userdata, const struct message *message);
	/* Encodes the next message and returns its length, 0 for none. Only while up. */
	size_t (*on_writable)(void *userdata, uint8_t *buf, size_t size);
};

enum uplink_state {
	UPLINK_STATE_UNCONFIGURED,
	UPLINK_STATE_WAITING, /* for the next attempt */
	UPLINK_STATE_RESOLVING,
	UPLINK_STATE_CONNECTING,
	UPLINK_STATE_AUTHENTICATING,
	UPLINK_STATE_UP,
};
const char *uplink_state_name(enum uplink_state state);

struct uplink_status {
	enum uplink_state state;
	uint64_t since_ms; /* monotonic, of state */
	uint64_t retry_ms; /* monotonic, the next attempt; 0 where none is set */
	uint64_t reconnect_ms; /* monotonic, when to reconnect as the server asked; 0 for never */
	const char *url; /* in use or tried last */
	const char *address; /* the same, in numbers; empty for none */
	const char *proxy; /* host:port of the proxy, empty for none */
	const char *error; /* why the last connection or attempt ended, empty for never */
	int64_t error_ms; /* monotonic, of error */
	struct failure failure; /* of error */
	const char *hotspot_name; /* the cloud's, or empty */
	uint32_t rtt_us; /* of the last ping answered, 0 for none */
	int64_t certificate_end; /* of the server's, Unix time; 0 where not known */
	uint64_t attempts, connects;
	struct traffic traffic;
	const struct urls *urls; /* the uplink's own */
};

/* Starts at once. config is copied, what it points to and identity must outlive it; handler is copied, userdata not
 * owned. Returns 0 and an object for uplink_free, or -errno with a line in the log. */
int uplink_new(struct loop *loop, const struct uplink_config *config,
	       const struct uplink_identity *identity, const struct uplink_handler *handler,
	       void *userdata, struct uplink **ret);
/* Drops what is open, without a callback. NULL is fine. */
void uplink_free(struct uplink *uplink);
/* Drops what is open, with on_down where it was up, and connects as config says; counters go on. From
 * the loop alone. What TLS needs is read at the first attempt, or, where it cannot be, at the next.
 * Returns 0; or -errno with a line in the log where a URL is none, and there is no uplink then. */
int uplink_configure(struct uplink *uplink, const struct uplink_config *config);
/* There is something to send. Cheap; may be called at any time. */
void uplink_want_write(struct uplink *uplink);
/* Ends the connection for good: sends what on_writable still has, then closes with 1001. on_stopped
 * comes when that is done or timeout_ms are over. */
void uplink_stop(struct uplink *uplink, uint32_t timeout_ms, void (*on_stopped)(void *userdata));
void uplink_get_status(const struct uplink *uplink, struct uplink_status *ret);
