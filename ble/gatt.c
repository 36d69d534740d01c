/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/gatt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/log.h"
#include "agent/util.h"

/* bluetoothd needs the device's answer for the subscription; the link has a deadline below this. */
#define CALL_TIMEOUT_MS 20000
/* How long a device may be silent is bluetoothd's to say: it ends the connection after an ATT
 * transaction's 30 s. This is for one that does not. */
#define CONFIRM_TIMEOUT_MS  120000
#define CONFIRM_EVERY	    32 /* frames: so that a window lasts for two round trips */
#define CONFIRM_POLL_MIN_MS 1
#define CONFIRM_POLL_MAX_MS 64
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

static void close_channel(struct gatt_channel *channel)
{
	loop_fd_remove(&channel->write_watch);
	loop_fd_remove(&channel->notify_watch);
	util_closep(&channel->write_fd);
	util_closep(&channel->notify_fd);
	channel->write_fd = channel->notify_fd = -1;
}

/* --- Frames from the device --- */

static int read_frames(struct gatt_channel *channel, unsigned budget)
{
	struct gatt *gatt = channel->gatt;
	uint8_t frame[BLE_FRAME_MAX];
	size_t len;
	int r = 1;

	/* A frame may close the bearer. */
	while (r > 0 && budget-- > 0 && channel->notify_fd >= 0) {
		r = bearer_receive(channel->notify_fd, frame, &len);
		if (r > 0)
			gatt->handler.on_frame(gatt->userdata, channel->number, frame, len);
	}
	return channel->notify_fd < 0 ? 0 : r;
}

static void on_notify(void *userdata, uint32_t revents)
{
	struct gatt_channel *channel = userdata;
	int r = read_frames(channel, READ_BUDGET);

	if (channel->notify_fd < 0 || r > 0)
		return;
	if (r == -EMSGSIZE)
		fail(channel->gatt, BLE_DOWN_PEER,
		     "the device sent a frame longer than an attribute");
	else if (r < 0 || (revents & (EPOLLHUP | EPOLLERR)))
		fail(channel->gatt, BLE_DOWN_PEER, "bluetoothd closed the notifications");
}

void gatt_drain(struct gatt *gatt)
{
	for (unsigned i = 0; i < BEARER_CHANNELS; i++)
		read_frames(&gatt->channels[i], DRAIN_BUDGET);
}

/* --- Frames to the device --- */

static void go_on(struct gatt *gatt);

static void confirm_later(struct gatt *gatt)
{
	if (gatt->confirm_timer.armed)
		return;
	loop_timer_start(&gatt->confirm_timer, gatt->confirm_wait_ms);
	gatt->confirm_wait_ms = MIN(gatt->confirm_wait_ms * 2, CONFIRM_POLL_MAX_MS);
}

static void on_confirmed(void *userdata, sd_bus_message *reply)
{
	struct gatt *gatt = userdata;
	char text[BUS_ERROR_TEXT];

	if (sd_bus_message_is_method_error(reply, SD_BUS_ERROR_NO_REPLY)) {
		fail(gatt, BLE_DOWN_TIMEOUT, "the device does not confirm frames");
		return;
	}
	if (sd_bus_message_is_method_error(reply, "org.bluez.Error.InProgress")) {
		/* Somebody else reads it. */
		confirm_later(gatt);
		return;
	}
	/* That the device refuses the read is an answer as well. */
	if (sd_bus_message_is_method_error(reply, NULL))
		log_debug("ReadValue: %s", bus_error_text(reply, text));
	gatt->confirm_wait_ms = CONFIRM_POLL_MIN_MS;
	gatt->unconfirmed -= gatt->confirming;
	if (gatt->blocked && gatt->unconfirmed < GATT_WINDOW) {
		gatt->blocked = false;
		gatt->handler.on_writable(gatt->userdata);
	}
	go_on(gatt);
}

/* Frames that bluetoothd has not read yet the descriptor's read would overtake. */
static bool is_taken(const struct gatt *gatt)
{
	for (unsigned i = 0; i < BEARER_CHANNELS; i++) {
		const struct gatt_channel *channel = &gatt->channels[i];

		if (channel->write_fd >= 0 && bearer_outq(channel->write_fd) > 0)
			return false;
	}
	return true;
}

/* Asks the device, where it is time to, how far it has come. */
static void confirm(struct gatt *gatt)
{
	struct bluez *bluez = gatt->bluez;

	if (gatt->unconfirmed < (gatt->flushing ? 1 : CONFIRM_EVERY) ||
	    bus_call_pending(&gatt->confirm))
		return;
	if (!is_taken(gatt)) {
		confirm_later(gatt);
		return;
	}
	gatt->confirming = gatt->unconfirmed;
	bus_call(&bluez->bus, &gatt->confirm,
		 bluez_message(bluez, gatt->ccc, BLUEZ_DESCRIPTOR, "ReadValue", "a{sv}", 0),
		 CONFIRM_TIMEOUT_MS, on_confirmed, gatt);
}

static void go_on(struct gatt *gatt)
{
	if (gatt->flushing && gatt->unconfirmed == 0) {
		gatt->flushing = false;
		gatt->handler.on_flushed(gatt->userdata);
	} else {
		confirm(gatt);
	}
}

static void on_confirm_timer(void *userdata)
{
	go_on(userdata);
}

static void on_write_ready(void *userdata, uint32_t revents)
{
	struct gatt_channel *channel = userdata;
	struct gatt *gatt = channel->gatt;

	if (revents & (EPOLLHUP | EPOLLERR)) {
		/* The sockets go together; what the device said before must not be lost. */
		gatt_drain(gatt);
		if (channel->write_fd >= 0)
			fail(gatt, BLE_DOWN_PEER, "bluetoothd closed the writes");
		return;
	}
	loop_fd_set(&channel->write_watch, 0);
	gatt->handler.on_writable(gatt->userdata);
}

int gatt_send(struct gatt *gatt, unsigned number, const uint8_t *data, size_t len)
{
	struct gatt_channel *channel = &gatt->channels[number];
	int r;

	if (channel->write_fd < 0)
		return -EINVAL;
	/* bluetoothd takes an empty packet for the end of the socket. */
	if (len == 0 || len > channel->max_frame)
		return -EMSGSIZE;
	if (gatt->unconfirmed >= GATT_WINDOW) {
		gatt->blocked = true;
		return -EAGAIN;
	}
	r = bearer_send(channel->write_fd, data, len);
	if (r == -EAGAIN)
		loop_fd_set(&channel->write_watch, EPOLLOUT);
	if (r < 0)
		return r;
	gatt->flushing = false;
	gatt->unconfirmed++;
	confirm(gatt);
	return 0;
}

void gatt_flush(struct gatt *gatt)
{
	gatt->flushing = true;
	if (gatt->unconfirmed > 0)
		confirm(gatt);
	else
		loop_timer_start(&gatt->confirm_timer, 0);
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

static void opened(struct gatt *gatt)
{
	const struct gatt_channel *first = &gatt->channels[0], *second = &gatt->channels[1];
	bool both = second->notify_fd >= 0;

	loop_timer_stop(&gatt->second_timer);
	gatt->handler.on_open(gatt->userdata,
			      both ? MIN(first->max_frame, second->max_frame) : first->max_frame,
			      both ? 2 : 1);
}

static void acquire_next(struct gatt *gatt);

/* Channel 1 is a bonus, channel 0 is not. */
static void not_acquired(struct gatt *gatt, struct gatt_channel *channel, enum ble_down why,
			 const char *text)
{
	if (channel->number == 0) {
		fail(gatt, why, text);
		return;
	}
	log_debug("channel 1: %s", text);
	close_channel(channel);
	channel->path[0] = '\0';
	acquire_next(gatt);
}

static int take_write(struct gatt_channel *channel, sd_bus_message *reply)
{
	uint16_t mtu;
	int r = take_socket(reply, &channel->write_fd, &mtu);

	if (r < 0)
		return r;
	if (mtu <= ATT_WRITE_HEAD)
		return -EBADMSG;
	channel->max_frame = MIN((size_t)mtu - ATT_WRITE_HEAD, (size_t)BLE_FRAME_MAX);
	return 0;
}

static int take_notify(struct gatt_channel *channel, sd_bus_message *reply)
{
	struct loop *loop = channel->gatt->bluez->loop;
	uint16_t mtu;
	int r = take_socket(reply, &channel->notify_fd, &mtu);

	if (r >= 0)
		r = loop_fd_add(loop, &channel->write_watch, channel->write_fd, 0, on_write_ready,
				channel);
	if (r >= 0)
		r = loop_fd_add(loop, &channel->notify_watch, channel->notify_fd, EPOLLIN,
				on_notify, channel);
	return r;
}

static void on_acquired(struct gatt_channel *channel, sd_bus_message *reply,
			int (*take)(struct gatt_channel *channel, sd_bus_message *reply))
{
	struct gatt *gatt = channel->gatt;
	const char *step = TAKE_PTR(gatt->step);
	char error[BUS_ERROR_TEXT], text[BUS_ERROR_TEXT + 32];
	int r;

	if (sd_bus_message_is_method_error(reply, NULL)) {
		snprintf(text, sizeof(text), "%s: %s", step, bus_error_text(reply, error));
		not_acquired(gatt, channel,
			     is_not_served(reply) ? BLE_DOWN_NOT_SERVED : BLE_DOWN_CONNECT, text);
		return;
	}
	r = take(channel, reply);
	if (r < 0) {
		snprintf(text, sizeof(text), "%s: %s", step, strerror(-r));
		not_acquired(gatt, channel, BLE_DOWN_CONNECT, text);
		return;
	}
	acquire_next(gatt);
}

static void on_write_acquired(void *userdata, sd_bus_message *reply)
{
	on_acquired(userdata, reply, take_write);
}

static void on_notify_acquired(void *userdata, sd_bus_message *reply)
{
	on_acquired(userdata, reply, take_notify);
}

static void acquire(struct gatt_channel *channel, const char *member,
		    void (*on_reply)(void *userdata, sd_bus_message *reply))
{
	struct gatt *gatt = channel->gatt;

	gatt->step = member;
	bus_call(
		&gatt->bluez->bus, &gatt->call,
		bluez_message(gatt->bluez, channel->path, BLUEZ_CHARACTERISTIC, member, "a{sv}", 0),
		CALL_TIMEOUT_MS, on_reply, channel);
}

/* All writes first, for the device speaks as soon as it is subscribed to, and channel 0 before
 * channel 1, for that one opens the session. */
static void acquire_next(struct gatt *gatt)
{
	for (unsigned i = 0; i < BEARER_CHANNELS; i++) {
		struct gatt_channel *channel = &gatt->channels[i];

		if (channel->path[0] != '\0' && channel->write_fd < 0) {
			acquire(channel, "AcquireWrite", on_write_acquired);
			return;
		}
	}
	for (unsigned i = 0; i < BEARER_CHANNELS; i++) {
		struct gatt_channel *channel = &gatt->channels[i];

		if (channel->path[0] == '\0' || channel->notify_fd >= 0)
			continue;
		if (i > 0)
			loop_timer_start(&gatt->second_timer, BEARER_SECOND_MS);
		acquire(channel, "AcquireNotify", on_notify_acquired);
		return;
	}
	opened(gatt);
}

static void on_second_timer(void *userdata)
{
	struct gatt *gatt = userdata;

	bus_call_cancel(&gatt->call);
	gatt->step = NULL;
	not_acquired(gatt, &gatt->channels[1], BLE_DOWN_TIMEOUT, "AcquireNotify did not answer");
}

void gatt_init(struct gatt *gatt, struct bluez *bluez, const struct bearer_handler *handler,
	       void *userdata)
{
	*gatt = (struct gatt){
		.bluez = bluez,
		.handler = *handler,
		.userdata = userdata,
		.confirm_wait_ms = CONFIRM_POLL_MIN_MS,
	};
	for (unsigned i = 0; i < BEARER_CHANNELS; i++)
		gatt->channels[i] = (struct gatt_channel){
			.gatt = gatt, .number = i, .write_fd = -1, .notify_fd = -1};
	loop_timer_init(bluez->loop, &gatt->second_timer, on_second_timer, gatt);
	loop_timer_init(bluez->loop, &gatt->confirm_timer, on_confirm_timer, gatt);
}

void gatt_open(struct gatt *gatt, const struct channel *first, const struct channel *second)
{
	memcpy(gatt->channels[0].path, first->path, sizeof(first->path));
	memcpy(gatt->ccc, first->ccc, sizeof(first->ccc));
	if (second)
		memcpy(gatt->channels[1].path, second->path, sizeof(second->path));
	acquire_next(gatt);
}

const char *gatt_step(const struct gatt *gatt)
{
	return gatt->step;
}

void gatt_close(struct gatt *gatt)
{
	bus_call_cancel(&gatt->call);
	bus_call_cancel(&gatt->confirm);
	loop_timer_stop(&gatt->second_timer);
	loop_timer_stop(&gatt->confirm_timer);
	gatt->step = NULL;
	gatt->flushing = gatt->blocked = false;
	for (unsigned i = 0; i < BEARER_CHANNELS; i++)
		close_channel(&gatt->channels[i]);
}
