/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device of the relay's bench, at its sockets: does what the frames say (frames.h).
 */
#pragma once

#include "frames.h"

struct device {
	int in, out; /* not blocking; -1: not open. Not owned, and one where they are the same */
	bool whole; /* each packet must be a frame */
	uint8_t buf[2 * FRAME]; /* a frame that comes in pieces */
	size_t len;
	uint32_t counted; /* FRAME_DOWN */
	uint32_t sent, to_send; /* FRAME_UP */
	struct frame answer;
	bool answer_due;
};

void device_init(struct device *device, int in, int out, bool whole);
/* Reads all there is and sends what there is room for. Returns 0, or -errno where it is over. */
int device_serve(struct device *device);
/* It waits for room in out. */
bool device_is_blocked(const struct device *device);
