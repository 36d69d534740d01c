/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud's side of the messages (uplink/PROTOCOL.md, "Messages"): decodes the hotspot's with
 * uplink/wire.h's cursor, and encodes its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uplink/message.h"

struct sim_hello {
	uint64_t version;
	const uint8_t *hotspot_id, *public_key, *signature, *run;
	struct message_resume resume[MESSAGE_RESUME_MAX];
	size_t n_resume;
};

struct sim_sighting {
	const uint8_t *device_id;
	uint64_t count, state;
};

struct sim_sightings {
	uint64_t batch;
	struct sim_sighting sightings[MESSAGE_SIGHTINGS_MAX];
	size_t n;
};

struct sim_open {
	uint32_t session;
	const uint8_t *device_id;
	uint64_t max_frame, channels;
};

/* One message of the hotspot; what it points to lies in the message. */
struct sim_message {
	enum message_type type;
	union {
		struct sim_hello hello;
		struct sim_sightings sightings;
		struct sim_open open;
		struct message_data data;
		struct message_credit credit;
		struct message_close close;
	};
};

/* Returns whether it is as PROTOCOL.md says. */
bool sim_decode(const uint8_t *data, size_t len, struct sim_message *ret);

/* Into buf of MESSAGE_MAX bytes; DATA, CREDIT and CLOSE are as the hotspot's own. */
size_t sim_encode_challenge(const uint8_t nonce[MESSAGE_NONCE_LEN], uint64_t time_ms, uint8_t *buf);
size_t sim_encode_welcome(const struct message_settings *settings,
			  const struct message_resume *resume, size_t n, uint8_t *buf);
size_t sim_encode_number(enum message_type type, uint64_t number, uint8_t *buf);
size_t sim_encode_goaway(uint64_t after_ms, const char *reason, uint8_t *buf);
