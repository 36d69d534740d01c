/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow.h"

#include <errno.h>
#include <string.h>

void flow_init(struct flow *flow, uint32_t credits)
{
	flow->up.n = flow->up.head = 0;
	flow->down.n = flow->down.head = 0;
	flow->credits = credits;
	flow->up_seq = 0;
	flow->up_credits = credits;
	flow->down_seq = 0;
	flow->down_limit = credits;
	flow->down_taken = 0;
}

static int push(struct flow_queue *queue, unsigned channel, const uint8_t *data, size_t len)
{
	struct flow_frame *frame;

	if (len > FLOW_FRAME_MAX || channel > UINT8_MAX)
		return -EMSGSIZE;
	if (queue->n == FLOW_CREDITS_MAX)
		return -ENOBUFS;
	frame = &queue->frames[(queue->head + queue->n) % FLOW_CREDITS_MAX];
	frame->len = (uint16_t)len;
	frame->channel = (uint8_t)channel;
	if (len > 0)
		memcpy(frame->data, data, len);
	queue->n++;
	return 0;
}

static void pop(struct flow_queue *queue)
{
	queue->head = (queue->head + 1) % FLOW_CREDITS_MAX;
	queue->n--;
}

int flow_push_up(struct flow *flow, unsigned channel, const uint8_t *data, size_t len)
{
	return push(&flow->up, channel, data, len);
}

const struct flow_frame *flow_next_up(const struct flow *flow, uint64_t *ret_seq)
{
	if (flow->up.n == 0 || flow->up_credits == 0)
		return NULL;
	*ret_seq = flow->up_seq;
	return &flow->up.frames[flow->up.head];
}

void flow_pop_up(struct flow *flow)
{
	pop(&flow->up);
	flow->up_seq++;
	flow->up_credits--;
}

int flow_credit(struct flow *flow, uint32_t credits, uint64_t next_seq)
{
	if (next_seq > flow->up_seq)
		return -EPROTO;
	flow->up_credits += credits;
	return 0;
}

int flow_push_down(struct flow *flow, unsigned channel, uint64_t seq, const uint8_t *data,
		   size_t len)
{
	int r;

	if (seq != flow->down_seq || seq >= flow->down_limit)
		return -EPROTO;
	r = push(&flow->down, channel, data, len);
	if (r == 0)
		flow->down_seq++;
	return r;
}

const struct flow_frame *flow_next_down(const struct flow *flow)
{
	return flow->down.n > 0 ? &flow->down.frames[flow->down.head] : NULL;
}

void flow_pop_down(struct flow *flow)
{
	pop(&flow->down);
	flow->down_taken++;
}

bool flow_grant_due(const struct flow *flow)
{
	return flow->down_taken > 0 && flow->down_taken >= flow->credits / 2;
}

void flow_grant(struct flow *flow, uint32_t *ret_credits, uint64_t *ret_next_seq)
{
	*ret_credits = flow->down_taken;
	*ret_next_seq = flow->down_seq;
	flow->down_limit += flow->down_taken;
	flow->down_taken = 0;
}
