/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cloud for one hotspot, as uplink/PROTOCOL.md has it: it counts sightings, once each, and gives
 * back every frame of a session. What the hotspot may not do is a violation, counted and told.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/loop.h"
#include "tests/sim/sim_codec.h"
#include "tests/sim/sim_net.h"

#define SIM_CODES 9 /* of CLOSE */

/* In the fifth byte of a device's frame, which is all that the cloud looks at. */
#define SIM_FRAME_LAST 1 /* to be given back, and then the session closed with code 0 */

struct sim_cloud_config {
	const char *authority; /* as the hotspot has it: host:port */
	uint32_t credits;
	uint64_t resume_ms, report_ms;
	unsigned refuses, breaks_off, loses_ack; /* per mille: of OPEN, of DATA, of SIGHTINGS */
	bool tells; /* violations on standard error */
};

struct sim_cloud_counters {
	uint64_t connects, batches, repeated, sightings, adverts, stats;
	uint64_t sent, received; /* messages */
	uint64_t opened, accepted, echoed, resumed;
	uint64_t by_hotspot[SIM_CODES], by_cloud[SIM_CODES]; /* sessions closed */
	uint64_t not_listed, expired, forgotten; /* sessions over without CLOSE */
	uint64_t malformed, violations; /* violations: those too */
	uint64_t closed_4400, closed_1001, closed_other; /* connections, by the hotspot */
};

struct sim_cloud {
	struct loop *loop; /* not owned */
	struct sim_net *net; /* not owned */
	struct sim_cloud_config config;
	/* Each sighting, once. */
	void (*on_sighting)(void *userdata, const struct sim_sighting *sighting);
	/* A message goes out. Returns whether it is to go; NULL: all go. */
	bool (*on_send)(void *userdata, struct sim_conn *conn, enum message_type type,
			const uint8_t *data, size_t len);
	void *userdata; /* not owned; of the two */

	bool mute; /* nothing comes of connections that are opened now */
	struct sim_conn *newest; /* the last one opened, while it is */
	struct sim_conn *conn; /* welcomed; NULL for none */
	bool has_run;
	uint8_t run[MESSAGE_RUN_LEN];
	uint64_t batch; /* the last one stored */
	uint64_t ack; /* to be sent, 0 for none */
	struct loop_timer ack_timer;
	struct loop_timer expire_timer;
	struct list sessions; /* owned */
	size_t n_sessions;
	uint8_t *used; /* owned: a bit for each number of a session of this run */
	size_t n_used; /* its bytes */
	struct sim_cloud_counters counters;
};

void sim_cloud_init(struct sim_cloud *cloud, struct loop *loop, struct sim_net *net,
		    const struct sim_cloud_config *config);
/* After sim_net_done. */
void sim_cloud_done(struct sim_cloud *cloud);
/* For sim_net_add. */
struct sim_server sim_cloud_server(struct sim_cloud *cloud);
/* The sessions are lost, as in a restart without handing over. */
void sim_cloud_forget(struct sim_cloud *cloud);
/* Nothing where the hotspot is not there. */
void sim_cloud_goaway(struct sim_cloud *cloud, uint64_t after_ms);

/* --- Between sim_cloud.c and sim_sessions.c --- */

void sim_cloud_violation(struct sim_cloud *cloud, const char *what, uint64_t number);
/* To the hotspot, if it is there. */
void sim_cloud_send(struct sim_cloud *cloud, enum message_type type, const uint8_t *data,
		    size_t len);
/* OPEN, DATA, CREDIT or CLOSE. */
void sim_sessions_message(struct sim_cloud *cloud, const struct sim_message *m);
/* The connection has ended: they wait. */
void sim_sessions_suspend(struct sim_cloud *cloud);
/* What HELLO lists. Returns the number of those in ret, for WELCOME. */
size_t sim_sessions_meet(struct sim_cloud *cloud, const struct sim_hello *hello,
			 struct message_resume ret[MESSAGE_RESUME_MAX]);
/* WELCOME has gone: they go on. */
void sim_sessions_go_on(struct sim_cloud *cloud);
void sim_sessions_expire(struct sim_cloud *cloud);
/* Another run begins: no number has been used. */
void sim_sessions_start_over(struct sim_cloud *cloud);
