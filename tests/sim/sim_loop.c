/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_loop.h"

#include <errno.h>
#include <stdlib.h>

/* Monotonic time does not begin at 0: 0 stands for never in many a place. */
#define BEGIN_US UINT64_C(3600000000)

static uint64_t clock_us = BEGIN_US;

uint64_t __wrap_util_now_us(void);
uint64_t __wrap_util_now_ms(void);

uint64_t __wrap_util_now_us(void)
{
	return clock_us;
}

uint64_t __wrap_util_now_ms(void)
{
	return clock_us / 1000;
}

uint64_t sim_now_ms(void)
{
	return clock_us / 1000;
}

/* --- The heap. A timer's place in it and its number stand in its list pointers. --- */

static void put(struct loop *loop, size_t i, struct loop_timer *timer)
{
	loop->heap[i] = timer;
	timer->by_due.prev = (struct list *)(uintptr_t)i;
}

static bool goes_before(const struct loop_timer *a, const struct loop_timer *b)
{
	if (a->due_us != b->due_us)
		return a->due_us < b->due_us;
	return (uintptr_t)a->by_due.next < (uintptr_t)b->by_due.next;
}

static void sift_up(struct loop *loop, size_t i, struct loop_timer *timer)
{
	while (i > 0 && goes_before(timer, loop->heap[(i - 1) / 2])) {
		put(loop, i, loop->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	put(loop, i, timer);
}

static void sift_down(struct loop *loop, size_t i, struct loop_timer *timer)
{
	for (;;) {
		size_t child = 2 * i + 1;

		if (child + 1 < loop->n && goes_before(loop->heap[child + 1], loop->heap[child]))
			child++;
		if (child >= loop->n || !goes_before(loop->heap[child], timer))
			break;
		put(loop, i, loop->heap[child]);
		i = child;
	}
	put(loop, i, timer);
}

/* --- agent/loop.h --- */

int loop_new(struct loop **ret)
{
	*ret = calloc(1, sizeof(**ret));
	clock_us = BEGIN_US;
	return *ret ? 0 : -ENOMEM;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	/* A timer that is left would fire into memory that is gone. */
	if (loop->n > 0)
		abort();
	free(loop->heap);
	free(loop);
}

static void fire(struct loop *loop)
{
	struct loop_timer *timer = loop->heap[0];

	clock_us = MAX(clock_us, timer->due_us);
	loop_timer_stop(timer);
	timer->on_timeout(timer->userdata);
}

void sim_run_until(struct loop *loop, uint64_t until_ms)
{
	while (!loop->quit && loop->n > 0 && loop->heap[0]->due_us <= until_ms * 1000)
		fire(loop);
	if (!loop->quit)
		clock_us = MAX(clock_us, until_ms * 1000);
}

int loop_run(struct loop *loop)
{
	while (!loop->quit && loop->n > 0)
		fire(loop);
	return 0;
}

void loop_quit(struct loop *loop)
{
	loop->quit = true;
}

struct lws_context *loop_lws(struct loop *loop)
{
	(void)loop;
	return NULL;
}

/* Nothing in a simulation has a descriptor. */
int loop_fd_add(struct loop *loop, struct loop_fd *watch, int fd, uint32_t events,
		void (*on_ready)(void *userdata, uint32_t revents), void *userdata)
{
	(void)loop, (void)watch, (void)fd, (void)events, (void)on_ready, (void)userdata;
	return -ENOSYS;
}

void loop_fd_set(struct loop_fd *watch, uint32_t events)
{
	(void)watch, (void)events;
}

void loop_fd_remove(struct loop_fd *watch)
{
	(void)watch;
}

void loop_timer_init(struct loop *loop, struct loop_timer *timer,
		     void (*on_timeout)(void *userdata), void *userdata)
{
	*timer = (struct loop_timer){
		.loop = loop,
		.on_timeout = on_timeout,
		.userdata = userdata,
	};
}

void loop_timer_start(struct loop_timer *timer, uint64_t after_ms)
{
	struct loop *loop = timer->loop;

	loop_timer_stop(timer);
	if (loop->n == loop->size) {
		loop->size = loop->size ? loop->size * 2 : 64;
		loop->heap = realloc(loop->heap, loop->size * sizeof(loop->heap[0]));
		if (!loop->heap)
			abort();
	}
	timer->due_us = clock_us + MAX(after_ms * 1000, (uint64_t)1);
	timer->armed = true;
	timer->by_due.next = (struct list *)(uintptr_t)loop->started++;
	loop->n++;
	sift_up(loop, loop->n - 1, timer);
}

void loop_timer_stop(struct loop_timer *timer)
{
	struct loop *loop = timer->loop;
	struct loop_timer *last;
	size_t i = (size_t)(uintptr_t)timer->by_due.prev;

	if (!timer->armed)
		return;
	timer->armed = false;
	last = loop->heap[--loop->n];
	if (last == timer)
		return;
	if (i > 0 && goes_before(last, loop->heap[(i - 1) / 2]))
		sift_up(loop, i, last);
	else
		sift_down(loop, i, last);
}
