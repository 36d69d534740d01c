/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/probe.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/util.h"

#define PROBE_MS 2000

static void done(struct probe *probe, int error)
{
	probe_stop(probe);
	probe->on_done(probe->userdata, error);
}

static void on_ready(void *userdata, uint32_t revents)
{
	struct probe *probe = userdata;
	socklen_t len = sizeof(int);
	int error = 0;

	(void)revents;
	if (getsockopt(probe->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	done(probe, error);
}

static void on_timeout(void *userdata)
{
	struct probe *probe = userdata;

	/* Not started: the error of that waits here. */
	done(probe, probe->fd < 0 ? -probe->fd : ETIMEDOUT);
}

void probe_init(struct probe *probe, struct loop *loop, void (*on_done)(void *userdata, int error),
		void *userdata)
{
	*probe = (struct probe){.loop = loop, .fd = -1, .on_done = on_done, .userdata = userdata};
	loop_timer_init(loop, &probe->timer, on_timeout, probe);
}

/* Returns a socket that connects, or -errno. */
static int begin(const char *address, uint16_t port)
{
	const struct addrinfo hints = {
		.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, /* asks nobody */
		.ai_socktype = SOCK_STREAM,
	};
	_cleanup_close_ int fd = -1;
	struct addrinfo *info;
	char service[8];
	int r = 0;

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(address, service, &hints, &info) != 0)
		return -EINVAL;
	fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, info->ai_addr, info->ai_addrlen) < 0)
		r = -errno;
	freeaddrinfo(info);
	return r < 0 && r != -EINPROGRESS ? r : TAKE_FD(fd);
}

void probe_start(struct probe *probe, const char *address, uint16_t port)
{
	int r;

	probe->fd = begin(address, port);
	r = probe->fd < 0
		    ? probe->fd
		    : loop_fd_add(probe->loop, &probe->watch, probe->fd, EPOLLOUT, on_ready, probe);
	loop_timer_start(&probe->timer, r < 0 ? 0 : PROBE_MS);
}

void probe_stop(struct probe *probe)
{
	loop_timer_stop(&probe->timer);
	loop_fd_remove(&probe->watch);
	util_closep(&probe->fd);
	probe->fd = -1;
}
