/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/loop.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/util.h"

/* Events taken from the kernel in one turn; what is left wakes the next turn. */
#define EVENTS_PER_TURN 32

struct loop {
	struct lws_context *lws;
	int epoll_fd; /* owned by libwebsockets once adopted */
	bool adopted;
	bool quit;
	struct epoll_event events[EVENTS_PER_TURN]; /* of the turn that runs */
	int n_events;
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

static void on_lws_log(int level, const char *line)
{
	size_t len = strcspn(line, "\n");

	if (level & LLL_ERR)
		log_debug("libwebsockets error: %.*s", (int)len, line);
	else
		log_debug("libwebsockets: %.*s", (int)len, line);
}

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

int loop_new(struct loop **ret)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	if (!loop)
		return -ENOMEM;
	loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (loop->epoll_fd < 0) {
		r = -errno;
		free(loop);
		return r;
	}
	lws_set_log_level(LLL_ERR | LLL_WARN, on_lws_log);

	struct lws_context_creation_info info = {
		.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
		.gid = (gid_t)-1,
		.uid = (uid_t)-1,
		.user = loop,
	};

	loop->lws = lws_create_context(&info);
	r = loop->lws ? adopt(loop) : -ENOMEM;
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

static void on_sul(lws_sorted_usec_list_t *sul)
{
	struct loop_timer *timer = CONTAINER_OF(sul, struct loop_timer, sul);

	timer->armed = false;
	timer->on_timeout(timer->userdata);
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
	timer->armed = true;
	lws_sul_schedule(timer->loop->lws, 0, &timer->sul, on_sul, (lws_usec_t)(after_ms * 1000));
}

void loop_timer_stop(struct loop_timer *timer)
{
	if (!timer->armed)
		return;
	timer->armed = false;
	lws_sul_cancel(&timer->sul);
}
