/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/gatt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/util.h"

/* bluetoothd needs the device's answer for the subscription; the link has a deadline below this. */
#define CALL_TIMEOUT_MS 20000
/* Notifications read in one turn. The rest wakes the next one, before bluetoothd's socket, which
 * loses what it has no room for, is full. */
#define READ_BUDGET 64
/* More than the socket of an ended connection can hold. */
#define DRAIN_BUDGET   4096
#define ATT_WRITE_HEAD 3 /* opcode and handle, in the MTU */

static void fail(struct gatt *gatt, enum ble_down why, const char *text)
{
	gatt->handler.on_fail(gatt->userdata, why, text);
}

/* --- Frames from the device --- */

/* An empty notification and the end both read as 0. */
static bool is_hung_up(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLRDHUP};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

/* Returns 1 for a frame delivered, 0 where there is none now, or -errno where there won't be. */
static int read_frame(struct gatt *gatt)
{
	uint8_t frame[BLE_FRAME_MAX];
	ssize_t n = recv(gatt->notify_fd, frame, sizeof(frame), MSG_TRUNC | MSG_DONTWAIT);

	if (n < 0 && errno == EINTR)
		return 1;
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	if (n == 0 && is_hung_up(gatt->notify_fd))
		return -EPIPE;
	if ((size_t)n > sizeof(frame))
		return -EMSGSIZE;
	gatt->handler.on_frame(gatt->userdata, 0, frame, (size_t)n);
	return 1;
}

static int read_frames(struct gatt *gatt, unsigned budget)
{
	int r = 1;

	/* A frame may close the bearer. */
	while (r > 0 && budget-- > 0 && gatt->notify_fd >= 0)
		r = read_frame(gatt);
	return gatt->notify_fd < 0 ? 0 : r;
}

static void on_notify(void *userdata, uint32_t revents)
{
	struct gatt *gatt = userdata;
	int r = read_frames(gatt, READ_BUDGET);

	if (gatt->notify_fd < 0 || r > 0)
		return;
	if (r == -EMSGSIZE)
		fail(gatt, BLE_DOWN_PEER, "the device sent a frame longer than an attribute");
	else if (r < 0 || (revents & (EPOLLHUP | EPOLLERR)))
		fail(gatt, BLE_DOWN_PEER, "bluetoothd closed the notifications");
}

void gatt_drain(struct gatt *gatt)
{
	read_frames(gatt, DRAIN_BUDGET);
}

/* --- Frames to the device --- */

static void on_write_ready(void *userdata, uint32_t revents)
{
	struct gatt *gatt = userdata;

	if (revents & (EPOLLHUP | EPOLLERR)) {
		/* Both sockets go together; what the device said before must not be lost. */
		gatt_drain(gatt);
		if (gatt->write_fd >= 0)
			fail(gatt, BLE_DOWN_PEER, "bluetoothd closed the writes");
		return;
	}
	loop_fd_set(&gatt->write_watch, 0);
	gatt->handler.on_writable(gatt->userdata);
}

int gatt_send(struct gatt *gatt, const uint8_t *data, size_t len)
{
	ssize_t n;

	if (gatt->write_fd < 0)
		return -ENOTCONN;
	/* bluetoothd takes an empty packet for the end of the socket. */
	if (len == 0 || len > gatt->max_frame)
		return -EMSGSIZE;
	do
		n = send(gatt->write_fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	if (errno == EAGAIN || errno == ENOBUFS) {
		loop_fd_set(&gatt->write_watch, EPOLLOUT);
		return -EAGAIN;
	}
	/* The watch tells the end, from a stack that may take the link down. */
	return -ENOTCONN;
}

/* --- Opening --- */

/* Takes the descriptor, which is the message's, and the MTU out of a reply of Acquire*. */
static int take_socket(sd_bus_message *reply, int *ret_fd, uint16_t *ret_mtu)
{
	_cleanup_close_ int fd = -1;
	int theirs, flags;
	int r = sd_bus_message_read(reply, "hq", &theirs, ret_mtu);

	if (r < 0)
		return r;
	fd = fcntl(theirs, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* Whether the error says that this is no characteristic of ours, rather than no connection. */
static bool is_not_served(sd_bus_message *reply)
{
	static const char *const names[] = {
		"org.bluez.Error.NotSupported",
		"org.freedesktop.DBus.Error.UnknownObject",
		"org.freedesktop.DBus.Error.UnknownMethod",
		"org.freedesktop.DBus.Error.UnknownInterface",
	};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (sd_bus_message_is_method_error(reply, names[i]))
			return true;
	}
	return false;
}

/* Returns whether there is a descriptor in *ret_fd; where not, on_fail was called. */
static bool acquired(struct gatt *gatt, sd_bus_message *reply, int *ret_fd, uint16_t *ret_mtu)
{
	const char *step = TAKE_PTR(gatt->step);
	char error[BUS_ERROR_TEXT], text[BUS_ERROR_TEXT + 32];
	int r;

	if (sd_bus_message_is_method_error(reply, NULL)) {
		snprintf(text, sizeof(text), "%s: %s", step, bus_error_text(reply, error));
		fail(gatt, is_not_served(reply) ? BLE_DOWN_NOT_SERVED : BLE_DOWN_CONNECT, text);
		return false;
	}
	r = take_socket(reply, ret_fd, ret_mtu);
	if (r < 0) {
		snprintf(text, sizeof(text), "%s: %s", step, strerror(-r));
		fail(gatt, BLE_DOWN_CONNECT, text);
		return false;
	}
	return true;
}

static void acquire(struct gatt *gatt, const char *member,
		    void (*on_reply)(void *userdata, sd_bus_message *reply))
{
	gatt->step = member;
	bus_call(&gatt->bluez->bus, &gatt->call,
		 bluez_message(gatt->bluez, gatt->path, BLUEZ_CHARACTERISTIC, member, "a{sv}", 0),
		 CALL_TIMEOUT_MS, on_reply, gatt);
}

static void on_notify_acquired(void *userdata, sd_bus_message *reply)
{
	struct gatt *gatt = userdata;
	struct loop *loop = gatt->bluez->loop;
	uint16_t mtu;
	int r;

	if (!acquired(gatt, reply, &gatt->notify_fd, &mtu))
		return;
	r = loop_fd_add(loop, &gatt->write_watch, gatt->write_fd, 0, on_write_ready, gatt);
	if (r >= 0)
		r = loop_fd_add(loop, &gatt->notify_watch, gatt->notify_fd, EPOLLIN, on_notify,
				gatt);
	if (r < 0)
		fail(gatt, BLE_DOWN_CONNECT, strerror(-r));
	else
		gatt->handler.on_open(gatt->userdata, gatt->max_frame);
}

static void on_write_acquired(void *userdata, sd_bus_message *reply)
{
	struct gatt *gatt = userdata;
	uint16_t mtu;

	if (!acquired(gatt, reply, &gatt->write_fd, &mtu))
		return;
	if (mtu <= ATT_WRITE_HEAD) {
		fail(gatt, BLE_DOWN_CONNECT, "AcquireWrite: no usable MTU");
		return;
	}
	gatt->max_frame = MIN((size_t)mtu - ATT_WRITE_HEAD, (size_t)BLE_FRAME_MAX);
	/* Last, for the device speaks as soon as it is subscribed to. */
	acquire(gatt, "AcquireNotify", on_notify_acquired);
}

void gatt_init(struct gatt *gatt, struct bluez *bluez, const struct bearer_handler *handler,
	       void *userdata)
{
	*gatt = (struct gatt){
		.bluez = bluez,
		.handler = *handler,
		.userdata = userdata,
		.write_fd = -1,
		.notify_fd = -1,
	};
}

void gatt_open(struct gatt *gatt, const char *path)
{
	snprintf(gatt->path, sizeof(gatt->path), "%s", path);
	acquire(gatt, "AcquireWrite", on_write_acquired);
}

const char *gatt_step(const struct gatt *gatt)
{
	return gatt->step;
}

void gatt_close(struct gatt *gatt)
{
	bus_call_cancel(&gatt->call);
	gatt->step = NULL;
	loop_fd_remove(&gatt->write_watch);
	loop_fd_remove(&gatt->notify_watch);
	util_closep(&gatt->write_fd);
	util_closep(&gatt->notify_fd);
	gatt->write_fd = gatt->notify_fd = -1;
}
