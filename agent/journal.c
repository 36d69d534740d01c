/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/util.h"
#include "uplink/wire.h"

#define FIELDS	     6
#define ENTRY_FIELDS 6
#define CLOCK_FIELDS 3

bool journal_wants(const struct log_line *line)
{
	switch (line->event) {
	case LOG_EVENT_NONE:
		return false;
	case LOG_EVENT_START:
	case LOG_EVENT_STOP:
	case LOG_EVENT_SUPERVISOR:
		return true;
	case LOG_EVENT_CONFIGURATION:
	case LOG_EVENT_BLUETOOTH:
	case LOG_EVENT_ADAPTER:
	case LOG_EVENT_UPLINK:
	case LOG_EVENT_DEVICE:
	case LOG_EVENT_SESSION:
		break;
	}
	return line->level <= LOG_LEVEL_WARNING;
}

/* The place for one more, in which there may be an old one. */
static struct journal_entry *append(struct journal *journal)
{
	if (journal->n == JOURNAL_ENTRIES)
		memmove(journal->entries, journal->entries + 1,
			--journal->n * sizeof(*journal->entries));
	return &journal->entries[journal->n++];
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Whether the texts are the same but for their numbers. */
static bool is_alike(const char *a, const char *b)
{
	for (;; a++, b++) {
		while (is_digit(*a) && is_digit(a[1]))
			a++;
		while (is_digit(*b) && is_digit(b[1]))
			b++;
		if (*a != *b && !(is_digit(*a) && is_digit(*b)))
			return false;
		if (!*a)
			return true;
	}
}

/* Takes one like that out of the last ones. Starts and stops are told one by one: only the order says
 * which belong together. */
static void take_alike(struct journal *journal, const struct log_line *line, const char *text,
		       struct journal_entry *ret)
{
	bool ordered = line->event == LOG_EVENT_START || line->event == LOG_EVENT_STOP;
	size_t depth = MIN(ordered ? 1 : JOURNAL_FOLD, journal->n);

	for (size_t i = journal->n; i-- > journal->n - depth;) {
		struct journal_entry *entry = &journal->entries[i];

		if (entry->event != line->event || !is_alike(entry->text, text))
			continue;
		*ret = *entry;
		memmove(entry, entry + 1, (--journal->n - i) * sizeof(*entry));
		return;
	}
}

void journal_add(struct journal *journal, const struct log_line *line, const struct kept_clock *now)
{
	struct journal_entry entry = {.event = line->event, .first = *now};
	char text[JOURNAL_TEXT + 1];

	util_copy_utf8(text, sizeof(text), line->text);
	take_alike(journal, line, text, &entry);
	journal->sequence++;
	memcpy(entry.text, text, sizeof(text));
	entry.level = line->level;
	entry.last = *now;
	if (entry.count < UINT32_MAX)
		entry.count++;
	*append(journal) = entry;
}

const char *journal_begin(struct journal *journal, const struct kept_clock *now)
{
	const char *last_end = NULL;

	if (journal->ended)
		last_end = "stopped in good order";
	else if (journal->starts > 0)
		last_end = kept_same_boot(&journal->written, now)
				   ? "crashed, was killed or hung"
				   : "the hub was restarted or lost power";
	journal->ended = false;
	if (journal->starts < UINT32_MAX)
		journal->starts++;
	journal->sequence++;
	return last_end;
}

void journal_end(struct journal *journal)
{
	journal->ended = true;
	journal->sequence++;
}

static void read_clock(struct wire_in *in, struct kept_clock *ret)
{
	const uint8_t *boot_id;

	if (wire_in_array(in) != CLOCK_FIELDS)
		in->failed = true;
	boot_id = wire_in_bytes_exact(in, sizeof(ret->boot_id));
	if (boot_id)
		memcpy(ret->boot_id, boot_id, sizeof(ret->boot_id));
	ret->boottime_ms = wire_in_uint(in, UINT64_MAX);
	ret->wall_ms = wire_in_uint(in, UINT64_MAX);
}

/* As the log has it: one line. */
static void read_text(struct wire_in *in, char ret[JOURNAL_TEXT + 1])
{
	size_t len = 0;
	const char *text = wire_in_text(in, &len);

	if (!text || len > JOURNAL_TEXT) {
		in->failed = true;
		return;
	}
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)text[i] < ' ' || text[i] == 127)
			in->failed = true;
	}
	memcpy(ret, text, len);
	ret[len] = '\0';
}

static void read_entry(struct wire_in *in, struct journal_entry *ret)
{
	if (wire_in_array(in) != ENTRY_FIELDS)
		in->failed = true;
	ret->event = (enum log_event)wire_in_uint(in, LOG_EVENT_SESSION);
	ret->level = (enum log_level)wire_in_uint(in, LOG_LEVEL_DEBUG);
	ret->count = (uint32_t)wire_in_uint(in, UINT32_MAX);
	read_clock(in, &ret->first);
	read_clock(in, &ret->last);
	read_text(in, ret->text);
	if (ret->event == LOG_EVENT_NONE || ret->count == 0)
		in->failed = true;
}

static void read_journal(struct wire_in *in, struct journal *journal)
{
	journal->sequence = wire_in_uint(in, UINT64_MAX);
	journal->starts = (uint32_t)wire_in_uint(in, UINT32_MAX);
	journal->ended = wire_in_uint(in, 1) == 1;
	read_clock(in, &journal->written);
	journal->n = wire_in_array(in);
	if (journal->n > JOURNAL_ENTRIES)
		in->failed = true;
	for (size_t i = 0; i < journal->n && !in->failed; i++)
		read_entry(in, &journal->entries[i]);
}

int journal_decode(const uint8_t *data, size_t len, struct journal *ret)
{
	_cleanup_free_ struct journal *journal = calloc(1, sizeof(*journal));
	uint64_t version;
	struct wire_in in;
	size_t fields;

	if (!journal)
		return -ENOMEM;
	wire_in_init(&in, data, len);
	fields = wire_in_array(&in);
	version = wire_in_uint(&in, UINT64_MAX);
	if (in.failed)
		return -EBADMSG;
	if (version != JOURNAL_VERSION)
		return -EPROTONOSUPPORT;
	read_journal(&in, journal);
	if (fields != FIELDS || !wire_in_complete(&in))
		return -EBADMSG;
	*ret = *journal;
	return 0;
}

static void write_clock(struct wire_out *out, const struct kept_clock *clock)
{
	wire_out_array(out, CLOCK_FIELDS);
	wire_out_bytes(out, clock->boot_id, sizeof(clock->boot_id));
	wire_out_uint(out, clock->boottime_ms);
	wire_out_uint(out, clock->wall_ms);
}

size_t journal_encode(const struct journal *journal, uint8_t *buf, size_t size)
{
	struct wire_out out;

	wire_out_init(&out, buf, size);
	wire_out_array(&out, FIELDS);
	wire_out_uint(&out, JOURNAL_VERSION);
	wire_out_uint(&out, journal->sequence);
	wire_out_uint(&out, journal->starts);
	wire_out_uint(&out, journal->ended);
	write_clock(&out, &journal->written);
	wire_out_array(&out, journal->n);
	for (size_t i = 0; i < journal->n; i++) {
		const struct journal_entry *entry = &journal->entries[i];

		wire_out_array(&out, ENTRY_FIELDS);
		wire_out_uint(&out, entry->event);
		wire_out_uint(&out, entry->level);
		wire_out_uint(&out, entry->count);
		write_clock(&out, &entry->first);
		write_clock(&out, &entry->last);
		wire_out_text(&out, entry->text);
	}
	return out.failed ? 0 : out.len;
}
