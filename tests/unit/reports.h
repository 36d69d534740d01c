/* SPDX-License-Identifier: Apache-2.0 */
/* A reporter with its table and its loop, and what it says taken apart. */
#pragma once

#include "agent/loop.h"
#include "agent/reporter.h"
#include "uplink/message.h"

#define INTERVAL_MS 3600000 /* no report but those that the test brings about */
#define DEADLINE_MS 20000

struct reports {
	struct loop *loop;
	struct devices *devices;
	struct reporter *reporter;
	struct loop_timer deadline;
	unsigned wanted; /* calls of want_write */
	bool quit_when_wanted;
	uint8_t message[MESSAGE_MAX];
};

/* A SIGHTINGS message taken apart. */
struct report {
	uint64_t batch;
	size_t n;
	struct {
		unsigned number;
		uint64_t first_age_ms, last_age_ms, count, state, adapter;
		int rssi[3];
		uint8_t data[ADVERT_LEN];
	} sightings[MESSAGE_SIGHTINGS_MAX];
};

/* For reports_free. interval_ms: as in struct reporter_config, without a budget. */
struct reports *reports_with(const struct reporter_config *config);
struct reports *reports_setup(uint64_t interval_ms);
void reports_free(struct reports *f);
/* Runs the loop until want_write is called. A loop runs once only. */
void reports_run(struct reports *f);
/* A timer's callback, with f: ends the loop. */
void reports_quit(void *userdata);
/* An advert of device number. */
void reports_hear(struct reports *f, unsigned number, uint8_t flags, int8_t rssi);
/* Takes the next message, which there must be, and no second one behind it. Valid until the next. */
const struct report *reports_next(struct reports *f);
/* There is no message. */
void reports_none(struct reports *f);
struct reporter_counters reports_counters(struct reports *f);
