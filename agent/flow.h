/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flow control of one relay session: frames in order in two bounded queues, credits and sequence
 * numbers (PROTOCOL.md, "Flow control"), over reconnects too. Pure: no I/O.
 *
 *   device --flow_push_up--> up ----flow_next_up---> cloud     the cloud's credits let it go, and
 *                                                              it stays until it has arrived
 *   device <--flow_next_down-- down <--flow_push_down-- cloud  taken frames are granted again
 *
 * A session holds at most FLOW_UP_MAX and FLOW_DOWN_MAX bytes of frames.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FLOW_FRAME_MAX	     512 /* bytes of a frame */
#define FLOW_UP_MAX	     262144 /* bytes that wait for the cloud, with 4 for each frame */
#define FLOW_UP_HOLD	     65536 /* above so many a device that can be held back is */
#define FLOW_CREDITS_MAX     64 /* most credits WELCOME may set, so frames that wait for the device */
#define FLOW_DOWN_MAX	     (FLOW_CREDITS_MAX * (FLOW_FRAME_MAX + 4)) /* bytes, as above */
#define FLOW_CREDITS_DEFAULT 16

struct flow_frame {
	uint16_t len;
	uint8_t channel;
	uint8_t data[];
};

/* Frames one behind the other; grows as it must, and shrinks when it is empty. */
struct flow_queue {
	uint8_t *bytes; /* owned */
	size_t size, head, next, tail; /* next: of those to the cloud, the first not sent */
	size_t limit;
};

struct flow {
	struct flow_queue up, down;
	uint32_t credits; /* of each side at the start */
	uint64_t up_first; /* seq of the first frame the cloud may not have */
	uint64_t up_seq; /* of the next frame to the cloud */
	uint64_t up_top; /* all below it were sent at least once */
	uint64_t up_reach; /* the same, since the session started or started over */
	uint64_t up_limit; /* frames that may go to the cloud in all */
	uint64_t down_seq; /* of the next frame from the cloud */
	uint64_t down_limit; /* frames the cloud may have sent in all */
	uint32_t down_taken; /* handed on and not granted again yet */
};

/* credits: 1 to FLOW_CREDITS_MAX. To be followed by flow_done. */
void flow_init(struct flow *flow, uint32_t credits);
void flow_done(struct flow *flow);

/* A frame from the device. Returns 0, -EMSGSIZE, -ENOBUFS where FLOW_UP_MAX is reached, or -ENOMEM. */
int flow_push_up(struct flow *flow, unsigned channel, const uint8_t *data, size_t len);
/* The next frame that may go to the cloud now and its seq, or NULL. It stays where it is until the
 * next push or credit. */
const struct flow_frame *flow_next_up(const struct flow *flow, uint64_t *ret_seq);
/* The frame flow_next_up gave was sent. Returns whether for the first time. */
bool flow_sent_up(struct flow *flow);
/* No frame waits to be sent to the cloud, with or without credit. */
bool flow_all_sent(const struct flow *flow);
/* Bytes in the two queues. */
void flow_get_waiting(const struct flow *flow, size_t *ret_up, size_t *ret_down);
/* Whether to hold the device back, given whether it is held now. */
bool flow_hold(const struct flow *flow, bool held);
/* CREDIT of the cloud. Returns 0, or -EPROTO where next_seq was never sent or goes back, or the credits
 * are more than 2^32-1 in sum. */
int flow_credit(struct flow *flow, uint32_t credits, uint64_t next_seq);

/* DATA of the cloud. Returns 0, -EPROTO where seq is not the next or no credit was left, or
 * -EMSGSIZE or -ENOMEM. */
int flow_push_down(struct flow *flow, unsigned channel, uint64_t seq, const uint8_t *data,
		   size_t len);
/* The next frame for the device, or NULL. It stays where it is until the next push. */
const struct flow_frame *flow_next_down(const struct flow *flow);
/* The device's link took the frame flow_next_down gave. */
void flow_pop_down(struct flow *flow);
/* True where the cloud is to be granted credits now: half of what it had is used up. */
bool flow_grant_due(const struct flow *flow);
/* Grants them. */
void flow_grant(struct flow *flow, uint32_t *ret_credits, uint64_t *ret_next_seq);

/* After a dropped connection: what the cloud is told to send. It is granted by that. */
void flow_want(struct flow *flow, uint32_t *ret_credits, uint64_t *ret_next_seq);
/* What the cloud wants: frames from next_seq on go again. Returns 0, or -EPROTO where they were
 * never sent or are gone, as the cloud had them. */
int flow_resume(struct flow *flow, uint32_t credits, uint64_t next_seq);
/* The cloud knows nothing of the session, and there has been no CREDIT or DATA of it: all starts
 * over, but for the frames that wait. */
void flow_restart(struct flow *flow, uint32_t credits);
