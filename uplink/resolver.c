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
	pid_t child;
	int fd; /* owned: the child's answer, one struct resolver_result */
	struct loop_fd watch;
	void (*on_done)(void *userdata, const struct resolver_result *result);
	void *userdata; /* not owned */
};

static void resolve(const char *host, struct resolver_result *ret)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	int r = getaddrinfo(host, NULL, &hints, &list);

	if (r != 0) {
		snprintf(ret->error, sizeof(ret->error), "%s",
			 r == EAI_SYSTEM ? strerror(errno) : gai_strerror(r));
		return;
	}
	for (struct addrinfo *a = list; a && ret->n < RESOLVER_ADDRESSES_MAX; a = a->ai_next) {
		if (getnameinfo(a->ai_addr, a->ai_addrlen, ret->addresses[ret->n], RESOLVER_TEXT,
				NULL, 0, NI_NUMERICHOST) == 0)
			ret->n++;
	}
	freeaddrinfo(list);
	if (ret->n == 0)
		snprintf(ret->error, sizeof(ret->error), "the name has no address");
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
	resolve(host, &result);
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
		snprintf(result.error, sizeof(result.error), "the resolver process failed");
	}
	loop_fd_remove(&resolver->watch);
	resolver->on_done(resolver->userdata, &result);
}

_Static_assert(sizeof(struct resolver_result) <= 4096, "must fit PIPE_BUF");

int resolver_start(struct loop *loop, const char *host,
		   void (*on_done)(void *userdata, const struct resolver_result *result),
		   void *userdata, struct resolver **ret)
{
	_cleanup_free_ struct resolver *resolver = calloc(1, sizeof(*resolver));
	_cleanup_close_ int from = -1;
	_cleanup_close_ int to = -1;
	int fds[2], r;

	if (!resolver)
		return -ENOMEM;
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
	resolver->on_done = on_done;
	resolver->userdata = userdata;
	*ret = TAKE_PTR(resolver);
	return 0;
}

void resolver_cancel(struct resolver *resolver)
{
	if (!resolver)
		return;
	loop_fd_remove(&resolver->watch);
	close(resolver->fd);
	/* It has answered, or nobody wants its answer: it does not wait for anything. */
	kill(resolver->child, SIGKILL);
	while (waitpid(resolver->child, NULL, 0) < 0 && errno == EINTR)
		;
	free(resolver);
}
