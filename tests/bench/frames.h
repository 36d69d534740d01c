/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cloud.c and device.c say to each other through whatever is between them. Every frame has
 * FRAME bytes, so that they are found again in a stream that does not keep them apart, a number,
 * and a filling that depends on it: lost, doubled and damaged ones are noticed.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FRAME	     244 /* bytes of a device's frame where the ATT MTU is 247 */
#define SESSIONS_MAX 8

enum frame_kind {
	FRAME_ECHO = 1, /* to the device, which sends it back as it is */
	FRAME_DOWN, /* to the device, count of them; the last is answered with FRAME_COUNTED */
	FRAME_COUNTED, /* from the device: count have come, in order and undamaged */
	FRAME_ASK, /* to the device: send count of FRAME_UP more, from 0 on where number is 0 */
	FRAME_UP,
};

struct frame {
	uint8_t kind;
	uint8_t unused[3];
	uint32_t number;
	uint32_t count;
	uint8_t filling[FRAME - 12];
};

_Static_assert(sizeof(struct frame) == FRAME, "no gaps");

static inline const uint8_t *frame_filling(uint32_t number)
{
	static uint8_t bytes[256 + FRAME];

	if (!bytes[0]) {
		for (unsigned i = 0; i < sizeof(bytes); i++)
			bytes[i] = (uint8_t)(i * 167 + i / 256 + 13);
	}
	return bytes + number % 256;
}

static inline void frame_set(struct frame *frame, enum frame_kind kind, uint32_t number,
			     uint32_t count)
{
	*frame = (struct frame){.kind = (uint8_t)kind, .number = number, .count = count};
	memcpy(frame->filling, frame_filling(number), sizeof(frame->filling));
}

static inline bool frame_is(const struct frame *frame, enum frame_kind kind, uint32_t number)
{
	return frame->kind == kind && frame->number == number &&
	       memcmp(frame->filling, frame_filling(number), sizeof(frame->filling)) == 0;
}
