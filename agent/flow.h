/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flow control of one relay session: frames in order in two bounded queues, credits and sequence
 * numbers (PROTOCOL.md, "Flow control"). Pure: no I/O.
 *
 *   device --flow_push_up--> up ----flow_next_up---> cloud     the cloud's credits let it go
 *   device <--flow_next_down-- down <--flow_push_down-- cloud  taken frames are granted again
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOW_FRAME_MAX	     512 /* bytes of a frame */
#define FLOW_UP_MAX	     262144 /* bytes that wait for the cloud, with 4 for each frame */
#define FLOW_CREDITS_MAX     64 /* most credits WELCOME may set, so frames that wait for the device */
#define FLOW_CREDITS_DEFAULT 16

struct flow_frame {
	uint16_t len;
	uint8_t channel;
	uint8_t data[];
};

/* Frames one behind the other; grows as it must, and shrinks when it is empty. */
struct flow_queue {
	uint8_t *bytes; /* owned */
	size_t size, head, tail;
	size_t limit;
};

struct flow {
	struct flow_queue up, down;
	uint32_t credits; /* of each side at the start */
	uint64_t up_seq; /* of the next frame to the cloud */
	uint64_t up_credits; /* frames more that may go to the cloud */
	uint64_t down_seq; /* of the next frame from the cloud */
	uint64_t down_limit; /* frames the cloud may have sent in all */
	uint32_t down_taken; /* handed on and not granted again yet */
};

/* credits: 1 to FLOW_CREDITS_MAX. To be followed by flow_done. */
void flow_init(struct flow *flow, uint32_t credits);
void flow_done(struct flow *flow);

/* A frame from the device. Returns 0, -EMSGSIZE, -ENOBUFS where FLOW_UP_MAX is reached, or -ENOMEM. */
int flow_push_up(struct flow *flow, unsigned channel, const uint8_t *data, size_t len);
/* The next frame that may go to the cloud now and its seq, or NULL. It stays at the front,
 * and where it is until the next push. */
const struct flow_frame *flow_next_up(const struct flow *flow, uint64_t *ret_seq);
/* No frame waits for the cloud, with or without credit. */
bool flow_up_empty(const struct flow *flow);
/* The frame flow_next_up gave was sent. */
void flow_pop_up(struct flow *flow);
/* CREDIT of the cloud. Returns 0, or -EPROTO where next_seq was never sent. */
int flow_credit(struct flow *flow, uint32_t credits, uint64_t next_seq);

/* DATA of the cloud. Returns 0, -EPROTO where seq is not the next or no credit was left, or
 * -EMSGSIZE or -ENOMEM. */
int flow_push_down(struct flow *flow, unsigned channel, uint64_t seq, const uint8_t *data,
		   size_t len);
/* The next frame for the device, or NULL. It stays at the front, as above. */
const struct flow_frame *flow_next_down(const struct flow *flow);
/* The device's link took the frame flow_next_down gave. */
void flow_pop_down(struct flow *flow);
/* True where the cloud is to be granted credits now: half of what it had is used up. */
bool flow_grant_due(const struct flow *flow);
/* Grants them. */
void flow_grant(struct flow *flow, uint32_t *ret_credits, uint64_t *ret_next_seq);
