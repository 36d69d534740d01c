/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells the cloud what the device table holds, batch by batch (PROTOCOL.md, "Sightings"): urgent
 * changes at once, the rest at the report interval, and either not before the day's budget allows it.
 * One batch is out at a time; it is sent again with the same number and content after a reconnect, so
 * nothing is lost and nothing counts twice.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/devices.h"

struct loop;
struct reporter;

/* A cloud that has not acknowledged a batch for so long takes none in. */
#define REPORTER_LATE_MS UINT64_C(30000)

struct reporter_config {
	uint64_t
		interval_ms; /* 0: devices that stay are not reported, whatever the cloud asks for */
	uint64_t bytes_per_day; /* for sightings and their acknowledgements; 0: no limit */
};

struct reporter_counters {
	uint64_t batches, sightings, adverts; /* acknowledged */
	uint64_t resent, resent_sightings; /* resent: batches */
	uint64_t unacknowledged_ms; /* monotonic, since when a batch is out; 0 for none */
	uint64_t awaited_ms; /* the same, on the connection there is */
	uint64_t acknowledged_ms; /* monotonic, of the last acknowledgement; 0 for never */
};

struct reporter_budget {
	uint64_t per_day, left; /* bytes; 0 where there is no limit */
	uint64_t until_ms; /* monotonic, when the next report can go; 0 where none waits for that */
};

/* devices and loop must outlive it. want_write is called when reporter_next_message has something.
 * Returns 0 or -ENOMEM. */
int reporter_new(struct loop *loop, struct devices *devices, const struct reporter_config *config,
		 void (*want_write)(void *userdata), void *userdata, struct reporter **ret);
/* From now on; the next report is an interval away. */
void reporter_configure(struct reporter *reporter, const struct reporter_config *config);
void reporter_free(struct reporter *reporter);

/* The number of the batch that is out, or else of the next. */
uint64_t reporter_batch(const struct reporter *reporter);
/* Before the first report: goes on with that number where an earlier agent stopped. What is in the
 * table's batch is out, and sent again. */
void reporter_restore(struct reporter *reporter, uint64_t batch);

/* The uplink is up. interval_ms: what the cloud asks for, 0 for nothing; it can only make reports
 * less frequent than configured. */
void reporter_up(struct reporter *reporter, uint64_t interval_ms);
void reporter_down(struct reporter *reporter);
/* Something was heard or lost. */
void reporter_changed(struct reporter *reporter);
/* SIGHTINGS_ACK: this batch and all before it are stored. */
void reporter_acknowledged(struct reporter *reporter, uint64_t batch);
size_t reporter_next_message(struct reporter *reporter, uint8_t *buf, size_t size);
/* All there is goes now. */
void reporter_flush(struct reporter *reporter);
/* No acknowledgement is waited for, and nothing is left to tell, but what the budget holds back. */
bool reporter_idle(const struct reporter *reporter);
/* For how long the cloud has owed an acknowledgement, in milliseconds; 0 where it is not late. */
uint64_t reporter_late_ms(const struct reporter *reporter, uint64_t now_ms);
void reporter_get_counters(const struct reporter *reporter, struct reporter_counters *ret);
void reporter_get_budget(const struct reporter *reporter, struct reporter_budget *ret);
