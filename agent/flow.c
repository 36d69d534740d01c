/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/flow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
		.down.limit = FLOW_CREDITS_MAX * room_of(FLOW_FRAME_MAX),
		.credits = credits,
		.up_credits = credits,
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
	if (queue->head < queue->tail)
		return;
	queue->head = queue->tail = 0;
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

const struct flow_frame *flow_next_up(const struct flow *flow, uint64_t *ret_seq)
{
	const struct flow_frame *frame = front(&flow->up);

	if (!frame || flow->up_credits == 0)
		return NULL;
	*ret_seq = flow->up_seq;
	return frame;
}

void flow_pop_up(struct flow *flow)
{
	pop(&flow->up);
	flow->up_seq++;
	flow->up_credits--;
}

bool flow_up_empty(const struct flow *flow)
{
	return !front(&flow->up);
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
