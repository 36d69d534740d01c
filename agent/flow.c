/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/util.h"

#define SIZE_MIN 4096 /* bytes a queue has at least, once it has any */

/* Bytes a frame takes in a queue: the next one's length is aligned. */
static size_t room_of(size_t len)
{
	return (offsetof(struct flow_frame, data) + len + 1) & ~(size_t)1;
}

void flow_init(struct flow *flow, uint32_t credits)
{
	*flow = (struct flow){
		.up.limit = FLOW_UP_MAX,
		.down.limit = FLOW_DOWN_MAX,
		.credits = credits,
		.up_limit = credits,
		.down_limit = credits,
	};
}

void flow_done(struct flow *flow)
{
	free(flow->up.bytes);
	free(flow->down.bytes);
}

static void close_gap(struct flow_queue *queue)
{
	memmove(queue->bytes, queue->bytes + queue->head, queue->tail - queue->head);
	queue->tail -= queue->head;
	queue->next -= MIN(queue->next, queue->head);
	queue->head = 0;
}

/* Sees to it that room bytes fit at the tail. */
static int make_room(struct flow_queue *queue, size_t room)
{
	size_t size = queue->size ? queue->size : SIZE_MIN;
	uint8_t *bytes;

	if (queue->tail - queue->head + room > queue->limit)
		return -ENOBUFS;
	if (queue->tail + room <= queue->size)
		return 0;
	/* Growing is for queues that are full, not for those that only moved along. */
	if (queue->head > 0 && queue->head >= queue->size / 2)
		close_gap(queue);
	while (size < queue->tail + room)
		size *= 2;
	size = size < queue->limit ? size : queue->limit;
	if (queue->tail + room > size)
		close_gap(queue);
	if (size == queue->size)
		return 0;
	bytes = realloc(queue->bytes, size);
	if (!bytes)
		return -ENOMEM;
	queue->bytes = bytes;
	queue->size = size;
	return 0;
}

static int push(struct flow_queue *queue, unsigned channel, const uint8_t *data, size_t len)
{
	struct flow_frame *frame;
	int r;

	if (len > FLOW_FRAME_MAX || channel > UINT8_MAX)
		return -EMSGSIZE;
	r = make_room(queue, room_of(len));
	if (r < 0)
		return r;
	frame = (struct flow_frame *)(queue->bytes + queue->tail);
	frame->len = (uint16_t)len;
	frame->channel = (uint8_t)channel;
	if (len > 0)
		memcpy(frame->data, data, len);
	queue->tail += room_of(len);
	return 0;
}

static const struct flow_frame *front(const struct flow_queue *queue)
{
	if (queue->head == queue->tail)
		return NULL;
	return (const struct flow_frame *)(queue->bytes + queue->head);
}

static void pop(struct flow_queue *queue)
{
	queue->head += room_of(front(queue)->len);
	queue->next = MAX(queue->next, queue->head);
	if (queue->head < queue->tail)
		return;
	queue->head = queue->next = queue->tail = 0;
	if (queue->size > SIZE_MIN) {
		free(queue->bytes);
		queue->bytes = NULL;
		queue->size = 0;
	}
}

int flow_push_up(struct flow *flow, unsigned channel, const uint8_t *data, size_t len)
{
	return push(&flow->up, channel, data, len);
}

static const struct flow_frame *unsent(const struct flow *flow)
{
	if (flow->up.next == flow->up.tail)
		return NULL;
	return (const struct flow_frame *)(flow->up.bytes + flow->up.next);
}

const struct flow_frame *flow_next_up(const struct flow *flow, uint64_t *ret_seq)
{
	if (flow->up_seq >= flow->up_limit)
		return NULL;
	*ret_seq = flow->up_seq;
	return unsent(flow);
}

bool flow_sent_up(struct flow *flow)
{
	flow->up.next += room_of(unsent(flow)->len);
	flow->up_seq++;
	flow->up_reach = MAX(flow->up_reach, flow->up_seq);
	if (flow->up_seq <= flow->up_top)
		return false;
	flow->up_top = flow->up_seq;
	return true;
}

bool flow_all_sent(const struct flow *flow)
{
	return !unsent(flow);
}

void flow_get_waiting(const struct flow *flow, size_t *ret_up, size_t *ret_down)
{
	*ret_up = flow->up.tail - flow->up.head;
	*ret_down = flow->down.tail - flow->down.head;
}

bool flow_hold(const struct flow *flow, bool held)
{
	size_t up, down;

	flow_get_waiting(flow, &up, &down);
	return up > (held ? FLOW_UP_HOLD / 2 : FLOW_UP_HOLD);
}

/* All frames below next_seq, which have been sent, have arrived. */
static void arrived(struct flow *flow, uint64_t next_seq)
{
	for (; flow->up_first < next_seq; flow->up_first++)
		pop(&flow->up);
}

int flow_credit(struct flow *flow, uint32_t credits, uint64_t next_seq)
{
	if (next_seq < flow->up_first || next_seq > flow->up_seq ||
	    flow->up_limit - flow->up_seq + credits > UINT32_MAX)
		return -EPROTO;
	arrived(flow, next_seq);
	flow->up_limit += credits;
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
	return front(&flow->down);
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

void flow_want(struct flow *flow, uint32_t *ret_credits, uint64_t *ret_next_seq)
{
	flow->down_limit += flow->down_taken;
	flow->down_taken = 0;
	*ret_credits = (uint32_t)(flow->down_limit - flow->down_seq);
	*ret_next_seq = flow->down_seq;
}

int flow_resume(struct flow *flow, uint32_t credits, uint64_t next_seq)
{
	if (next_seq < flow->up_first || next_seq > flow->up_reach)
		return -EPROTO;
	arrived(flow, next_seq);
	flow->up.next = flow->up.head;
	flow->up_seq = next_seq;
	flow->up_limit = next_seq + credits;
	return 0;
}

void flow_restart(struct flow *flow, uint32_t credits)
{
	flow->credits = credits;
	flow->up.next = flow->up.head;
	flow->up_seq = flow->up_reach = 0;
	flow->up_limit = credits;
	flow->down_limit = credits;
}
