/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: libwebsockets' own poll loop. Our file descriptors sit in one epoll set, and
 * that set's descriptor is what libwebsockets adopts: it wakes up for it, and we keep full
 * control of events and ownership. One thread; no callback may block.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "agent/util.h"

struct loop;
struct lws_context;

/* Returns 0 and a loop to be freed with loop_free, or -errno. */
int loop_new(struct loop **ret);
/* NULL is fine. All watches and timers must be removed before. */
void loop_free(struct loop *loop);
/* Runs until loop_quit. Returns 0, or -errno if the loop itself failed. */
int loop_run(struct loop *loop);
void loop_quit(struct loop *loop);
/* For the WebSocket client only. Owned by the loop. */
struct lws_context *loop_lws(struct loop *loop);

/* A watched descriptor, embedded in its owner. The loop never owns fd. */
struct loop_fd {
	struct loop *loop; /* not owned; NULL while not watched */
	int fd; /* not owned */
	uint32_t events;
	/* revents: EPOLLIN, EPOLLOUT, EPOLLHUP, EPOLLERR. May remove any watch, also its own. */
	void (*on_ready)(void *userdata, uint32_t revents);
	void *userdata; /* not owned */
};
/* Level-triggered. events: of EPOLLIN | EPOLLOUT, 0 for hang-up and error alone. Returns 0 or -errno. */
int loop_fd_add(struct loop *loop, struct loop_fd *watch, int fd, uint32_t events,
		void (*on_ready)(void *userdata, uint32_t revents), void *userdata);
/* Changes the events asked for; nothing where watch is not watched. */
void loop_fd_set(struct loop_fd *watch, uint32_t events);
/* Before the descriptor is closed. Nothing where watch is not watched. */
void loop_fd_remove(struct loop_fd *watch);

/* A one-shot timer on the monotonic clock, embedded in its owner. */
struct loop_timer {
	struct list by_due; /* in the loop's timers */
	struct loop *loop; /* not owned */
	uint64_t due_us; /* as util_now_us */
	bool armed;
	void (*on_timeout)(void *userdata);
	void *userdata; /* not owned */
};
void loop_timer_init(struct loop *loop, struct loop_timer *timer,
		     void (*on_timeout)(void *userdata), void *userdata);
/* Once, after_ms from now; replaces what it was set to. */
void loop_timer_start(struct loop_timer *timer, uint64_t after_ms);
/* Also before its memory goes. Nothing where it is not armed or never initialised (all zero). */
void loop_timer_stop(struct loop_timer *timer);
