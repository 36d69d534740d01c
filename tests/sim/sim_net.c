/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_conn.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_random.h"

#define STALL_POLL_MS 100 /* how late what waited through a stall may come after it */

uint32_t sim_net_latency(const struct sim_net *net)
{
	return sim_between(net->latency_min_ms, net->latency_max_ms);
}

/* --- Packets --- */

static void packet_free(struct sim_pipe *pipe, struct sim_packet *packet)
{
	list_remove(&packet->in_pipe);
	pipe->bytes -= packet->len;
	free(packet->data);
	free(packet);
}

static struct sim_packet *first(struct sim_pipe *pipe)
{
	return LIST_ENTRY(pipe->packets.next, struct sim_packet, in_pipe);
}

static void empty(struct sim_pipe *pipe)
{
	while (!list_empty(&pipe->packets))
		packet_free(pipe, first(pipe));
	loop_timer_stop(&pipe->timer);
}

static void arm(struct sim_pipe *pipe)
{
	uint64_t now_ms = sim_now_ms();

	if (pipe->timer.armed || list_empty(&pipe->packets))
		return;
	if (pipe->conn->net->stalled)
		loop_timer_start(&pipe->timer, STALL_POLL_MS);
	else
		loop_timer_start(&pipe->timer, MAX(first(pipe)->due_ms, now_ms) - now_ms);
}

void sim_conn_push(struct sim_pipe *pipe, enum sim_packet_kind kind, unsigned code,
		   const void *data, size_t len)
{
	struct sim_packet *packet = calloc(1, sizeof(*packet));

	if (!packet)
		abort();
	packet->kind = kind;
	packet->code = code;
	packet->len = len;
	packet->data = malloc(len);
	if (len > 0)
		memcpy(packet->data, data, len);
	pipe->last_ms = MAX(pipe->last_ms, sim_now_ms() + sim_net_latency(pipe->conn->net));
	packet->due_ms = pipe->last_ms;
	pipe->bytes += len;
	list_append(&pipe->packets, &packet->in_pipe);
	arm(pipe);
}

/* --- Connections --- */

static void on_reap(void *userdata)
{
	struct sim_net *net = userdata;

	LIST_FOREACH_SAFE (l, &net->dead) {
		list_remove(l);
		free(LIST_ENTRY(l, struct sim_conn, in_net));
	}
}

static void check_dead(struct sim_conn *conn)
{
	if (conn->client || conn->served || conn->dead)
		return;
	conn->dead = true;
	empty(&conn->up);
	empty(&conn->down);
	list_remove(&conn->in_net);
	list_append(&conn->net->dead, &conn->in_net);
	loop_timer_start(&conn->net->reap_timer, 0);
}

static void unserve(struct sim_conn *conn, unsigned code)
{
	const struct sim_server *server = &conn->host->server;

	if (!conn->served)
		return;
	conn->served = false;
	server->on_closed(server->userdata, conn, code);
	check_dead(conn);
}

static void receive(struct sim_conn *conn, const struct sim_packet *packet)
{
	const struct sim_server *server = &conn->host->server;

	switch (packet->kind) {
	case SIM_PACKET_MESSAGE:
		server->on_message(server->userdata, conn, packet->data, packet->len);
		break;
	case SIM_PACKET_PING:
		sim_conn_push(&conn->down, SIM_PACKET_PONG, 0, NULL, 0);
		break;
	case SIM_PACKET_PONG:
	case SIM_PACKET_EVIL:
		break;
	case SIM_PACKET_CLOSE:
		sim_conn_push(&conn->down, SIM_PACKET_CLOSE, packet->code, NULL, 0);
		unserve(conn, packet->code);
		break;
	case SIM_PACKET_RESET:
		unserve(conn, WEBSOCKET_NO_HANDSHAKE);
		break;
	}
}

static void deliver(struct sim_conn *conn, struct sim_pipe *pipe, const struct sim_packet *packet)
{
	if (conn->forgotten)
		return;
	if (pipe == &conn->up && conn->served)
		receive(conn, packet);
	if (pipe == &conn->down && conn->client)
		sim_websocket_receive(conn->client, packet);
	if (pipe == &conn->up && conn->client)
		sim_websocket_room(conn->client);
}

static void on_due(void *userdata)
{
	struct sim_pipe *pipe = userdata;
	struct sim_conn *conn = pipe->conn;

	while (!conn->dead && !conn->net->stalled && !list_empty(&pipe->packets) &&
	       first(pipe)->due_ms <= sim_now_ms()) {
		struct sim_packet *packet = first(pipe);

		list_remove(&packet->in_pipe);
		list_init(&packet->in_pipe);
		deliver(conn, pipe, packet);
		packet_free(pipe, packet);
	}
	if (!conn->dead)
		arm(pipe);
}

static void pipe_init(struct sim_pipe *pipe, struct sim_conn *conn)
{
	pipe->conn = conn;
	list_init(&pipe->packets);
	loop_timer_init(conn->net->loop, &pipe->timer, on_due, pipe);
}

struct sim_conn *sim_conn_new(struct sim_net *net, struct sim_host *host, struct websocket *client)
{
	struct sim_conn *conn = calloc(1, sizeof(*conn));

	if (!conn)
		abort();
	conn->net = net;
	conn->host = host;
	conn->client = client;
	conn->served = true;
	pipe_init(&conn->up, conn);
	pipe_init(&conn->down, conn);
	list_append(&net->conns, &conn->in_net);
	host->server.on_open(host->server.userdata, conn);
	return conn;
}

void sim_conn_leave(struct sim_conn *conn, bool reset)
{
	conn->client = NULL;
	if (reset && conn->served)
		sim_conn_push(&conn->up, SIM_PACKET_RESET, 0, NULL, 0);
	check_dead(conn);
}

void sim_conn_send(struct sim_conn *conn, const uint8_t *data, size_t len)
{
	if (conn->client)
		sim_conn_push(&conn->down, SIM_PACKET_MESSAGE, 0, data, len);
}

void sim_conn_send_evil(struct sim_conn *conn, const uint8_t *data, size_t len)
{
	if (conn->client)
		sim_conn_push(&conn->down, SIM_PACKET_EVIL, 0, data, len);
}

void sim_conn_close(struct sim_conn *conn, unsigned code, const char *reason)
{
	if (conn->client)
		sim_conn_push(&conn->down, SIM_PACKET_CLOSE, code, reason, strlen(reason));
	unserve(conn, code);
}

struct sim_conn *sim_conn_of(struct list *in_net)
{
	return LIST_ENTRY(in_net, struct sim_conn, in_net);
}

void sim_conn_set_data(struct sim_conn *conn, void *data)
{
	conn->data = data;
}

void *sim_conn_data(const struct sim_conn *conn)
{
	return conn->data;
}

/* Keeps a random number of packets, and ends with a reset. */
static void cut_pipe(struct sim_pipe *pipe)
{
	size_t n = 0, kept;

	LIST_FOREACH (l, &pipe->packets)
		n++;
	kept = sim_between(0, (uint32_t)n);
	for (; n > kept; n--)
		packet_free(pipe, LIST_ENTRY(pipe->packets.prev, struct sim_packet, in_pipe));
	sim_conn_push(pipe, SIM_PACKET_RESET, 0, NULL, 0);
}

void sim_net_cut(struct sim_net *net, const struct sim_host *host)
{
	LIST_FOREACH (l, &net->conns) {
		struct sim_conn *conn = LIST_ENTRY(l, struct sim_conn, in_net);

		if (conn->forgotten || (host && conn->host != host))
			continue;
		net->cut++;
		cut_pipe(&conn->up);
		cut_pipe(&conn->down);
	}
}

void sim_net_forget(struct sim_net *net)
{
	LIST_FOREACH (l, &net->conns) {
		struct sim_conn *conn = LIST_ENTRY(l, struct sim_conn, in_net);

		net->forgotten += !conn->forgotten;
		conn->forgotten = true;
	}
}

/* --- The network --- */

void sim_net_init(struct sim_net *net, struct loop *loop)
{
	*net = (struct sim_net){.loop = loop, .latency_min_ms = 5, .latency_max_ms = 50};
	list_init(&net->conns);
	list_init(&net->dead);
	loop_timer_init(loop, &net->reap_timer, on_reap, net);
	loop->net = net;
}

void sim_net_done(struct sim_net *net)
{
	LIST_FOREACH_SAFE (l, &net->conns) {
		struct sim_conn *conn = LIST_ENTRY(l, struct sim_conn, in_net);

		conn->client = NULL;
		unserve(conn, WEBSOCKET_NO_HANDSHAKE);
	}
	loop_timer_stop(&net->reap_timer);
	on_reap(net);
}

struct sim_host *sim_net_add(struct sim_net *net, const char *name, const struct sim_server *server)
{
	struct sim_host *host = &net->hosts[net->n_hosts++];

	host->name = name;
	host->server = *server;
	return host;
}

struct sim_host *sim_net_find(struct sim_net *net, const char *name)
{
	for (size_t i = 0; i < net->n_hosts; i++) {
		char address[32];

		snprintf(address, sizeof(address), "192.0.2.%zu", i + 1);
		if (strcmp(net->hosts[i].name, name) == 0 || strcmp(address, name) == 0)
			return &net->hosts[i];
	}
	return NULL;
}
