/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_stream.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/util.h"

static bool append(struct status_stream *stream, const char *line)
{
	size_t len = strlen(line);

	if (len >= STATUS_STREAM_MAX - stream->len)
		return false;
	if (!stream->data)
		stream->data = malloc(STATUS_STREAM_MAX);
	if (!stream->data)
		return false;
	memmove(stream->data, stream->data + stream->first, stream->len);
	stream->first = 0;
	memcpy(stream->data + stream->len, line, len);
	stream->len += len;
	stream->data[stream->len++] = '\n';
	return true;
}

/* Returns whether lines may go on. Not for every few bytes read, or half of what is sent would say
 * that something is missing. */
static bool tell_lost(struct status_stream *stream)
{
	char line[64];

	if (stream->lost == 0)
		return true;
	if (stream->len > STATUS_STREAM_MAX / 2)
		return false;
	snprintf(line, sizeof(line), "{\"event\":\"lost\",\"count\":%" PRIu64 "}", stream->lost);
	if (!append(stream, line))
		return false;
	stream->lost = 0;
	return true;
}

void status_stream_push(struct status_stream *stream, const char *line)
{
	if (!tell_lost(stream) || !append(stream, line))
		stream->lost++;
}

const char *status_stream_get(const struct status_stream *stream, size_t *ret_len)
{
	*ret_len = stream->len;
	return stream->len > 0 ? stream->data + stream->first : NULL;
}

void status_stream_take(struct status_stream *stream, size_t n)
{
	stream->first += n;
	stream->len -= n;
	tell_lost(stream);
	if (stream->len == 0) {
		free(TAKE_PTR(stream->data));
		stream->first = 0;
	}
}

void status_stream_done(struct status_stream *stream)
{
	free(stream->data);
	*stream = (struct status_stream){0};
}
