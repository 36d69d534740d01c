/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/bearer.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* An empty packet and the end both read as 0. */
static bool is_hung_up(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static ssize_t receive(int fd, uint8_t *buf)
{
	ssize_t n;

	do
		n = recv(fd, buf, BLE_FRAME_MAX, MSG_TRUNC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n;
}

int bearer_receive(int fd, uint8_t *buf, size_t *ret_len)
{
	ssize_t n = receive(fd, buf);
	int end = n < 0 ? errno : EPIPE;

	if (n < 0 && end == EAGAIN)
		return 0;
	/* The kernel tells the end, as an error or as 0, before what it received until then. */
	if (n < 0 || (n == 0 && is_hung_up(fd))) {
		n = receive(fd, buf);
		if (n <= 0)
			return -end;
	}
	if (n > BLE_FRAME_MAX)
		return -EMSGSIZE;
	*ret_len = (size_t)n;
	return 1;
}

int bearer_send(int fd, const uint8_t *data, size_t len)
{
	ssize_t n;

	do
		n = send(fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	return errno == EAGAIN || errno == ENOBUFS ? -EAGAIN : -ENOTCONN;
}

int bearer_outq(int fd)
{
	int amount = 0;

	return ioctl(fd, TIOCOUTQ, &amount) < 0 ? 0 : amount;
}
