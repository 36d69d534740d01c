/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fold.h"

#include <stdio.h>
#include <string.h>

#include "agent/util.h"

static struct fold_line *find(struct fold *fold, enum log_level level, const char *text)
{
	for (size_t i = 0; i < FOLD_LINES; i++) {
		struct fold_line *line = &fold->lines[i];

		if (line->interval_ms != 0 && line->level == level && strcmp(line->text, text) == 0)
			return line;
	}
	return NULL;
}

/* The one not said for longest; one with nothing in it was never said. */
static struct fold_line *oldest(struct fold *fold)
{
	struct fold_line *line = &fold->lines[0];

	for (size_t i = 1; i < FOLD_LINES; i++) {
		if (fold->lines[i].said_ms < line->said_ms)
			line = &fold->lines[i];
	}
	return line;
}

static void describe_period(uint64_t ms, char *ret, size_t size)
{
	uint64_t s = (ms + 500) / 1000;

	if (s < 120)
		snprintf(ret, size, "%u s", (unsigned)s);
	else if (s < 120 * 60)
		snprintf(ret, size, "%u min", (unsigned)((s + 30) / 60));
	else
		snprintf(ret, size, "%u h", (unsigned)((s + 1800) / 3600));
}

/* Writes what is counted, if anything, and counts anew for longer. */
static void tell(struct fold *fold, struct fold_line *line, uint64_t now_ms)
{
	char text[FOLD_TEXT_MAX], period[16], times[32] = "once";

	if (line->repeats == 0)
		return;
	describe_period(now_ms - line->since_ms, period, sizeof(period));
	if (line->repeats > 1)
		snprintf(times, sizeof(times), "%u times", line->repeats);
	snprintf(text, sizeof(text), "%s (%s in the last %s)", line->text, times, period);
	/* A single one that is said right now needs no words. */
	fold->write(fold->userdata, line->level,
		    line->repeats == 1 && line->said_ms == now_ms ? line->text : text);
	line->repeats = 0;
	line->since_ms = now_ms;
	line->interval_ms = MIN(line->interval_ms * FOLD_GROWTH, (uint64_t)FOLD_LONGEST_MS);
}

/* As if it had never been said. */
static void begin(struct fold *fold, struct fold_line *line, uint64_t now_ms)
{
	line->interval_ms = FOLD_FIRST_MS;
	line->since_ms = line->said_ms = now_ms;
	fold->write(fold->userdata, line->level, line->text);
}

static void remember(struct fold *fold, uint64_t now_ms, enum log_level level, const char *text)
{
	struct fold_line *line = oldest(fold);

	tell(fold, line, now_ms);
	line->level = level;
	snprintf(line->text, sizeof(line->text), "%s", text);
	begin(fold, line, now_ms);
}

void fold_say(struct fold *fold, uint64_t now_ms, enum log_level level, const char *text)
{
	struct fold_line *line = find(fold, level, text);

	if (!line) {
		remember(fold, now_ms, level, text);
		return;
	}
	if (line->repeats == 0 &&
	    now_ms - line->said_ms >= MAX(2 * line->interval_ms, (uint64_t)FOLD_FORGET_MS)) {
		begin(fold, line, now_ms);
		return;
	}
	line->repeats++;
	line->said_ms = now_ms;
	if (now_ms - line->since_ms >= line->interval_ms)
		tell(fold, line, now_ms);
}

void fold_flush(struct fold *fold, uint64_t now_ms)
{
	for (size_t i = 0; i < FOLD_LINES; i++) {
		struct fold_line *line = &fold->lines[i];

		if (now_ms - line->since_ms >= line->interval_ms)
			tell(fold, line, now_ms);
	}
}

void fold_flush_all(struct fold *fold, uint64_t now_ms)
{
	for (size_t i = 0; i < FOLD_LINES; i++)
		tell(fold, &fold->lines[i], now_ms);
}

uint64_t fold_due_ms(const struct fold *fold)
{
	uint64_t due_ms = UINT64_MAX;

	for (size_t i = 0; i < FOLD_LINES; i++) {
		const struct fold_line *line = &fold->lines[i];

		if (line->repeats > 0)
			due_ms = MIN(due_ms, line->since_ms + line->interval_ms);
	}
	return due_ms;
}
