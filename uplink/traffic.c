/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/traffic.h"

const char *traffic_class_name(enum traffic_class class)
{
	static const char *const names[] = {
		[TRAFFIC_SIGHTINGS] = "sightings",
		[TRAFFIC_RELAY] = "relay",
		[TRAFFIC_CONTROL] = "control",
		[TRAFFIC_KEEPALIVE] = "keepalive",
	};

	return names[class];
}

static enum traffic_class class_of(enum message_type type)
{
	if (type == MESSAGE_SIGHTINGS || type == MESSAGE_SIGHTINGS_ACK)
		return TRAFFIC_SIGHTINGS;
	return type >= MESSAGE_OPEN && type <= MESSAGE_CLOSE ? TRAFFIC_RELAY : TRAFFIC_CONTROL;
}

size_t traffic_frame_bytes(size_t len, bool masked)
{
	return len + 2 + (len < 126 ? 0 : len <= UINT16_MAX ? 2 : 8) + (masked ? 4 : 0);
}

void traffic_sent(struct traffic *traffic, enum message_type type, size_t len)
{
	traffic->messages_out++;
	traffic->bytes_out[class_of(type)] += traffic_frame_bytes(len, true);
}

void traffic_received(struct traffic *traffic, enum message_type type, size_t len)
{
	traffic->messages_in++;
	traffic->bytes_in[class_of(type)] += traffic_frame_bytes(len, false);
}

void traffic_ping(struct traffic *traffic)
{
	traffic->bytes_out[TRAFFIC_KEEPALIVE] += traffic_frame_bytes(0, true);
}

void traffic_pong(struct traffic *traffic)
{
	traffic->bytes_in[TRAFFIC_KEEPALIVE] += traffic_frame_bytes(0, false);
}
