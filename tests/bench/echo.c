/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices' side of the relay's bench where no agent is in between.
 *
 *    echo seqpacket PATH DEVICES   for socat: devices (frames.h), a connection each
 *    echo tcp PORT, echo tls PORT  for nothing: what comes goes back
 *
 * Says "ready" and is to be killed.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "device.h"

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

static int accept_all(const char *path, struct device *devices, unsigned n)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, SESSIONS_MAX) < 0)
		return -errno;
	ready();
	for (unsigned i = 0; i < n; i++) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			return -errno;
		device_init(&devices[i], fd, fd, false);
	}
	return 0;
}

static int serve(const char *path, unsigned n)
{
	static struct device devices[SESSIONS_MAX];
	struct pollfd fds[SESSIONS_MAX];
	int r = accept_all(path, devices, n);

	while (r >= 0) {
		for (unsigned i = 0; i < n; i++)
			fds[i] = (struct pollfd){
				devices[i].in,
				(short)(POLLIN | (device_is_blocked(&devices[i]) ? POLLOUT : 0)),
				0};
		if (poll(fds, n, -1) < 0)
			return -errno;
		for (unsigned i = 0; i < n && r >= 0; i++) {
			if (fds[i].revents)
				r = device_serve(&devices[i]);
		}
	}
	return r;
}

static int connect_to(const char *port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return fd;
}

static void echo_tcp(int fd)
{
	uint8_t buf[4096];
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0 && send(fd, buf, (size_t)n, 0) == n)
		;
}

static void echo_tls(int fd)
{
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(context);
	uint8_t buf[4096];
	int n;

	SSL_set_fd(ssl, fd);
	SSL_set_read_ahead(ssl, 1);
	/* The certificate is not looked at: it is an echo in a bench. */
	if (SSL_connect(ssl) != 1)
		return;
	while ((n = SSL_read(ssl, buf, sizeof(buf))) > 0 && SSL_write(ssl, buf, n) == n)
		;
}

int main(int argc, char **argv)
{
	int fd, r = 0;

	if (argc == 4 && strcmp(argv[1], "seqpacket") == 0) {
		unsigned n = (unsigned)strtoul(argv[3], NULL, 10);

		r = n <= SESSIONS_MAX ? serve(argv[2], n) : -EINVAL;
	} else if (argc == 3) {
		ready();
		fd = connect_to(argv[2]);
		if (fd < 0)
			r = fd;
		else if (strcmp(argv[1], "tls") == 0)
			echo_tls(fd);
		else
			echo_tcp(fd);
	}
	if (r < 0 && r != -EPIPE)
		fprintf(stderr, "echo: %s\n", strerror(-r));
	return r < 0;
}
