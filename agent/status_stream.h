/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits for one listener of the status socket: whole lines, in order, within a bound. Lines
 * that do not fit are counted, and the count takes their place when half of the room is free
 * again: {"event":"lost","count":N}. Pure: no I/O. All zero is an empty one.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define STATUS_STREAM_MAX 32768 /* bytes that wait */

struct status_stream {
	char *data; /* owned; NULL while nothing waits */
	size_t first, len; /* what waits of it */
	uint64_t lost; /* lines since the last that fit, not yet told */
};

/* line: without a newline; copied. */
void status_stream_push(struct status_stream *stream, const char *line);
/* What waits. Valid until the next call. */
const char *status_stream_get(const struct status_stream *stream, size_t *ret_len);
/* The first n bytes of it are gone; n: at most all. */
void status_stream_take(struct status_stream *stream, size_t n);
/* To be used again as an empty one. */
void status_stream_done(struct status_stream *stream);
