/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/l2cap.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/log.h"
#include "agent/util.h"

/* Of the kernel's include/net/bluetooth, which is in no header of the C library or the kernel's. */
#define PROTOCOL_L2CAP	   0
#define LEVEL_BLUETOOTH	   274
#define OPTION_SEND_MTU	   12
#define OPTION_RECEIVE_MTU 13
#define ADDRESS_LE_PUBLIC  1
#define ADDRESS_LE_RANDOM  2

struct sockaddr_l2cap {
	sa_family_t family;
	uint16_t psm; /* little endian */
	uint8_t address[6]; /* the other way round than written */
	uint16_t cid;
	uint8_t address_type;
};

static const uint16_t psms[BEARER_CHANNELS] = {0xb2, 0xb3};

#define SEND_BUFFER 16384 /* some dozens of frames: the cloud is to feel a slow radio */
#define READ_BUDGET 16 /* frames of one channel in one turn; the rest wakes the next */
/* More than the socket of an ended connection can hold. */
#define DRAIN_BUDGET  4096
#define FLUSH_POLL_MS 20
#define LINGER_MS     200 /* for what the controller was given last to get through the air */

static void fail(struct l2cap *l2cap, enum ble_down why, const char *text)
{
	l2cap->handler.on_fail(l2cap->userdata, why, text);
}

static void close_channel(struct l2cap_channel *channel)
{
	loop_fd_remove(&channel->watch);
	util_closep(&channel->fd);
	channel->fd = -1;
	channel->blocked = false;
}

/* --- Frames --- */

static void watch(struct l2cap_channel *channel)
{
	loop_fd_set(&channel->watch,
		    (channel->l2cap->held ? 0 : EPOLLIN) | (channel->blocked ? EPOLLOUT : 0));
}

/* Returns 1 where there may be more, 0 where not, -errno where never again. */
static int read_frames(struct l2cap_channel *channel, unsigned budget)
{
	struct l2cap *l2cap = channel->l2cap;
	uint8_t frame[BLE_FRAME_MAX];
	size_t len;
	int r = 1;

	/* A frame may hold or close the bearer. */
	while (r > 0 && budget-- > 0 && channel->fd >= 0 && !l2cap->held) {
		r = bearer_receive(channel->fd, frame, &len);
		if (r > 0)
			l2cap->handler.on_frame(l2cap->userdata, channel->number, frame, len);
	}
	return channel->fd < 0 ? 0 : r;
}

static void ended(struct l2cap_channel *channel, int error)
{
	char text[96];

	if (error == -EMSGSIZE)
		snprintf(text, sizeof(text), "the device sent a frame of more than %d bytes",
			 BLE_FRAME_MAX);
	else if (error == -EPIPE || error == 0)
		snprintf(text, sizeof(text), "the device closed channel %u", channel->number);
	else
		snprintf(text, sizeof(text), "channel %u: %s", channel->number, strerror(-error));
	fail(channel->l2cap, BLE_DOWN_PEER, text);
}

int l2cap_send(struct l2cap *l2cap, unsigned number, const uint8_t *data, size_t len)
{
	struct l2cap_channel *channel = &l2cap->channels[number];
	int r;

	if (channel->fd < 0)
		return -EINVAL;
	if (len == 0 || len > channel->max_frame)
		return -EMSGSIZE;
	r = bearer_send(channel->fd, data, len);
	if (r == 0)
		loop_timer_stop(&l2cap->flush_timer);
	if (r == -EAGAIN) {
		channel->blocked = true;
		watch(channel);
	}
	return r;
}

void l2cap_hold(struct l2cap *l2cap, bool hold)
{
	if (l2cap->held == hold || l2cap->draining)
		return;
	l2cap->held = hold;
	for (unsigned i = 0; i < BEARER_CHANNELS; i++) {
		if (l2cap->open && l2cap->channels[i].fd >= 0)
			watch(&l2cap->channels[i]);
	}
}

void l2cap_drain(struct l2cap *l2cap)
{
	l2cap->draining = true;
	l2cap->held = false;
	for (unsigned i = 0; i < BEARER_CHANNELS; i++)
		read_frames(&l2cap->channels[i], DRAIN_BUDGET);
}

static bool is_idle(const struct l2cap *l2cap)
{
	for (unsigned i = 0; i < BEARER_CHANNELS; i++) {
		const struct l2cap_channel *channel = &l2cap->channels[i];

		if (channel->fd >= 0 && bearer_outq(channel->fd) != channel->idle_outq)
			return false;
	}
	return true;
}

/* The kernel has no event for an empty socket. */
static void on_flush_timer(void *userdata)
{
	struct l2cap *l2cap = userdata;

	if (l2cap->lingering) {
		l2cap->handler.on_flushed(l2cap->userdata);
		return;
	}
	l2cap->lingering = is_idle(l2cap);
	loop_timer_start(&l2cap->flush_timer, l2cap->lingering ? LINGER_MS : FLUSH_POLL_MS);
}

void l2cap_flush(struct l2cap *l2cap)
{
	l2cap->lingering = false;
	loop_timer_start(&l2cap->flush_timer, 0);
}

/* --- Opening --- */

static void set_address(struct sockaddr_l2cap *ret, const struct ble_address *address, uint16_t psm)
{
	*ret = (struct sockaddr_l2cap){
		.family = AF_BLUETOOTH,
		.psm = htole16(psm),
		.address_type = address->random ? ADDRESS_LE_RANDOM : ADDRESS_LE_PUBLIC,
	};
	for (unsigned i = 0; i < sizeof(ret->address); i++)
		ret->address[i] = address->bytes[sizeof(ret->address) - 1 - i];
}

static void all_open(struct l2cap *l2cap)
{
	struct l2cap_channel *first = &l2cap->channels[0], *second = &l2cap->channels[1];
	bool both = second->fd >= 0;

	loop_timer_stop(&l2cap->timer);
	l2cap->open = true;
	watch(first);
	watch(second);
	l2cap->handler.on_open(l2cap->userdata,
			       both ? MIN(first->max_frame, second->max_frame) : first->max_frame,
			       both ? 2 : 1);
}

static void not_open(struct l2cap_channel *channel, int error)
{
	char text[96];

	close_channel(channel);
	snprintf(text, sizeof(text), "L2CAP PSM 0x%X: %s", psms[channel->number], strerror(-error));
	if (channel->number == 0) {
		fail(channel->l2cap, BLE_DOWN_NOT_SERVED, text);
		return;
	}
	log_debug("channel 1: %s", text);
	all_open(channel->l2cap);
}

static int start_channel(struct l2cap_channel *channel);

static void channel_open(struct l2cap_channel *channel)
{
	struct l2cap *l2cap = channel->l2cap;
	uint16_t mtu = 0;
	socklen_t len = sizeof(mtu);
	int r;

	if (getsockopt(channel->fd, LEVEL_BLUETOOTH, OPTION_SEND_MTU, &mtu, &len) < 0 || mtu == 0) {
		not_open(channel, -EPROTO);
		return;
	}
	channel->max_frame = MIN(mtu, BLE_FRAME_MAX);
	channel->idle_outq = bearer_outq(channel->fd);
	/* Nothing is read before on_open: the kernel keeps what comes. */
	loop_fd_set(&channel->watch, 0);
	if (channel->number > 0) {
		all_open(l2cap);
		return;
	}
	loop_timer_start(&l2cap->timer, BEARER_SECOND_MS);
	r = start_channel(&l2cap->channels[1]);
	if (r < 0)
		not_open(&l2cap->channels[1], r);
}

static void connecting(struct l2cap_channel *channel, uint32_t revents)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (channel->number == 0 && channel->l2cap->channels[1].fd >= 0) {
		/* It is open, and nothing but its end is watched while channel 1 is opened. */
		ended(channel, 0);
		return;
	}
	if (getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error == 0 && (revents & (EPOLLHUP | EPOLLERR)))
		error = ECONNRESET;
	if (error != 0)
		not_open(channel, -error);
	else
		channel_open(channel);
}

static void on_ready(void *userdata, uint32_t revents)
{
	struct l2cap_channel *channel = userdata;
	struct l2cap *l2cap = channel->l2cap;
	int r = 0;

	if (!l2cap->open) {
		connecting(channel, revents);
		return;
	}
	if (revents & EPOLLIN)
		r = read_frames(channel, READ_BUDGET);
	if (channel->fd >= 0 && (r < 0 || (revents & (EPOLLHUP | EPOLLERR)))) {
		l2cap_drain(l2cap);
		if (channel->fd >= 0)
			ended(channel, r);
		return;
	}
	if (channel->fd < 0 || !(revents & EPOLLOUT))
		return;
	channel->blocked = false;
	watch(channel);
	l2cap->handler.on_writable(l2cap->userdata);
}

static int connect_channel(struct l2cap_channel *channel)
{
	const struct l2cap *l2cap = channel->l2cap;
	const uint16_t receive_mtu = BLE_FRAME_MAX;
	const int buffer = SEND_BUFFER;
	struct sockaddr_l2cap local, peer;

	/* To the adapter's address: which one to connect with is not left to the kernel. */
	set_address(&local, &l2cap->local, 0);
	set_address(&peer, &l2cap->peer, psms[channel->number]);
	if (bind(channel->fd, (struct sockaddr *)&local, sizeof(local)) < 0 ||
	    setsockopt(channel->fd, LEVEL_BLUETOOTH, OPTION_RECEIVE_MTU, &receive_mtu,
		       sizeof(receive_mtu)) < 0 ||
	    setsockopt(channel->fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) < 0)
		return -errno;
	if (connect(channel->fd, (struct sockaddr *)&peer, sizeof(peer)) < 0 &&
	    errno != EINPROGRESS)
		return -errno;
	return 0;
}

static int start_channel(struct l2cap_channel *channel)
{
	int r;

	channel->fd =
		socket(AF_BLUETOOTH, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, PROTOCOL_L2CAP);
	if (channel->fd < 0)
		return -errno;
	r = connect_channel(channel);
	if (r < 0)
		return r;
	return loop_fd_add(channel->l2cap->loop, &channel->watch, channel->fd, EPOLLOUT, on_ready,
			   channel);
}

static void on_timeout(void *userdata)
{
	struct l2cap *l2cap = userdata;
	int r;

	if (l2cap->channels[0].fd >= 0) {
		not_open(&l2cap->channels[1], -ETIMEDOUT);
		return;
	}
	r = start_channel(&l2cap->channels[0]);
	if (r < 0)
		not_open(&l2cap->channels[0], r);
}

void l2cap_init(struct l2cap *l2cap, struct loop *loop, const struct bearer_handler *handler,
		void *userdata)
{
	*l2cap = (struct l2cap){.loop = loop, .handler = *handler, .userdata = userdata};
	for (unsigned i = 0; i < BEARER_CHANNELS; i++)
		l2cap->channels[i] = (struct l2cap_channel){.l2cap = l2cap, .number = i, .fd = -1};
	loop_timer_init(loop, &l2cap->timer, on_timeout, l2cap);
	loop_timer_init(loop, &l2cap->flush_timer, on_flush_timer, l2cap);
}

void l2cap_open(struct l2cap *l2cap, const struct ble_address *local,
		const struct ble_address *peer)
{
	l2cap->local = *local;
	l2cap->peer = *peer;
	/* From a clean stack, for it may fail at once. */
	loop_timer_start(&l2cap->timer, 0);
}

void l2cap_close(struct l2cap *l2cap)
{
	loop_timer_stop(&l2cap->timer);
	loop_timer_stop(&l2cap->flush_timer);
	for (unsigned i = 0; i < BEARER_CHANNELS; i++)
		close_channel(&l2cap->channels[i]);
	l2cap->open = l2cap->held = l2cap->draining = false;
}
