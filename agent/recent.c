/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/recent.h"

#include <string.h>

#include "agent/util.h"

struct head {
	int64_t wall_ms;
	uint16_t len; /* of the text that follows */
	uint8_t level, event;
};

static void put(struct recent *recent, const void *data, size_t len)
{
	size_t at = (recent->first + recent->used) % RECENT_BYTES;
	size_t n = MIN(len, RECENT_BYTES - at);

	memcpy(recent->data + at, data, n);
	memcpy(recent->data, (const uint8_t *)data + n, len - n);
	recent->used += len;
}

static void get(const struct recent *recent, size_t at, void *ret, size_t len)
{
	size_t n;

	at %= RECENT_BYTES;
	n = MIN(len, RECENT_BYTES - at);
	memcpy(ret, recent->data + at, n);
	memcpy((uint8_t *)ret + n, recent->data, len - n);
}

static void drop_oldest(struct recent *recent)
{
	struct head head;
	size_t len;

	get(recent, recent->first, &head, sizeof(head));
	len = sizeof(head) + head.len;
	recent->first = (recent->first + len) % RECENT_BYTES;
	recent->used -= len;
}

void recent_add(struct recent *recent, const struct recent_line *line)
{
	struct head head = {
		.wall_ms = line->wall_ms,
		.level = (uint8_t)line->level,
		.event = (uint8_t)line->event,
	};
	char text[RECENT_TEXT + 1];

	util_copy_utf8(text, sizeof(text), line->text);
	head.len = (uint16_t)strlen(text);
	while (recent->used + sizeof(head) + head.len > RECENT_BYTES)
		drop_oldest(recent);
	put(recent, &head, sizeof(head));
	put(recent, text, head.len);
}

void recent_each(const struct recent *recent,
		 void (*on_line)(void *userdata, const struct recent_line *line), void *userdata)
{
	size_t at = 0;

	while (at < recent->used) {
		char text[RECENT_TEXT + 1];
		struct recent_line line = {.text = text};
		struct head head;

		get(recent, recent->first + at, &head, sizeof(head));
		at += sizeof(head);
		get(recent, recent->first + at, text, head.len);
		at += head.len;
		text[head.len] = '\0';
		line.wall_ms = head.wall_ms;
		line.level = (enum log_level)head.level;
		line.event = (enum log_event)head.event;
		on_line(userdata, &line);
	}
}
