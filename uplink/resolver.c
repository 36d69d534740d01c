/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/resolver.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/loop.h"
#include "agent/util.h"

struct resolver {
	pid_t child; /* 0: none, as the host is an address in numbers */
	int fd; /* owned: the child's answer, one struct resolver_result; -1 without a child */
	struct loop_fd watch;
	struct resolver_result number; /* the answer without a child */
	struct loop_timer timer; /* for it to come from the loop */
	void (*on_done)(void *userdata, const struct resolver_result *result);
	void *userdata; /* not owned */
};

static enum failure_cause cause_of(int error)
{
	if (error == EAI_AGAIN)
		return FAILURE_NO_DNS;
	return error == EAI_NONAME || error == EAI_NODATA ? FAILURE_NO_NAME : FAILURE_RESOLVER;
}

/* flags: of struct addrinfo. */
static void resolve(const char *host, int flags, struct resolver_result *ret)
{
	const struct addrinfo hints = {
		.ai_flags = flags,
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *list = NULL;
	int r = getaddrinfo(host, NULL, &hints, &list);

	if (r != 0) {
		snprintf(ret->error, sizeof(ret->error), "%s",
			 r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
		ret->cause = cause_of(r);
		return;
	}
	for (struct addrinfo *a = list; a && ret->n < RESOLVER_ADDRESSES_MAX; a = a->ai_next) {
		if (getnameinfo(a->ai_addr, a->ai_addrlen, ret->addresses[ret->n], RESOLVER_TEXT,
				NULL, 0, NI_NUMERICHOST) == 0)
			ret->n++;
	}
	freeaddrinfo(list);
	if (ret->n == 0) {
		snprintf(ret->error, sizeof(ret->error), "the name has no address");
		ret->cause = FAILURE_NO_NAME;
	}
}

/* Nothing of the parent's may live on in the child: a socket it held open would outlast a close. */
static void close_all_but(int fd)
{
	if (dup2(fd, 3) < 0)
		_exit(1);
#ifdef SYS_close_range
	if (syscall(SYS_close_range, 4u, ~0u, 0u) == 0)
		return;
#endif
	for (int i = 4, last = (int)sysconf(_SC_OPEN_MAX); i < last; i++)
		close(i);
}

static void run_child(const char *host, int fd)
{
	struct resolver_result result = {0};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGALRM, SIG_DFL);
	alarm(60); /* whatever happens to the parent, the child ends */
	close_all_but(fd);
	resolve(host, 0, &result);
	_exit(write(3, &result, sizeof(result)) == sizeof(result) ? 0 : 1);
}

static void on_readable(void *userdata, uint32_t revents)
{
	struct resolver *resolver = userdata;
	struct resolver_result result = {0};

	(void)revents;
	/* One write of less than PIPE_BUF comes in one piece (POSIX, write). */
	if (read(resolver->fd, &result, sizeof(result)) != sizeof(result)) {
		result.n = 0;
		result.cause = FAILURE_RESOLVER;
		snprintf(result.error, sizeof(result.error), "the resolver process failed");
	}
	loop_fd_remove(&resolver->watch);
	resolver->on_done(resolver->userdata, &result);
}

_Static_assert(sizeof(struct resolver_result) <= 4096, "must fit PIPE_BUF");

static void on_number(void *userdata)
{
	struct resolver *resolver = userdata;
	const struct resolver_result result = resolver->number;

	resolver->on_done(resolver->userdata, &result);
}

/* Returns -errno where there can be no child. */
static int start_child(struct loop *loop, const char *host, struct resolver *resolver)
{
	_cleanup_close_ int from = -1;
	_cleanup_close_ int to = -1;
	int fds[2], r;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	from = fds[0];
	to = fds[1];
	r = loop_fd_add(loop, &resolver->watch, from, EPOLLIN, on_readable, resolver);
	if (r < 0)
		return r;
	resolver->child = fork();
	if (resolver->child == 0)
		run_child(host, to);
	if (resolver->child < 0) {
		r = -errno;
		loop_fd_remove(&resolver->watch);
		return r;
	}
	resolver->fd = TAKE_FD(from);
	return 0;
}

int resolver_start(struct loop *loop, const char *host,
		   void (*on_done)(void *userdata, const struct resolver_result *result),
		   void *userdata, struct resolver **ret)
{
	_cleanup_free_ struct resolver *resolver = calloc(1, sizeof(*resolver));
	int r = 0;

	if (!resolver)
		return -ENOMEM;
	resolver->fd = -1;
	resolver->on_done = on_done;
	resolver->userdata = userdata;
	loop_timer_init(loop, &resolver->timer, on_number, resolver);
	resolve(host, AI_NUMERICHOST, &resolver->number); /* asks nobody */
	if (resolver->number.n > 0)
		loop_timer_start(&resolver->timer, 0);
	else
		r = start_child(loop, host, resolver);
	if (r == 0)
		*ret = TAKE_PTR(resolver);
	return r;
}

void resolver_cancel(struct resolver *resolver)
{
	if (!resolver)
		return;
	loop_timer_stop(&resolver->timer);
	loop_fd_remove(&resolver->watch);
	util_closep(&resolver->fd);
	if (resolver->child > 0) {
		/* It has answered, or nobody wants its answer: it does not wait for anything. */
		kill(resolver->child, SIGKILL);
		while (waitpid(resolver->child, NULL, 0) < 0 && errno == EINTR)
			;
	}
	free(resolver);
}
