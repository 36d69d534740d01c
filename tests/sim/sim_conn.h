/* SPDX-License-Identifier: Apache-2.0 */
/* The two directions of a simulated connection; for sim_net.c and sim_websocket.c alone. */
#pragma once

#include "tests/sim/sim_net.h"
#include "uplink/websocket.h"

enum sim_packet_kind {
	SIM_PACKET_MESSAGE,
	SIM_PACKET_EVIL, /* a message too, counted */
	SIM_PACKET_PING,
	SIM_PACKET_PONG,
	SIM_PACKET_CLOSE, /* code, and the reason in its data */
	SIM_PACKET_RESET,
};

struct sim_packet {
	struct list in_pipe;
	uint64_t due_ms;
	enum sim_packet_kind kind;
	unsigned code;
	size_t len;
	uint8_t *data; /* owned; by itself, so that ASan sees who reads past its end */
};

/* Packets on their way in one direction. */
struct sim_pipe {
	struct sim_conn *conn; /* not owned */
	struct list packets; /* owned, in order */
	size_t bytes;
	uint64_t last_ms; /* when the last one is due: none overtakes another */
	struct loop_timer timer;
};

struct sim_conn {
	struct list in_net;
	struct sim_net *net; /* not owned */
	struct sim_host *host; /* not owned */
	struct websocket *client; /* not owned; NULL once it is gone */
	bool served; /* the server still has its end */
	bool forgotten; /* nothing arrives any more */
	bool dead; /* both ends are gone: freed soon */
	struct sim_pipe up, down;
	void *data; /* the server's; not owned */
};

struct sim_conn *sim_conn_new(struct sim_net *net, struct sim_host *host, struct websocket *client);
void sim_conn_push(struct sim_pipe *pipe, enum sim_packet_kind kind, unsigned code,
		   const void *data, size_t len);
/* The client's end is gone; reset: and the server is told so. */
void sim_conn_leave(struct sim_conn *conn, bool reset);
uint32_t sim_net_latency(const struct sim_net *net);
/* By its name or its address; NULL for none. */
struct sim_host *sim_net_find(struct sim_net *net, const char *name);

/* A packet has come to the client; and one has left it, so that there is room for more. */
void sim_websocket_receive(struct websocket *ws, const struct sim_packet *packet);
void sim_websocket_room(struct websocket *ws);
