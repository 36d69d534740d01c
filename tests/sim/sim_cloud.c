/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_cloud.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_agent.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_random.h"
#include "uplink/websocket.h"

#define HELLO_TIMEOUT_MS 10000 /* PROTOCOL.md, "Connecting" */
#define ACK_MAX_MS	 2000 /* until a batch is stored */
#define EXPIRE_MS	 1000 /* between looks at the sessions that wait */

/* A connection that is not welcomed yet, or is. */
struct visit {
	struct sim_cloud *cloud; /* not owned */
	struct sim_conn *conn; /* not owned */
	uint8_t nonce[MESSAGE_NONCE_LEN];
	struct loop_timer hello_timer;
};

void sim_cloud_violation(struct sim_cloud *cloud, const char *what, uint64_t number)
{
	cloud->counters.violations++;
	if (cloud->config.tells)
		fprintf(stderr, "cloud, at %llu ms: %s (%llu)\n", (unsigned long long)sim_now_ms(),
			what, (unsigned long long)number);
}

static void send(struct sim_cloud *cloud, struct sim_conn *conn, enum message_type type,
		 const uint8_t *data, size_t len)
{
	cloud->counters.sent++;
	if (!cloud->on_send || cloud->on_send(cloud->userdata, conn, type, data, len))
		sim_conn_send(conn, data, len);
}

void sim_cloud_send(struct sim_cloud *cloud, enum message_type type, const uint8_t *data,
		    size_t len)
{
	if (cloud->conn)
		send(cloud, cloud->conn, type, data, len);
}

void sim_cloud_goaway(struct sim_cloud *cloud, uint64_t after_ms)
{
	uint8_t buf[MESSAGE_MAX];

	sim_cloud_send(cloud, MESSAGE_GOAWAY, buf, sim_encode_goaway(after_ms, "maintenance", buf));
}

/* --- Sightings --- */

static void send_ack(struct sim_cloud *cloud, uint64_t batch)
{
	uint8_t buf[MESSAGE_MAX];

	sim_cloud_send(cloud, MESSAGE_SIGHTINGS_ACK, buf,
		       sim_encode_number(MESSAGE_SIGHTINGS_ACK, batch, buf));
}

static void acknowledge(struct sim_cloud *cloud)
{
	send_ack(cloud, cloud->ack);
	cloud->ack = 0;
	if (sim_chance(cloud->config.loses_ack))
		sim_net_cut(cloud->net, NULL);
}

static void on_ack_timer(void *userdata)
{
	acknowledge(userdata);
}

static void on_sightings(struct sim_cloud *cloud, const struct sim_sightings *s)
{
	cloud->counters.batches++;
	if (cloud->ack != 0)
		sim_cloud_violation(cloud, "a batch before the last one is acknowledged", s->batch);
	if (s->batch == cloud->batch) {
		cloud->counters.repeated++;
	} else {
		if (s->batch != cloud->batch + 1)
			sim_cloud_violation(cloud, "a batch out of order", s->batch);
		cloud->batch = s->batch;
		for (size_t i = 0; i < s->n; i++) {
			cloud->counters.sightings++;
			cloud->counters.adverts += s->sightings[i].count;
			cloud->on_sighting(cloud->userdata, &s->sightings[i]);
		}
	}
	cloud->ack = s->batch;
	if (!sim_chance(100)) {
		acknowledge(cloud);
		return;
	}
	/* It takes a while, and an acknowledgement of before comes again, of which nobody is
	 * to care. */
	send_ack(cloud, s->batch - 1);
	loop_timer_start(&cloud->ack_timer, sim_between(0, ACK_MAX_MS));
}

/* --- Connections --- */

static void on_no_hello(void *userdata)
{
	struct visit *visit = userdata;

	sim_conn_close(visit->conn, MESSAGE_WS_NOT_AUTHENTICATED, "no HELLO");
}

static void on_open(void *userdata, struct sim_conn *conn)
{
	struct sim_cloud *cloud = userdata;
	struct visit *visit = calloc(1, sizeof(*visit));
	uint8_t buf[MESSAGE_MAX];

	if (!visit)
		abort();
	visit->cloud = cloud;
	visit->conn = conn;
	sim_fill(visit->nonce, sizeof(visit->nonce));
	loop_timer_init(cloud->loop, &visit->hello_timer, on_no_hello, visit);
	sim_conn_set_data(conn, visit);
	if (cloud->mute)
		return;
	loop_timer_start(&visit->hello_timer, HELLO_TIMEOUT_MS);
	cloud->newest = conn;
	send(cloud, conn, MESSAGE_CHALLENGE, buf,
	     sim_encode_challenge(visit->nonce, sim_now_ms(), buf));
}

static bool is_signed(const struct visit *visit, const struct sim_hello *hello)
{
	uint8_t covered[512], signature[MESSAGE_SIGNATURE_LEN];
	size_t len = message_signed_bytes(visit->nonce, hello->hotspot_id,
					  visit->cloud->config.authority, covered, sizeof(covered));

	sim_sign(covered, len, signature);
	return memcmp(signature, hello->signature, sizeof(signature)) == 0;
}

static void welcome(struct sim_cloud *cloud, const struct sim_hello *hello)
{
	struct message_settings settings = {
		.report_ms = cloud->config.report_ms,
		.resume_ms = cloud->config.resume_ms,
		.credits = cloud->config.credits,
		.hotspot_name = "simulated",
	};
	struct message_resume resume[MESSAGE_RESUME_MAX];
	uint8_t buf[MESSAGE_MAX];
	size_t n;

	if (cloud->has_run && memcmp(cloud->run, hello->run, sizeof(cloud->run)) != 0) {
		sim_sessions_start_over(cloud);
		cloud->batch = 0;
	}
	cloud->has_run = true;
	memcpy(cloud->run, hello->run, sizeof(cloud->run));
	n = sim_sessions_meet(cloud, hello, resume);
	cloud->counters.connects++;
	sim_cloud_send(cloud, MESSAGE_WELCOME, buf, sim_encode_welcome(&settings, resume, n, buf));
	sim_sessions_go_on(cloud);
}

/* The connection is the hotspot's no more. */
static void let_go(struct sim_cloud *cloud)
{
	cloud->conn = NULL;
	cloud->ack = 0;
	loop_timer_stop(&cloud->ack_timer);
	sim_sessions_suspend(cloud);
}

static void on_hello(struct visit *visit, const struct sim_hello *hello)
{
	struct sim_cloud *cloud = visit->cloud;
	struct sim_conn *old = cloud->conn;

	loop_timer_stop(&visit->hello_timer);
	if (!is_signed(visit, hello)) {
		sim_conn_close(visit->conn, MESSAGE_WS_NOT_AUTHENTICATED, "wrong signature");
		return;
	}
	if (old) {
		let_go(cloud);
		sim_conn_close(old, MESSAGE_WS_REPLACED, "a newer connection");
	}
	cloud->conn = visit->conn;
	welcome(cloud, hello);
}

static void on_message(void *userdata, struct sim_conn *conn, const uint8_t *data, size_t len)
{
	struct sim_cloud *cloud = userdata;
	struct visit *visit = sim_conn_data(conn);
	struct sim_message m;

	cloud->counters.received++;
	if (!sim_decode(data, len, &m)) {
		cloud->counters.malformed++;
		sim_cloud_violation(cloud, "a malformed message", len > 1 ? data[1] : 0);
		sim_conn_close(conn, MESSAGE_WS_BAD_MESSAGE, "malformed");
	} else if (m.type == MESSAGE_HELLO && conn != cloud->conn) {
		on_hello(visit, &m.hello);
	} else if (conn != cloud->conn || m.type == MESSAGE_HELLO) {
		sim_cloud_violation(cloud, "a message out of place", m.type);
		sim_conn_close(conn, MESSAGE_WS_BAD_MESSAGE, "out of place");
	} else if (m.type == MESSAGE_SIGHTINGS) {
		on_sightings(cloud, &m.sightings);
	} else if (m.type == MESSAGE_STATS) {
		cloud->counters.stats++;
	} else {
		sim_sessions_message(cloud, &m);
	}
}

static void on_closed(void *userdata, struct sim_conn *conn, unsigned code)
{
	struct sim_cloud *cloud = userdata;
	struct visit *visit = sim_conn_data(conn);

	if (code == MESSAGE_WS_BAD_MESSAGE)
		cloud->counters.closed_4400++;
	else if (code == MESSAGE_WS_GOING_AWAY)
		cloud->counters.closed_1001++;
	else
		cloud->counters.closed_other++;
	if (conn == cloud->newest)
		cloud->newest = NULL;
	if (conn == cloud->conn)
		let_go(cloud);
	loop_timer_stop(&visit->hello_timer);
	free(visit);
}

struct sim_server sim_cloud_server(struct sim_cloud *cloud)
{
	return (struct sim_server){
		.on_open = on_open,
		.on_message = on_message,
		.on_closed = on_closed,
		.userdata = cloud,
	};
}

static void on_expire_timer(void *userdata)
{
	struct sim_cloud *cloud = userdata;

	sim_sessions_expire(cloud);
	loop_timer_start(&cloud->expire_timer, EXPIRE_MS);
}

void sim_cloud_init(struct sim_cloud *cloud, struct loop *loop, struct sim_net *net,
		    const struct sim_cloud_config *config)
{
	*cloud = (struct sim_cloud){.loop = loop, .net = net, .config = *config};
	list_init(&cloud->sessions);
	loop_timer_init(loop, &cloud->ack_timer, on_ack_timer, cloud);
	loop_timer_init(loop, &cloud->expire_timer, on_expire_timer, cloud);
	loop_timer_start(&cloud->expire_timer, EXPIRE_MS);
}

void sim_cloud_done(struct sim_cloud *cloud)
{
	sim_sessions_start_over(cloud);
	loop_timer_stop(&cloud->ack_timer);
	loop_timer_stop(&cloud->expire_timer);
}
