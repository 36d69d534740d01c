/* SPDX-License-Identifier: Apache-2.0 */
/* What the bytes of the uplink are for. They are those of WebSocket frames with their headers (RFC
 * 6455, section 5.2), without TLS and what is below. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uplink/message.h"

enum traffic_class {
	TRAFFIC_SIGHTINGS, /* and their acknowledgements */
	TRAFFIC_RELAY, /* of device sessions */
	TRAFFIC_CONTROL, /* hello, statistics and the like */
	TRAFFIC_KEEPALIVE,
	TRAFFIC_CLASSES,
};
const char *traffic_class_name(enum traffic_class class);

struct traffic {
	uint64_t messages_out, messages_in;
	uint64_t bytes_out[TRAFFIC_CLASSES], bytes_in[TRAFFIC_CLASSES];
};

/* Of one frame, from the hotspot (masked) or to it, that carries len bytes. */
size_t traffic_frame_bytes(size_t len, bool masked);
/* A message of this type and length. */
void traffic_sent(struct traffic *traffic, enum message_type type, size_t len);
void traffic_received(struct traffic *traffic, enum message_type type, size_t len);
void traffic_ping(struct traffic *traffic);
void traffic_pong(struct traffic *traffic);
