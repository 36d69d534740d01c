/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What one agent leaves to the next at a planned restart: the sightings that the cloud has not
 * acknowledged, and the numbers to go on with. Here is its form in a file; carry.h reads and writes
 * it. Pure.
 *
 *   [version, run, batch, next_session, boot_id, boottime_ms, wall_ms, [sighting...], [sighting...]]
 *    uint     b8   uint   uint          b16      uint         uint     in the batch    pending
 *
 * A sighting is that of PROTOCOL.md, "Sightings", without its device_id, which stands in its
 * service_data.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/devices.h"
#include "uplink/message.h"

#define KEPT_VERSION	 1
#define KEPT_PENDING_MAX 65536 /* devices.max can be no more */
#define KEPT_BYTES(n)	 (128 + (n)*64) /* of n sightings, at most */

/* One moment by the clocks that go on while no agent runs. */
struct kept_clock {
	uint8_t boot_id[16]; /* random, new at each boot; zero where it is not known */
	uint64_t boottime_ms; /* since then, suspended or not */
	uint64_t wall_ms; /* Unix time, right or not */
};

struct kept {
	uint8_t run[MESSAGE_RUN_LEN];
	uint64_t batch; /* the number of the batch that is out, or else of the next */
	uint32_t next_session;
	struct kept_clock clock; /* as the sightings were kept */
	/* n_out of the batch that is out, in its order, then n_pending, least recently heard first.
	 * Their times are ages, in milliseconds of clock. Owned. */
	struct device_span *spans;
	size_t n_out, n_pending;
};

/* Returns 0 and a *ret for kept_done; -EPROTONOSUPPORT for another version; -EBADMSG for anything
 * that kept_encode does not write; -ENOMEM. *ret is untouched by a failure. */
int kept_decode(const uint8_t *data, size_t len, struct kept *ret);
/* Returns the length, or 0 where it does not fit into the buffer. */
size_t kept_encode(const struct kept *kept, uint8_t *buf, size_t size);
void kept_done(struct kept *kept);

/* Whether it is known that no boot was between them. */
bool kept_same_boot(const struct kept_clock *then, const struct kept_clock *now);
/* How long ago `then` was, in milliseconds: by the clock that counts since the boot if that is
 * still the same; else by the wall clock if it was set both times, and did not go back; else as
 * long as now's boot is ago, which is the least it can be. */
uint64_t kept_elapsed_ms(const struct kept_clock *then, const struct kept_clock *now);
/* The monotonic time an age of elapsed_ms ago stands for; 0 for all before there are times. */
uint64_t kept_time_ms(uint64_t age_ms, uint64_t elapsed_ms, uint64_t now_ms);
