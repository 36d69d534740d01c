/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent in a simulation: all of its own code, with settings and an identity for the test, and
 * an eye on its sessions, which relay.c is linked to through here.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/agent.h"

#define SIM_REASONS 64 /* kinds of reasons that are told apart */

struct sim_agent {
	struct settings settings; /* until it is started: then they are its own */
	struct identity identity;
	struct agent *agent; /* NULL while it does not run */
};

/* What sessions came to, since sim_outcomes_reset. */
struct sim_outcomes {
	uint64_t begun, ended;
	uint64_t without_reason; /* of those that ended */
	uint64_t dropped; /* freed before their end, with the agent */
	uint64_t longest_ms;
	struct {
		char text[48]; /* a reason up to what is particular in it */
		uint64_t n;
	} reasons[SIM_REASONS];
};

/* The default settings and this URL. To be followed by sim_agent_done. */
void sim_agent_init(struct sim_agent *sim, const char *const *urls, size_t n_urls);
void sim_agent_start(struct sim_agent *sim, struct loop *loop);
/* In good order: until the loop is told to quit, at most timeout_ms. Returns whether it was. */
bool sim_agent_stop(struct sim_agent *sim, uint32_t timeout_ms);
void sim_agent_done(struct sim_agent *sim);

void sim_outcomes_reset(void);
const struct sim_outcomes *sim_outcomes(void);
/* For how long the oldest session that has not ended has been there. */
uint64_t sim_oldest_session_ms(void);
void sim_outcomes_print(void);

/* Asks the agent for its status, as a client of its socket does. Returns whether there was an
 * answer. */
bool sim_status_answers(void);
/* Stands for the signature of a key: the cloud can check it. */
void sim_sign(const uint8_t *data, size_t len, uint8_t ret[64]);
