/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/loop.h"

#include <errno.h>
#include <libwebsockets.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/lws_log.h"
#include "agent/util.h"

#define LWS_NEVER_S 3600
#define LWS_BUFFER  8192

/* Events taken from the kernel in one turn; what is left wakes the next turn. */
#define EVENTS_PER_TURN 32

struct loop {
	struct lws_context *lws;
	int epoll_fd; /* owned by libwebsockets once adopted */
	bool adopted;
	bool quit;
	struct epoll_event events[EVENTS_PER_TURN]; /* of the turn that runs */
	int n_events;
	struct list timers; /* the first due first */
	struct loop_fd timer_watch;
	int timer_fd; /* owned; set to the first timer */
	uint64_t timer_us; /* what it is set to, 0 for none */
};

static void dispatch(struct loop *loop)
{
	int n = epoll_wait(loop->epoll_fd, loop->events, EVENTS_PER_TURN, 0);

	loop->n_events = MAX(n, 0);
	for (int i = 0; i < loop->n_events; i++) {
		struct loop_fd *watch = loop->events[i].data.ptr;

		if (watch)
			watch->on_ready(watch->userdata, loop->events[i].events);
	}
	loop->n_events = 0;
}

static int on_lws(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in,
		  size_t len)
{
	(void)user;
	(void)in;
	(void)len;
	if (reason == LWS_CALLBACK_RAW_RX_FILE)
		dispatch(lws_context_user(lws_get_context(wsi)));
	return 0;
}

static const struct lws_protocols protocols[] = {
	{.name = "fds", .callback = on_lws},
	{0},
};

static int adopt(struct loop *loop)
{
	lws_sock_file_fd_type desc = {.filefd = loop->epoll_fd};
	struct lws_vhost *vhost;

	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.vhost_name = "fds",
		.protocols = protocols,
	};

	vhost = lws_create_vhost(loop->lws, &info);
	if (!vhost)
		return -ENOMEM;
	/* On failure libwebsockets has closed the descriptor. */
	loop->adopted = true;
	if (!lws_adopt_descriptor_vhost(vhost, LWS_ADOPT_RAW_FILE_DESC, desc, "fds", NULL))
		return -ENOMEM;
	return 0;
}

static void on_timer(void *userdata, uint32_t revents);

static int add_timer_fd(struct loop *loop)
{
	loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (loop->timer_fd < 0)
		return -errno;
	return loop_fd_add(loop, &loop->timer_watch, loop->timer_fd, EPOLLIN, on_timer, loop);
}

int loop_new(struct loop **ret)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	list_init(&loop->timers);
	loop->timer_fd = -1;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		r = -errno;
		free(loop);
		return r;
	}
	lws_log_init();

	struct lws_context_creation_info info = {
		.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
		/* Deadlines are those of who connects; libwebsockets' own would be 5 s. */
		.timeout_secs = LWS_NEVER_S,
		/* What a message is received in, and what a request with a token must fit. */
		.pt_serv_buf_size = LWS_BUFFER,
		.gid = (gid_t)-1,
		.uid = (uid_t)-1,
		.user = loop,
	};

	loop->lws = lws_create_context(&info);
	r = loop->lws ? adopt(loop) : -ENOMEM;
	if (r == 0)
		r = add_timer_fd(loop);
	if (r < 0) {
		loop_free(loop);
		return r;
	}
	*ret = loop;
	return 0;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	loop_fd_remove(&loop->timer_watch);
	util_closep(&loop->timer_fd);
	if (loop->lws)
		lws_context_destroy(loop->lws);
	if (!loop->adopted)
		close(loop->epoll_fd);
	free(loop);
}

int loop_run(struct loop *loop)
{
	while (!loop->quit) {
		if (lws_service(loop->lws, 0) < 0)
			return -EIO;
	}
	return 0;
}

void loop_quit(struct loop *loop)
{
	loop->quit = true;
	lws_cancel_service(loop->lws);
}

struct lws_context *loop_lws(struct loop *loop)
{
	return loop->lws;
}

int loop_fd_add(struct loop *loop, struct loop_fd *watch, int fd, uint32_t events,
		void (*on_ready)(void *userdata, uint32_t revents), void *userdata)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	*watch = (struct loop_fd){
		.loop = loop,
		.fd = fd,
		.events = events,
		.on_ready = on_ready,
		.userdata = userdata,
	};
	return 0;
}

void loop_fd_set(struct loop_fd *watch, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = watch};

	if (!watch->loop || watch->events == events)
		return;
	watch->events = events;
	if (epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) < 0)
		log_error("event loop: cannot change what fd %d waits for: %s", watch->fd,
			  strerror(errno));
}

void loop_fd_remove(struct loop_fd *watch)
{
	struct loop *loop = watch->loop;

	if (!loop)
		return;
	epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
	/* An event of this turn that still waits must not reach memory that may go now. */
	for (int i = 0; i < loop->n_events; i++) {
		if (loop->events[i].data.ptr == watch)
			loop->events[i].data.ptr = NULL;
	}
	watch->loop = NULL;
}

/* libwebsockets would round the wait down to milliseconds and poll without pause for the rest. */
static void arm_timer(struct loop *loop)
{
	struct list *first = loop->timers.next;
	uint64_t due_us = 0;

	if (!list_empty(&loop->timers))
		due_us = LIST_ENTRY(first, struct loop_timer, by_due)->due_us;
	/* Earlier than needed is harmless, and mostly what is set serves again. */
	if (due_us == 0 || (loop->timer_us != 0 && loop->timer_us <= due_us))
		return;
	loop->timer_us = due_us;
	due_us -= UTIL_CLOCK_AHEAD_US;

	struct itimerspec when = {
		.it_value.tv_sec = (time_t)(due_us / 1000000),
		.it_value.tv_nsec = (long)(due_us % 1000000) * 1000,
	};

	if (timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL) < 0)
		log_error("event loop: cannot set a timer: %s", strerror(errno));
}

/* Timers started here are for the next turn, due or not. */
static void on_timer(void *userdata, uint32_t revents)
{
	struct loop *loop = userdata;
	uint64_t now_us = util_now_us();
	uint64_t n;

	(void)revents;
	if (read(loop->timer_fd, &n, sizeof(n)) < 0 && errno != EAGAIN)
		log_error("event loop: cannot read the timer: %s", strerror(errno));
	loop->timer_us = 0;
	while (!list_empty(&loop->timers)) {
		struct loop_timer *timer = LIST_ENTRY(loop->timers.next, struct loop_timer, by_due);

		if (timer->due_us > now_us)
			break;
		loop_timer_stop(timer);
		timer->on_timeout(timer->userdata);
	}
	arm_timer(loop);
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
	struct list *before;

	loop_timer_stop(timer);
	before = loop->timers.prev;
	/* At least 1 us on, so that a timer that starts itself cannot hold the turn up. */
	timer->due_us = util_now_us() + MAX(after_ms * 1000, (uint64_t)1);
	timer->armed = true;
	while (before != &loop->timers &&
	       LIST_ENTRY(before, struct loop_timer, by_due)->due_us > timer->due_us)
		before = before->prev;
	list_append(before->next, &timer->by_due);
	arm_timer(loop);
}

void loop_timer_stop(struct loop_timer *timer)
{
	if (!timer->armed)
		return;
	timer->armed = false;
	list_remove(&timer->by_due);
}
