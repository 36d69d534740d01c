/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CBOR (RFC 8949) items in and out of a flat buffer, over libcbor's streaming functions: no
 * allocation. What comes in must be what PROTOCOL.md allows: definite lengths, shortest form.
 *
 * Both cursors remember their first failure and do nothing after it, so a message is read or
 * written in one go and checked once.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_in {
	const uint8_t *data; /* not owned */
	size_t len;
	size_t pos;
	bool failed;
};

void wire_in_init(struct wire_in *in, const uint8_t *data, size_t len);
/* Each takes one item off; another kind, a value out of range or a broken item is a failure, and the
 * result is 0 or NULL then. */
uint64_t wire_in_uint(struct wire_in *in, uint64_t max);
int64_t wire_in_int(struct wire_in *in, int64_t min, int64_t max);
/* What is returned lies in the buffer. */
const uint8_t *wire_in_bytes(struct wire_in *in, size_t *ret_len);
/* len bytes exactly. */
const uint8_t *wire_in_bytes_exact(struct wire_in *in, size_t len);
/* UTF-8, checked; not NUL-terminated. */
const char *wire_in_text(struct wire_in *in, size_t *ret_len);
/* The number of items, or of pairs, that follow. */
size_t wire_in_array(struct wire_in *in);
size_t wire_in_map(struct wire_in *in);
/* Passes over one item with all it contains. */
void wire_in_skip(struct wire_in *in);
/* True where nothing failed and nothing is left. */
bool wire_in_complete(const struct wire_in *in);

struct wire_out {
	uint8_t *data; /* not owned */
	size_t size;
	size_t len;
	bool failed; /* it did not fit */
};

void wire_out_init(struct wire_out *out, uint8_t *data, size_t size);
void wire_out_uint(struct wire_out *out, uint64_t value);
void wire_out_int(struct wire_out *out, int64_t value);
void wire_out_bytes(struct wire_out *out, const void *data, size_t len);
void wire_out_text(struct wire_out *out, const char *text);
void wire_out_array(struct wire_out *out, size_t n);
void wire_out_map(struct wire_out *out, size_t n);
