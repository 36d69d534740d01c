/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/messages.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

const struct sample samples[SAMPLES] = {
	{MESSAGE_CHALLENGE, "01", {"5820" NONCE, "1b0000018bcfe5687b"}},
	{MESSAGE_WELCOME,
	 "03",
	 {"a4697265706f72745f6d7319ea6069726573756d655f6d731975306763726564697473106c686f7473706f"
	  "745f6e616d65664bc3bc636865",
	  "828307182a10831affffffff1bffffffffffffffff1affffffff"}},
	{MESSAGE_SIGHTINGS_ACK, "0b", {"01"}},
	{MESSAGE_ACCEPT, "15", {"1affffffff"}},
	{MESSAGE_DATA, "16", {"03", "01", "19012c", "44deadbeef"}},
	{MESSAGE_CREDIT, "17", {"03", "10", "1b0000010000000000"}},
	{MESSAGE_CLOSE, "1818", {"1a00011170", "01", "7364657669636520646973636f6e6e6563746564"}},
	{MESSAGE_GOAWAY, "181f", {"191388", "666465706c6f79"}},
};

size_t count_fields(const struct sample *sample)
{
	size_t n = 0;

	while (sample->fields[n])
		n++;
	return n;
}

void build(const struct sample *sample, size_t n_fields, size_t other, const char *instead,
	   const char *extra, char *ret_hex, size_t size)
{
	size_t own = count_fields(sample), n;

	n = (size_t)snprintf(ret_hex, size, "%02zx%s", 0x81 + n_fields, sample->type_hex);
	for (size_t i = 0; i < n_fields; i++)
		n += (size_t)snprintf(ret_hex + n, size - n, "%s",
				      i == other ? instead
				      : i < own	 ? sample->fields[i]
						 : extra);
	assert_true(n < size);
}

#define PROTOCOL "uplink/PROTOCOL.md" /* tests run at the root of the source */

/* Calls for each line of "### Examples", without its newline. */
static void each_line(void (*each)(void *userdata, const char *line), void *userdata)
{
	FILE *f = fopen(PROTOCOL, "re");
	bool inside = false;
	char line[256];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (*line == '#')
			inside = strcmp(line, "### Examples") == 0;
		else if (inside)
			each(userdata, line);
	}
	fclose(f);
}

struct search {
	const char *title;
	bool found;
	char *hex;
};

/* A title stands four columns in, and its bytes eight. */
static void gather(void *userdata, const char *line)
{
	struct search *search = userdata;

	if (strspn(line, " ") == 4)
		search->found = strcmp(line + 4, search->title) == 0;
	else if (search->found && strspn(line, " ") == 8)
		strcat(search->hex, line + 8);
}

char *example(const char *title)
{
	struct search search = {title, false, calloc(1, 4096)};

	assert_non_null(search.hex);
	each_line(gather, &search);
	if (!*search.hex)
		fail_msg("no example \"%s\" in " PROTOCOL, title);
	return search.hex;
}

static void count(void *userdata, const char *line)
{
	*(size_t *)userdata += strspn(line, " ") == 4;
}

size_t count_examples(void)
{
	size_t n = 0;

	each_line(count, &n);
	return n;
}

int decode(const uint8_t *data, size_t len, struct message *ret)
{
	struct message before;
	const char *what = NULL;
	int r;

	memset(ret, 0xaa, sizeof(*ret));
	memcpy(&before, ret, sizeof(before));
	r = message_decode(data, len, ret, &what);
	if (r == -EBADMSG)
		assert_non_null(what);
	if (r != 0)
		assert_memory_equal(ret, &before, sizeof(before));
	return r;
}

static int decode_hex(const char *hex)
{
	size_t len;
	_cleanup_free_ uint8_t *data = unhex(hex, &len);
	struct message m;

	return decode(data, len, &m);
}

void expect_hex(const char *hex, int expected)
{
	int r = decode_hex(hex);

	if (r != expected)
		fail_msg("%.200s: %d, not %d", hex, r, expected);
}

uint8_t *good_hex(const char *hex, struct message *ret)
{
	size_t len;
	uint8_t *data = unhex(hex, &len);

	assert_int_equal(decode(data, len, ret), 0);
	return data;
}
