/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "agent/util.h"

#define BAD UINT32_MAX

struct range {
	uint32_t first, last;
};

/* C0, DEL and C1; separators of lines and paragraphs; directions of writing. */
static const struct range forbidden[] = {
	{0x00, 0x1f},	  {0x7f, 0x9f},	    {0x61c, 0x61c}, {0x200e, 0x200f},
	{0x2028, 0x202e}, {0x2066, 0x2069}, {BAD, BAD},
};

/* Blocks of combining characters, joiners and variants. */
static const struct range narrow[] = {
	{0x300, 0x36f},	  {0x483, 0x489},   {0x591, 0x5bd},   {0x64b, 0x65f},
	{0x1ab0, 0x1aff}, {0x1dc0, 0x1dff}, {0x200b, 0x200d}, {0x20d0, 0x20ff},
	{0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}, {0xfeff, 0xfeff}, {0xe0100, 0xe01ef},
};

/* Unicode Standard Annex #11, in blocks. */
static const struct range wide[] = {
	{0x1100, 0x115f},   {0x2e80, 0xa4cf},	{0xac00, 0xd7a3},   {0xf900, 0xfaff},
	{0xfe30, 0xfe6f},   {0xff00, 0xff60},	{0xffe0, 0xffe6},   {0x1f300, 0x1f64f},
	{0x1f680, 0x1f6ff}, {0x1f900, 0x1f9ff}, {0x20000, 0x3fffd},
};

static bool is_in(const struct range *ranges, size_t n, uint32_t character)
{
	for (size_t i = 0; i < n; i++) {
		if (character >= ranges[i].first && character <= ranges[i].last)
			return true;
	}
	return false;
}

/* Takes the character at text, which is not at its end; a byte that begins none is BAD. Returns its
 * bytes. */
static size_t next(const char *text, uint32_t *ret)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;

	*ret = BAD;
	if (strnlen(text, len) < len || !util_is_utf8(text, len))
		return 1;
	*ret = len == 1 ? s[0] : s[0] & (0xffu >> (len + 1));
	for (size_t i = 1; i < len; i++)
		*ret = *ret << 6 | (s[i] & 0x3f);
	return len;
}

static size_t columns_of(uint32_t character)
{
	if (is_in(narrow, ARRAY_SIZE(narrow), character))
		return 0;
	return is_in(wide, ARRAY_SIZE(wide), character) ? 2 : 1;
}

void ctl_utf8_clean(char *text)
{
	uint32_t character;
	size_t len;

	for (; *text; text += len) {
		len = next(text, &character);
		if (is_in(forbidden, ARRAY_SIZE(forbidden), character))
			memset(text, '?', len);
	}
}

size_t ctl_utf8_fit(const char *text, size_t columns)
{
	size_t used = 0, n, i;
	uint32_t character;

	for (i = 0; text[i]; i += n) {
		n = next(text + i, &character);
		used += columns_of(character);
		if (used > columns)
			break;
	}
	return i;
}
