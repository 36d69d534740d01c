/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Log lines that are said again and again: the first is written at once, its repeats are counted,
 * and the line is written with their number at intervals that grow. So a failure that goes on for
 * months does not wear the flash out. Pure: the clock is an argument, in milliseconds.
 */
#pragma once

#include <stdint.h>

#include "agent/log.h"

#define FOLD_LINES	16 /* that are remembered; the one not said for longest makes room */
#define FOLD_FIRST_MS	10000 /* from the first to the first count */
#define FOLD_GROWTH	4 /* times, from one count to the next */
#define FOLD_LONGEST_MS 3600000
/* A line not said for twice its interval, and for this long, is new again. Longer than the pauses
 * between attempts, which would never be repeats else. */
#define FOLD_FORGET_MS 900000

#define FOLD_TEXT_MAX (LOG_LINE_MAX + 64) /* bytes of a line with its count, NUL included */

struct fold_line {
	enum log_level level;
	char text[LOG_LINE_MAX];
	uint64_t interval_ms; /* 0: nothing is remembered here */
	uint64_t since_ms; /* when it was written last */
	uint64_t said_ms; /* when it was said last */
	unsigned repeats; /* said and not written since then */
};

/* All zero but for the callback. */
struct fold {
	/* text is valid during the callback, which must not come back. */
	void (*write)(void *userdata, enum log_level level, const char *text);
	void *userdata; /* not owned */
	struct fold_line lines[FOLD_LINES];
};

/* Writes the line or counts it. text: below LOG_LINE_MAX bytes. */
void fold_say(struct fold *fold, uint64_t now_ms, enum log_level level, const char *text);
/* Writes the counts whose time has come. */
void fold_flush(struct fold *fold, uint64_t now_ms);
/* Writes all counts there are. */
void fold_flush_all(struct fold *fold, uint64_t now_ms);
/* When fold_flush has something to write; UINT64_MAX for never. */
uint64_t fold_due_ms(const struct fold *fold);
