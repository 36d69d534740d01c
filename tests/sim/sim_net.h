/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network of a simulation, and on it uplink/websocket.h and uplink/resolver.h: names,
 * hosts, and connections that carry WebSocket messages both ways, in order, with what goes wrong
 * with them. A connection has a client end, the agent's struct websocket, and a server end here.
 *
 *   client --[up: packets on their way]--> server
 *   client <-[down]----------------------- server
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/loop.h"

#define SIM_HOSTS_MAX 4

struct sim_conn;
struct sim_net;

/* A server, as its connections see it. */
struct sim_server {
	void (*on_open)(void *userdata, struct sim_conn *conn);
	void (*on_message)(void *userdata, struct sim_conn *conn, const uint8_t *data, size_t len);
	/* Exactly once for each that was opened; conn may go after it. code: WebSocket's, 1006
	 * for a connection that was lost. */
	void (*on_closed)(void *userdata, struct sim_conn *conn, unsigned code);
	void *userdata; /* not owned */
};

struct sim_host {
	const char *name; /* in URLs; address and port do not matter */
	struct sim_server server;
	bool down; /* nothing listens: connections are refused */
	unsigned http_status; /* where not 0, upgrades are refused with it, and with this: */
	uint32_t retry_after_s;
	uint64_t attempts, opened; /* TCP connections asked for, WebSocket connections made */
	void (*on_attempt)(void *userdata, bool opened); /* told of each of the two; may be NULL */
	void *userdata; /* not owned; of on_attempt */
};

enum sim_dns { SIM_DNS_ANSWERS, SIM_DNS_FAILS, SIM_DNS_SILENT };

struct sim_net {
	struct loop *loop; /* not owned */
	uint32_t latency_min_ms, latency_max_ms; /* one way */
	enum sim_dns dns;
	bool stalled; /* nothing arrives, and nobody is told; it goes on where it was */
	bool clock_unset; /* the hub believes it is 1970: no certificate is valid yet */
	struct sim_host hosts[SIM_HOSTS_MAX];
	size_t n_hosts;
	struct list conns;
	struct list dead; /* connections without ends, to be freed */
	struct loop_timer reap_timer;
	uint64_t evil; /* messages of sim_conn_send_evil that the client was given */
	uint64_t cut, forgotten, not_valid_yet, refused, http_refused, dns_failed;
};

/* To be followed by sim_net_done, after all agents of it are gone. */
void sim_net_init(struct sim_net *net, struct loop *loop);
void sim_net_done(struct sim_net *net);
struct sim_host *sim_net_add(struct sim_net *net, const char *name,
			     const struct sim_server *server);
/* Each connection of the host is reset, or of all hosts where it is NULL; with what was on the
 * way, from a random point on. */
void sim_net_cut(struct sim_net *net, const struct sim_host *host);

/* From now on nothing arrives over any connection there is, and nobody is ever told, as where
 * a NAT has forgotten them. New ones work. */
void sim_net_forget(struct sim_net *net);

/* --- The server's end --- */

void sim_conn_send(struct sim_conn *conn, const uint8_t *data, size_t len);
/* The same, of a message that is not the server's own. */
void sim_conn_send_evil(struct sim_conn *conn, const uint8_t *data, size_t len);
/* Closes, with a WebSocket close code; on_closed comes from within. */
void sim_conn_close(struct sim_conn *conn, unsigned code, const char *reason);
/* Of an entry in net->conns. */
struct sim_conn *sim_conn_of(struct list *in_net);
/* For the server's use. */
void sim_conn_set_data(struct sim_conn *conn, void *data);
void *sim_conn_data(const struct sim_conn *conn);
