/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/traffic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* RFC 6455, section 5.2. */
static void knows_the_frame(void **state)
{
	(void)state;
	assert_int_equal(traffic_frame_bytes(0, true), 6);
	assert_int_equal(traffic_frame_bytes(125, true), 125 + 6);
	assert_int_equal(traffic_frame_bytes(126, true), 126 + 8);
	assert_int_equal(traffic_frame_bytes(65535, false), 65535 + 4);
	assert_int_equal(traffic_frame_bytes(65536, false), 65536 + 10);
}

static void sorts(void **state)
{
	struct traffic t = {0};

	(void)state;
	traffic_sent(&t, MESSAGE_HELLO, 200);
	traffic_sent(&t, MESSAGE_SIGHTINGS, 1000);
	traffic_sent(&t, MESSAGE_OPEN, 50);
	traffic_sent(&t, MESSAGE_DATA, 100);
	traffic_sent(&t, MESSAGE_CREDIT, 10);
	traffic_sent(&t, MESSAGE_CLOSE, 10);
	traffic_sent(&t, MESSAGE_STATS, 20);
	traffic_ping(&t);
	traffic_received(&t, MESSAGE_SIGHTINGS_ACK, 3);
	traffic_received(&t, MESSAGE_ACCEPT, 4);
	traffic_received(&t, 0, 5); /* of no type that is known */
	traffic_pong(&t);
	assert_int_equal(t.messages_out, 7);
	assert_int_equal(t.messages_in, 3);
	assert_int_equal(t.bytes_out[TRAFFIC_SIGHTINGS], 1008);
	assert_int_equal(t.bytes_out[TRAFFIC_RELAY], 56 + 106 + 16 + 16);
	assert_int_equal(t.bytes_out[TRAFFIC_CONTROL], 208 + 26);
	assert_int_equal(t.bytes_out[TRAFFIC_KEEPALIVE], 6);
	assert_int_equal(t.bytes_in[TRAFFIC_SIGHTINGS], 5);
	assert_int_equal(t.bytes_in[TRAFFIC_RELAY], 6);
	assert_int_equal(t.bytes_in[TRAFFIC_CONTROL], 7);
	assert_int_equal(t.bytes_in[TRAFFIC_KEEPALIVE], 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(knows_the_frame),
		cmocka_unit_test(sorts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
