/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened on this hub, for whoever asks months later: the last events that are a warning or an
 * error, and each start, stop and step of the supervisor. One that is told again counts up. It goes
 * on from run to run; here is its form in a file, and journal_file.h reads and writes it. Pure.
 *
 *   [version, sequence, starts, ended, written, [entry...]]    clock: [boot_id, boottime_ms, wall_ms]
 *    uint     uint      uint    0 or 1 clock                           b16      uint         uint
 *
 *   entry: [event, level, count, first, last, text]
 *           uint   uint   uint   clock  clock UTF-8
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/kept.h"
#include "agent/log.h"

#define JOURNAL_VERSION 1
#define JOURNAL_ENTRIES 50 /* then the oldest go */
#define JOURNAL_FOLD	8 /* the last entries, one of which may be told again */
#define JOURNAL_TEXT	300 /* bytes of one, cut off in whole characters */
#define JOURNAL_BYTES	(128 + JOURNAL_ENTRIES * (JOURNAL_TEXT + 96)) /* in a file, at most */

struct journal_entry {
	enum log_event event;
	enum log_level level;
	uint32_t count; /* how often, from first to last */
	struct kept_clock first, last;
	char text[JOURNAL_TEXT + 1];
};

/* All zero: nothing happened. */
struct journal {
	uint64_t sequence; /* grows with each change: of two copies the one with more is newer */
	uint32_t starts; /* of the agent on this hub */
	bool ended; /* the run ended in good order */
	struct kept_clock written; /* as it was encoded */
	size_t n;
	struct journal_entry entries[JOURNAL_ENTRIES]; /* oldest first */
};

/* Whether a line is worth it. */
bool journal_wants(const struct log_line *line);
/* An event that is the same as one of the last JOURNAL_FOLD, but for the level and the numbers in its
 * text, counts that one up, takes its place with the new text and becomes the last. */
void journal_add(struct journal *journal, const struct log_line *line,
		 const struct kept_clock *now);
/* A run begins. Returns how the one before ended, NULL where there was none. */
const char *journal_begin(struct journal *journal, const struct kept_clock *now);
/* The run ends in good order. */
void journal_end(struct journal *journal);

/* Returns 0; -EPROTONOSUPPORT for another version; -EBADMSG for anything that journal_encode does
 * not write; -ENOMEM. *ret is untouched by a failure. */
int journal_decode(const uint8_t *data, size_t len, struct journal *ret);
/* Returns the length, or 0 where it does not fit into the buffer. */
size_t journal_encode(const struct journal *journal, uint8_t *buf, size_t size);
