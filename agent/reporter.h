/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells the cloud what the device table holds, batch by batch (PROTOCOL.md, "Sightings"): urgent
 * changes at once, the rest at the report interval. One batch is out at a time; it is sent again
 * with the same number and content after a reconnect, so nothing is lost and nothing counts twice.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/devices.h"

struct loop;
struct reporter;

struct reporter_counters {
	uint64_t batches, resent, sightings, adverts; /* acknowledged; resent: batches */
	uint64_t unacknowledged_ms; /* monotonic, since when a batch is out; 0 for none */
};

/* devices and loop must outlive it. want_write is called when reporter_next_message has something.
 * Returns 0 or -ENOMEM. */
int reporter_new(struct loop *loop, struct devices *devices, uint64_t interval_ms,
		 void (*want_write)(void *userdata), void *userdata, struct reporter **ret);
void reporter_free(struct reporter *reporter);

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
/* Nothing is out and, as far as the table says, nothing is left to tell. */
bool reporter_idle(const struct reporter *reporter);
void reporter_get_counters(const struct reporter *reporter, struct reporter_counters *ret);
