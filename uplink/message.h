/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of the hotspot relay protocol: PROTOCOL.md, section "Messages". Pure. Encoders
 * return the message's length, or 0 where it does not fit into the buffer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MESSAGE_SUBPROTOCOL "hotspot-relay.v1"
#define MESSAGE_VERSION	    1
#define MESSAGE_MAX	    65536 /* bytes of one message */

#define MESSAGE_ID_LEN	       16
#define MESSAGE_NONCE_LEN      32
#define MESSAGE_PUBLIC_KEY_LEN 65
#define MESSAGE_SIGNATURE_LEN  64
#define MESSAGE_RUN_LEN	       8
#define MESSAGE_NAME_MAX       64 /* bytes of hotspot_name that are kept */
#define MESSAGE_REASON_MAX     128 /* bytes of a reason that are kept */
#define MESSAGE_CREDITS_MAX    64 /* initial credits of a session */
#define MESSAGE_SIGHTINGS_MAX  100 /* sightings of one batch */
#define MESSAGE_RESUME_MAX     64 /* sessions one HELLO lists */
#define MESSAGE_HELLO_MAX      2048 /* bytes of a HELLO */
#define MESSAGE_SIGHTING_BYTES 78 /* of one sighting of ADVERT_LEN bytes, at most */
#define MESSAGE_BATCH_BYTES    13 /* of a SIGHTINGS besides, at most; an acknowledgement has fewer */

enum message_type {
	MESSAGE_CHALLENGE = 1,
	MESSAGE_HELLO = 2,
	MESSAGE_WELCOME = 3,
	MESSAGE_SIGHTINGS = 10,
	MESSAGE_SIGHTINGS_ACK = 11,
	MESSAGE_OPEN = 20,
	MESSAGE_ACCEPT = 21,
	MESSAGE_DATA = 22,
	MESSAGE_CREDIT = 23,
	MESSAGE_CLOSE = 24,
	MESSAGE_STATS = 30,
	MESSAGE_GOAWAY = 31,
};

/* WebSocket close codes of the protocol. */
enum message_ws_code {
	MESSAGE_WS_GOING_AWAY = 1001,
	MESSAGE_WS_BAD_MESSAGE = 4400,
	MESSAGE_WS_NOT_AUTHENTICATED = 4401,
	MESSAGE_WS_NOT_ALLOWED = 4403,
	MESSAGE_WS_REPLACED = 4409,
	MESSAGE_WS_VERSION = 4426,
};

/* Codes of CLOSE. */
enum message_close_code {
	MESSAGE_CLOSE_DONE = 0,
	MESSAGE_CLOSE_DISCONNECTED = 1,
	MESSAGE_CLOSE_IDLE = 2,
	MESSAGE_CLOSE_REFUSED = 3,
	MESSAGE_CLOSE_RADIO = 4,
	MESSAGE_CLOSE_NOT_SERVED = 5,
	MESSAGE_CLOSE_RESUME = 6,
	MESSAGE_CLOSE_STOPPING = 7,
	MESSAGE_CLOSE_PROTOCOL = 8,
};

enum message_sighting_state {
	MESSAGE_APPEARED = 0,
	MESSAGE_PRESENT = 1,
	MESSAGE_LOST = 2,
};

/* A session its sender still has: PROTOCOL.md, "After a dropped connection". */
struct message_resume {
	uint32_t session;
	uint64_t next_seq; /* all below it arrived */
	uint32_t credits; /* frames more, from next_seq on, that it takes */
};

/* Lies in the message decoded. */
struct message_resume_list {
	const uint8_t *data;
	size_t len, n;
};
/* Returns whether the session is in the list. */
bool message_find_resume(const struct message_resume_list *list, uint32_t session,
			 struct message_resume *ret);

/* What WELCOME asks for; a zero or empty field was not there. */
struct message_settings {
	uint64_t report_ms;
	uint64_t resume_ms;
	uint32_t credits;
	char hotspot_name[MESSAGE_NAME_MAX + 1];
	struct message_resume_list resume; /* the sessions the cloud still has */
};

/* DATA in both directions. */
struct message_data {
	uint32_t session;
	uint32_t channel;
	uint64_t seq;
	const uint8_t *payload; /* lies in the message decoded */
	size_t len;
};

struct message_credit {
	uint32_t session;
	uint32_t credits;
	uint64_t next_seq;
};

struct message_close {
	uint32_t session;
	uint32_t code; /* enum message_close_code, or one to come */
	char reason[MESSAGE_REASON_MAX + 1];
};

/* One message of the cloud. */
struct message {
	enum message_type type;
	union {
		struct {
			uint8_t nonce[MESSAGE_NONCE_LEN];
			uint64_t server_time_ms; /* Unix */
		} challenge;
		struct message_settings welcome;
		uint64_t ack_batch;
		uint32_t accept_session;
		struct message_data data;
		struct message_credit credit;
		struct message_close close;
		struct {
			uint64_t after_ms;
			char reason[MESSAGE_REASON_MAX + 1];
		} goaway;
	};
};

/* Returns 0 and *ret; -ENOMSG for a well-formed message of a type the cloud does not send, to be
 * ignored; -EBADMSG with *ret_what, a constant that names what is wrong, for anything else. */
int message_decode(const uint8_t *data, size_t len, struct message *ret, const char **ret_what);

/* Where the hotspot is mounted. */
struct message_location {
	bool has_position;
	int32_t latitude_udeg, longitude_udeg; /* WGS 84, millionths of a degree */
	uint32_t accuracy_m; /* 0: not known */
	const char *floor, *zone, *name; /* empty for none */
};

/* Of a message encoded here; 0 for anything else. */
enum message_type message_type(const uint8_t *data, size_t len);

struct message_hello {
	const uint8_t *hotspot_id;
	const uint8_t *public_key;
	const uint8_t *signature;
	const uint8_t *run; /* MESSAGE_RUN_LEN bytes: PROTOCOL.md, "Info" */
	const char *agent; /* name and version of the program */
	const struct message_location *location; /* NULL for none */
	const struct message_resume *resume;
	size_t n_resume; /* at most MESSAGE_RESUME_MAX */
};
size_t message_encode_hello(const struct message_hello *hello, uint8_t *buf, size_t size);

/* The bytes a HELLO's signature covers. Returns their number, or 0. */
size_t message_signed_bytes(const uint8_t nonce[MESSAGE_NONCE_LEN],
			    const uint8_t hotspot_id[MESSAGE_ID_LEN], const char *authority,
			    uint8_t *buf, size_t size);

struct message_sighting {
	const uint8_t *device_id;
	const uint8_t *service_data;
	size_t service_data_len;
	uint64_t first_age_ms;
	uint64_t last_age_ms;
	uint64_t count;
	int rssi_last, rssi_min, rssi_max; /* dBm, 127 for not available */
	enum message_sighting_state state;
	unsigned adapter;
};
size_t message_encode_sightings(uint64_t batch, const struct message_sighting *sightings, size_t n,
				uint8_t *buf, size_t size);

struct message_open {
	uint32_t session;
	const uint8_t *device_id;
	const uint8_t *service_data;
	size_t service_data_len;
	unsigned bearer;
	size_t max_frame;
	int rssi;
	unsigned channels;
};
size_t message_encode_open(const struct message_open *open, uint8_t *buf, size_t size);
size_t message_encode_data(const struct message_data *data, uint8_t *buf, size_t size);
size_t message_encode_credit(const struct message_credit *credit, uint8_t *buf, size_t size);
size_t message_encode_close(const struct message_close *close, uint8_t *buf, size_t size);

struct message_counter {
	const char *name;
	uint64_t value;
};
size_t message_encode_stats(const struct message_counter *counters, size_t n, uint8_t *buf,
			    size_t size);
