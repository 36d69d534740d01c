/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/peer.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/unit/common.h"

#define ARGUMENTS_MAX 40

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static int listen_anywhere(uint16_t *ret_port)
{
	struct sockaddr_in address = loopback(0);
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, len), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

/* In the child: its standard streams, and its end with the parent's. */
static void settle_in(int in, int out)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (dup2(in, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0)
		_exit(1);
}

static pid_t fork_peer(struct peer *peer)
{
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	peer->child = fork();
	assert_true(peer->child >= 0);
	if (peer->child == 0)
		settle_in(in[0], out[1]);
	close(in[0]);
	close(out[1]);
	peer->in = in[1];
	peer->out = out[0];
	return peer->child;
}

static void run_openssl(char *arguments)
{
	char *argv[ARGUMENTS_MAX] = {"openssl", "s_server", "-accept", "127.0.0.1:0"};
	size_t n = 4;

	for (char *p = strtok(arguments, " "); p && n + 1 < ARGUMENTS_MAX; p = strtok(NULL, " "))
		argv[n++] = p;
	if (chdir(directory) == 0 && dup2(open("/dev/null", O_WRONLY | O_CLOEXEC), 2) >= 0)
		execvp(argv[0], argv);
	_exit(127);
}

/* It says where it listens when it does. */
static uint16_t read_port(int fd)
{
	char text[4096], *at;
	size_t len = 0;
	unsigned port;

	for (;;) {
		ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);

		if (n <= 0)
			fail_msg("openssl s_server does not start");
		len += (size_t)n;
		text[len] = '\0';
		at = strstr(text, "ACCEPT ");
		if (at && strchr(at, '\n') && sscanf(strrchr(at, ':'), ":%u", &port) == 1)
			return (uint16_t)port;
	}
}

void peer_start_openssl(struct peer *peer, const char *arguments)
{
	char *copy = strdup(arguments);

	assert_non_null(copy);
	if (fork_peer(peer) == 0)
		run_openssl(copy);
	free(copy);
	peer->port = read_port(peer->out);
}

static void write_all(int fd, const char *data, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, data, len);

		if (n <= 0)
			_exit(1);
		data += n;
		len -= (size_t)n;
	}
}

/* Byte by byte, to leave what comes behind. */
static void read_until(int fd, const char *until)
{
	char text[4096] = "";

	for (size_t len = 0; len + 1 < sizeof(text) && !strstr(text, until); len++) {
		if (read(fd, text + len, 1) != 1)
			break;
	}
	write_all(STDOUT_FILENO, text, strlen(text));
}

static void tunnel(int fd, uint16_t port)
{
	struct sockaddr_in address = loopback(port);
	int other = socket(AF_INET, SOCK_STREAM, 0);
	struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = other, .events = POLLIN}};

	if (connect(other, (struct sockaddr *)&address, sizeof(address)) < 0)
		_exit(1);
	while (poll(fds, 2, -1) > 0) {
		for (int i = 0; i < 2; i++) {
			char data[4096];
			ssize_t n;

			if (!fds[i].revents)
				continue;
			n = read(fds[i].fd, data, sizeof(data));
			if (n <= 0)
				return;
			write_all(fds[!i].fd, data, (size_t)n);
		}
	}
}

static void run_script(int listener, const struct peer_script *script)
{
	const struct linger at_once = {.l_onoff = 1};
	int fd = accept(listener, NULL, NULL);
	char byte;

	if (script->until)
		read_until(fd, script->until);
	if (script->answer)
		write_all(fd, script->answer,
			  script->answer_len ? script->answer_len : strlen(script->answer));
	if (script->end == PEER_RESETS)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	if (script->end == PEER_TUNNELS)
		tunnel(fd, script->to);
	/* What is not read when it is closed would make a reset of it. */
	if (script->end == PEER_CLOSES)
		shutdown(fd, SHUT_WR);
	while (script->end != PEER_RESETS && read(fd, &byte, 1) > 0)
		;
	close(fd);
	_exit(0);
}

void peer_start(struct peer *peer, const struct peer_script *script)
{
	int listener = listen_anywhere(&peer->port);

	if (fork_peer(peer) == 0)
		run_script(listener, script);
	close(listener);
}

void peer_heard(struct peer *peer, char *ret, size_t size)
{
	size_t len = 0;
	ssize_t n;

	while ((n = read(peer->out, ret + len, size - 1 - len)) > 0)
		len += (size_t)n;
	ret[len] = '\0';
}

void peer_stop(struct peer *peer)
{
	if (peer->child <= 0)
		return;
	kill(peer->child, SIGKILL);
	waitpid(peer->child, NULL, 0);
	close(peer->in);
	close(peer->out);
	peer->child = 0;
}

uint16_t closed_port(void)
{
	uint16_t port;

	close(listen_anywhere(&port));
	return port;
}
