/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_chaos.h"

#include <string.h>

#include "agent/util.h"
#include "tests/sim/sim_random.h"
#include "uplink/message.h"

#define DEPTH_MAX 6
#define ITEMS_MAX 7 /* of an array or a map, mostly */
#define BYTES_MAX 600 /* of a string, mostly */
#define ROOM	  1200 /* for one item without what is in it */

enum major { UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE };

struct out {
	uint8_t *data;
	size_t len;
	uint32_t session;
};

void sim_chaos_flip(uint8_t *data, size_t len)
{
	data[sim_between(0, (uint32_t)len - 1)] ^= (uint8_t)sim_between(1, 255);
}

/* The first bytes of an item; now and then not in the shortest form. */
static void put_head(struct out *out, enum major major, uint64_t value)
{
	unsigned size = value < 24	  ? 0
			: value < 0x100	  ? 1
			: value < 0x10000 ? 2
			: value >> 32	  ? 8
					  : 4;
	uint8_t info;

	if (sim_chance(5))
		size = 8;
	info = size == 0 ? (uint8_t)value : size == 1 ? 24 : size == 2 ? 25 : size == 4 ? 26 : 27;
	out->data[out->len++] = (uint8_t)(major << 5 | info);
	while (size-- > 0)
		out->data[out->len++] = (uint8_t)(value >> 8 * size);
}

static uint64_t choose_number(const struct out *out)
{
	static const uint64_t edges[] = {
		0,	   1,	       23, 24, 255, 256, 65535, UINT32_MAX, UINT64_C(1) << 32,
		INT64_MAX, UINT64_MAX, 64};

	uint64_t number = sim_random();

	switch (sim_between(0, 3)) {
	case 0:
		return edges[sim_between(0, ARRAY_SIZE(edges) - 1)];
	case 1:
		return sim_between(0, out->session + 1);
	case 2:
		return number >> sim_between(0, 63);
	default:
		return sim_between(0, 40);
	}
}

static void put_string(struct out *out, enum major major)
{
	static const size_t sizes[] = {0, 1, 8, MESSAGE_NONCE_LEN, MESSAGE_ID_LEN, 512, 513};
	size_t len = sim_chance(500) ? sizes[sim_between(0, ARRAY_SIZE(sizes) - 1)]
				     : sim_between(0, BYTES_MAX);

	put_head(out, major, len);
	sim_fill(out->data + out->len, len);
	/* Text is mostly UTF-8. */
	for (size_t i = 0; major == TEXT && i < len && !sim_chance(2); i++)
		out->data[out->len + i] &= 0x7f;
	out->len += len;
}

static void put_item(struct out *out, unsigned depth);

static void put_items(struct out *out, size_t n, unsigned depth)
{
	while (n-- > 0 && out->len < SIM_CHAOS_MAX - 2 * ROOM)
		put_item(out, depth);
}

static void put_container(struct out *out, enum major major, unsigned depth)
{
	size_t n = depth < DEPTH_MAX ? sim_between(0, ITEMS_MAX) : 0;
	size_t per = major == MAP ? 2 : 1;

	if (sim_chance(20)) {
		/* Of a length that is told by its end, or never. */
		out->data[out->len++] = (uint8_t)(major << 5 | 31);
		put_items(out, n * per, depth + 1);
		if (sim_chance(700))
			out->data[out->len++] = 0xff;
		return;
	}
	put_head(out, major, sim_chance(10) ? choose_number(out) : n);
	put_items(out, n * per, depth + 1);
}

static void put_item(struct out *out, unsigned depth)
{
	enum major major = (enum major)sim_between(UINT, SIMPLE);

	switch (major) {
	case UINT:
	case NEGATIVE:
		put_head(out, major, choose_number(out));
		break;
	case BYTES:
	case TEXT:
		put_string(out, major);
		break;
	case ARRAY:
	case MAP:
		put_container(out, major, depth);
		break;
	case TAG:
		put_head(out, TAG, choose_number(out));
		if (depth < DEPTH_MAX)
			put_item(out, depth + 1);
		break;
	case SIMPLE:
		/* false to undefined, a float, or a break. */
		out->data[out->len++] = (uint8_t)(SIMPLE << 5 | sim_between(20, 31));
		sim_fill(out->data + out->len, 8);
		out->len += sim_between(0, 8);
		break;
	}
}

/* The fields of a message, by the letter: u a number, b a string of bytes, t a text, n a
 * nonce, m settings, r a list of sessions. */
static void put_field(struct out *out, char kind)
{
	static const char *const keys[] = {"credits", "resume_ms", "report_ms", "hotspot_name"};
	size_t n;

	switch (kind) {
	case 'b':
		put_string(out, BYTES);
		break;
	case 't':
		put_string(out, TEXT);
		break;
	case 'n':
		put_head(out, BYTES, MESSAGE_NONCE_LEN);
		sim_fill(out->data + out->len, MESSAGE_NONCE_LEN);
		out->len += MESSAGE_NONCE_LEN;
		break;
	case 'm':
		n = sim_between(0, 4);
		put_head(out, MAP, n);
		while (n-- > 0) {
			const char *key = keys[sim_between(0, 3)];

			put_head(out, TEXT, strlen(key));
			memcpy(out->data + out->len, key, strlen(key));
			out->len += strlen(key);
			put_field(out, *key == 'h' ? 't' : 'u');
		}
		break;
	case 'r':
		n = sim_between(0, 40);
		put_head(out, ARRAY, n);
		for (; n > 0; n--) {
			put_head(out, ARRAY, 3);
			for (int i = 0; i < 3; i++)
				put_field(out, 'u');
		}
		break;
	default:
		put_head(out, UINT, choose_number(out));
		break;
	}
}

/* With the type and, mostly, the fields of a message there is. */
static void put_shaped(struct out *out)
{
	static const struct {
		uint8_t type;
		const char *fields;
	} shapes[] = {
		{MESSAGE_CHALLENGE, "nu"}, {MESSAGE_WELCOME, "mr"}, {MESSAGE_SIGHTINGS_ACK, "u"},
		{MESSAGE_ACCEPT, "u"},	   {MESSAGE_DATA, "uuub"},  {MESSAGE_CREDIT, "uuu"},
		{MESSAGE_CLOSE, "uut"},	   {MESSAGE_GOAWAY, "ut"},  {MESSAGE_HELLO, "uuuum"},
		{MESSAGE_STATS, "m"},	   {MESSAGE_OPEN, "uubuu"}, {99, "tbu"},
	};
	size_t i = sim_between(0, ARRAY_SIZE(shapes) - 1);
	size_t extra = sim_chance(100) ? sim_between(1, 3) : 0;

	put_head(out, ARRAY, 1 + strlen(shapes[i].fields) + extra);
	put_head(out, UINT, shapes[i].type);
	for (const char *kind = shapes[i].fields; *kind; kind++) {
		if (sim_chance(100))
			put_item(out, 1);
		else
			put_field(out, *kind);
	}
	put_items(out, extra, 1);
}

size_t sim_chaos_message(uint32_t session, uint8_t buf[SIM_CHAOS_MAX])
{
	struct out out = {.data = buf, .session = session};
	uint32_t choice = sim_between(0, 99);

	if (choice < 60) {
		put_shaped(&out);
	} else if (choice < 85) {
		put_item(&out, 0);
	} else if (choice < 98) {
		out.len = sim_between(0, 64);
		sim_fill(buf, out.len);
	} else {
		/* Long: around the greatest length there may be. */
		put_head(&out, BYTES, MESSAGE_MAX - 8);
		out.len = sim_between(MESSAGE_MAX - 16, MESSAGE_MAX + 16);
	}
	/* Cut off, or with something behind. */
	if (sim_chance(30) && out.len > 0)
		out.len = sim_between(0, (uint32_t)out.len - 1);
	else if (sim_chance(30))
		buf[out.len++] = 0;
	return out.len;
}
