/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/wire.h"

#include <cbor.h>
#include <string.h>

#include "agent/util.h"

/* libcbor 0.9 widened the lengths of its callbacks. */
#if CBOR_MAJOR_VERSION == 0 && CBOR_MINOR_VERSION < 9
typedef size_t wire_len;
#else
typedef uint64_t wire_len;
#endif

enum kind {
	KIND_FORBIDDEN, /* indefinite length, break */
	KIND_UINT,
	KIND_NEGINT,
	KIND_BYTES,
	KIND_TEXT,
	KIND_ARRAY,
	KIND_MAP,
	KIND_TAG,
	KIND_OTHER, /* simple values and floats */
};

struct item {
	enum kind kind;
	uint64_t value; /* the argument of the item's head (RFC 8949, section 3) */
	const uint8_t *data;
};

static void set(void *context, enum kind kind, uint64_t value, const uint8_t *data)
{
	*(struct item *)context = (struct item){kind, value, data};
}

#define INT_CALLBACK(name, type, kind)                                                             \
	static void name(void *context, type value)                                                \
	{                                                                                          \
		set(context, kind, value, NULL);                                                   \
	}
INT_CALLBACK(on_uint8, uint8_t, KIND_UINT)
INT_CALLBACK(on_uint16, uint16_t, KIND_UINT)
INT_CALLBACK(on_uint32, uint32_t, KIND_UINT)
INT_CALLBACK(on_uint64, uint64_t, KIND_UINT)
INT_CALLBACK(on_negint8, uint8_t, KIND_NEGINT)
INT_CALLBACK(on_negint16, uint16_t, KIND_NEGINT)
INT_CALLBACK(on_negint32, uint32_t, KIND_NEGINT)
INT_CALLBACK(on_negint64, uint64_t, KIND_NEGINT)
INT_CALLBACK(on_array, wire_len, KIND_ARRAY)
INT_CALLBACK(on_map, wire_len, KIND_MAP)
INT_CALLBACK(on_tag, uint64_t, KIND_TAG)

static void on_bytes(void *context, cbor_data data, wire_len len)
{
	set(context, KIND_BYTES, len, data);
}

static void on_text(void *context, cbor_data data, wire_len len)
{
	set(context, KIND_TEXT, len, data);
}

static void on_forbidden(void *context)
{
	set(context, KIND_FORBIDDEN, 0, NULL);
}

static void on_simple(void *context)
{
	set(context, KIND_OTHER, 0, NULL);
}

static void on_bool(void *context, bool value)
{
	(void)value;
	on_simple(context);
}

static void on_float(void *context, float value)
{
	(void)value;
	on_simple(context);
}

static void on_double(void *context, double value)
{
	(void)value;
	on_simple(context);
}

static const struct cbor_callbacks callbacks = {
	.uint8 = on_uint8,
	.uint16 = on_uint16,
	.uint32 = on_uint32,
	.uint64 = on_uint64,
	.negint8 = on_negint8,
	.negint16 = on_negint16,
	.negint32 = on_negint32,
	.negint64 = on_negint64,
	.byte_string_start = on_forbidden,
	.byte_string = on_bytes,
	.string = on_text,
	.string_start = on_forbidden,
	.indef_array_start = on_forbidden,
	.array_start = on_array,
	.indef_map_start = on_forbidden,
	.map_start = on_map,
	.tag = on_tag,
	.float2 = on_float,
	.float4 = on_float,
	.float8 = on_double,
	.undefined = on_simple,
	.null = on_simple,
	.boolean = on_bool,
	.indef_break = on_forbidden,
};

static size_t shortest_head(uint64_t value)
{
	if (value < 24)
		return 1;
	if (value <= UINT8_MAX)
		return 2;
	if (value <= UINT16_MAX)
		return 3;
	return value <= UINT32_MAX ? 5 : 9;
}

void wire_in_init(struct wire_in *in, const uint8_t *data, size_t len)
{
	*in = (struct wire_in){.data = data, .len = len};
}

/* Takes off a simple value without a meaning yet (RFC 8949, section 3.3): libcbor knows none. */
static bool unassigned_simple(struct wire_in *in)
{
	const uint8_t *p = in->data + in->pos;
	size_t left = in->len - in->pos, n = 0;

	if (left >= 1 && p[0] >= 0xe0 && p[0] < 0xf4)
		n = 1;
	else if (left >= 2 && p[0] == 0xf8 && p[1] >= 32)
		n = 2;
	in->pos += n;
	return n > 0;
}

/* Takes the next item's head off, and a string's content with it. */
static struct item next(struct wire_in *in)
{
	static const struct item none = {KIND_FORBIDDEN, 0, NULL};
	struct item item = none;
	struct cbor_decoder_result result;
	size_t head;

	if (in->failed)
		return none;
	if (unassigned_simple(in))
		return (struct item){KIND_OTHER, 0, NULL};
	result = cbor_stream_decode(in->data + in->pos, in->len - in->pos, &callbacks, &item);
	if (result.status != CBOR_DECODER_FINISHED || item.kind == KIND_FORBIDDEN) {
		in->failed = true;
		return none;
	}
	head = result.read;
	if (item.kind == KIND_BYTES || item.kind == KIND_TEXT)
		head -= item.value;
	if (item.kind != KIND_OTHER && head != shortest_head(item.value)) {
		in->failed = true;
		return none;
	}
	in->pos += result.read;
	/* Each item of a container takes a byte at least, so more items than bytes are a lie. */
	if ((item.kind == KIND_ARRAY || item.kind == KIND_MAP) && item.value > in->len - in->pos) {
		in->failed = true;
		return none;
	}
	return item;
}

static struct item expect(struct wire_in *in, enum kind kind)
{
	struct item item = next(in);

	if (item.kind != kind) {
		in->failed = true;
		return (struct item){KIND_FORBIDDEN, 0, NULL};
	}
	return item;
}

uint64_t wire_in_uint(struct wire_in *in, uint64_t max)
{
	struct item item = expect(in, KIND_UINT);

	if (item.value <= max)
		return item.value;
	in->failed = true;
	return 0;
}

int64_t wire_in_int(struct wire_in *in, int64_t min, int64_t max)
{
	struct item item = next(in);
	int64_t value;

	if ((item.kind != KIND_UINT && item.kind != KIND_NEGINT) || item.value > INT64_MAX) {
		in->failed = true;
		return 0;
	}
	value = item.kind == KIND_UINT ? (int64_t)item.value : -1 - (int64_t)item.value;
	if (value >= min && value <= max)
		return value;
	in->failed = true;
	return 0;
}

const uint8_t *wire_in_bytes(struct wire_in *in, size_t *ret_len)
{
	struct item item = expect(in, KIND_BYTES);

	*ret_len = (size_t)item.value;
	return item.data;
}

const uint8_t *wire_in_bytes_exact(struct wire_in *in, size_t len)
{
	size_t actual;
	const uint8_t *data = wire_in_bytes(in, &actual);

	if (actual == len)
		return data;
	in->failed = true;
	return NULL;
}

const char *wire_in_text(struct wire_in *in, size_t *ret_len)
{
	struct item item = expect(in, KIND_TEXT);

	if (!util_is_utf8(item.data, (size_t)item.value)) {
		in->failed = true;
		*ret_len = 0;
		return NULL;
	}
	*ret_len = (size_t)item.value;
	return (const char *)item.data;
}

size_t wire_in_array(struct wire_in *in)
{
	return (size_t)expect(in, KIND_ARRAY).value;
}

size_t wire_in_map(struct wire_in *in)
{
	return (size_t)expect(in, KIND_MAP).value;
}

void wire_in_skip(struct wire_in *in)
{
	size_t left = 1;

	/* Nesting needs no depth: items still to come are all that counts. left cannot wrap, as
	 * each container adds at most twice the bytes that follow it. */
	while (left > 0 && !in->failed) {
		struct item item = next(in);

		left--;
		if (item.kind == KIND_ARRAY)
			left += (size_t)item.value;
		else if (item.kind == KIND_MAP)
			left += 2 * (size_t)item.value;
		else if (item.kind == KIND_TAG)
			left++;
		else if (item.kind == KIND_TEXT && !util_is_utf8(item.data, (size_t)item.value))
			in->failed = true;
	}
}

bool wire_in_complete(const struct wire_in *in)
{
	return !in->failed && in->pos == in->len;
}

void wire_out_init(struct wire_out *out, uint8_t *data, size_t size)
{
	*out = (struct wire_out){.data = data, .size = size};
}

/* encode is one of libcbor's functions for an item's head: 0 where it does not fit. */
static void head(struct wire_out *out, size_t (*encode)(uint64_t, unsigned char *, size_t),
		 uint64_t value)
{
	size_t n;

	if (out->failed)
		return;
	n = encode(value, out->data + out->len, out->size - out->len);
	out->failed = n == 0;
	out->len += n;
}

/* The length argument of these is size_t in libcbor. */
static size_t bytes_head(uint64_t len, unsigned char *buf, size_t size)
{
	return cbor_encode_bytestring_start((size_t)len, buf, size);
}

static size_t text_head(uint64_t len, unsigned char *buf, size_t size)
{
	return cbor_encode_string_start((size_t)len, buf, size);
}

static size_t array_head(uint64_t n, unsigned char *buf, size_t size)
{
	return cbor_encode_array_start((size_t)n, buf, size);
}

static size_t map_head(uint64_t n, unsigned char *buf, size_t size)
{
	return cbor_encode_map_start((size_t)n, buf, size);
}

static void content(struct wire_out *out, const void *data, size_t len)
{
	if (out->failed || len == 0)
		return;
	if (len > out->size - out->len) {
		out->failed = true;
		return;
	}
	memcpy(out->data + out->len, data, len);
	out->len += len;
}

void wire_out_uint(struct wire_out *out, uint64_t value)
{
	head(out, cbor_encode_uint, value);
}

void wire_out_int(struct wire_out *out, int64_t value)
{
	if (value >= 0)
		head(out, cbor_encode_uint, (uint64_t)value);
	else
		head(out, cbor_encode_negint, (uint64_t)(-1 - value));
}

void wire_out_bytes(struct wire_out *out, const void *data, size_t len)
{
	head(out, bytes_head, len);
	content(out, data, len);
}

void wire_out_text(struct wire_out *out, const char *text)
{
	size_t len = strlen(text);

	head(out, text_head, len);
	content(out, text, len);
}

void wire_out_array(struct wire_out *out, size_t n)
{
	head(out, array_head, n);
}

void wire_out_map(struct wire_out *out, size_t n)
{
	head(out, map_head, n);
}
