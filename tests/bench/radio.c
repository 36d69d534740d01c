/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices' side of the relay's bench: plays bluetoothd with one adapter and devices that ask
 * for a connection, over GATT or, as the kernel too, over L2CAP for an agent with l2cap_preload.so.
 *
 *    radio BUS-ADDRESS DEVICES L2CAP-PATH
 *
 * Says "ready" when it owns org.bluez. The devices do what frames.h says. In C and one thread, as
 * bluetoothd: the agent asks with ReadValue after every 16 frames over GATT whether they are
 * through, and an answer that takes long would be what is measured. It is given when all that was
 * written before has been read, as an answer of the device comes after the writes.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "adapter.h"
#include "device.h"

#define CHAR_IF	      "org.bluez.GattCharacteristic1"
#define DESCRIPTOR_IF "org.bluez.GattDescriptor1"
#define CHANNEL_0     "ec4f0000-1537-443e-b05a-713051212f1c"
#define CCC	      "00002902-0000-1000-8000-00805f9b34fb"
#define MTU	      247 /* ATT */
#define SNDMTU	      245 /* of the L2CAP channel */
#define PSM_0	      0xb2
#define ADVERT_MS     50
#define PATH_BYTES    96
#define REQUEST_BYTES 19 /* bluez_l2cap.py, as the next three: */
#define REQUEST_DST   7 /* the address in it, the last pair of its text first */
#define REQUEST_PSM   14

struct peer {
	struct adapter *adapter; /* not owned */
	unsigned number;
	char path[PATH_BYTES], characteristic[PATH_BYTES], descriptor[PATH_BYTES];
	int connected;
	struct device device; /* its descriptors are owned here */
};

struct radio {
	struct adapter adapter;
	struct peer peers[SESSIONS_MAX];
	unsigned n_peers;
	int listener;
};

/* --- GATT --- */

static int on_connect(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *peer = userdata;
	sd_bus *bus = peer->adapter->bus;

	(void)error;
	peer->connected = 1;
	/* In this order: a descriptor comes after what it belongs to. */
	TRY(sd_bus_emit_interfaces_added(bus, peer->characteristic, CHAR_IF, NULL));
	TRY(sd_bus_emit_interfaces_added(bus, peer->descriptor, DESCRIPTOR_IF, NULL));
	TRY(sd_bus_emit_properties_changed(bus, peer->path, DEVICE_IF, "Connected", NULL));
	TRY(sd_bus_reply_method_return(m, NULL));
	return sd_bus_emit_properties_changed(bus, peer->path, DEVICE_IF, "ServicesResolved", NULL);
}

static int give_socket(sd_bus_message *m, int *ret_mine)
{
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	*ret_mine = ends[0];
	r = sd_bus_reply_method_return(m, "hq", ends[1], MTU);
	close(ends[1]);
	return r;
}

static int on_acquire_write(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *peer = userdata;

	(void)error;
	return give_socket(m, &peer->device.in);
}

static int on_acquire_notify(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *peer = userdata;

	(void)error;
	return give_socket(m, &peer->device.out);
}

static int on_read(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct peer *peer = userdata;
	const uint8_t value[] = {1, 0};
	sd_bus_message *reply = NULL;
	int r;

	(void)error;
	if (peer->device.in >= 0)
		device_serve(&peer->device);
	r = sd_bus_message_new_method_return(m, &reply);
	if (r >= 0)
		r = sd_bus_message_append_array(reply, 'y', value, sizeof(value));
	if (r >= 0)
		r = sd_bus_send(NULL, reply, NULL);
	sd_bus_message_unref(reply);
	return r < 0 ? r : 1;
}

static int get_property(sd_bus *bus, const char *path, const char *interface, const char *property,
			sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct peer *peer = userdata;
	uint8_t data[20] = {0x3b, 4, 0xb1, 0xec, 0x0};

	(void)bus;
	(void)path;
	(void)error;
	data[16] = (uint8_t)peer->number;
	if (strcmp(property, "ServiceData") == 0)
		return adapter_append_service_data(reply, data, sizeof(data));
	if (strcmp(property, "UUIDs") == 0)
		return sd_bus_message_append(reply, "as", 1, FD0D);
	if (strcmp(property, "UUID") == 0)
		return sd_bus_message_append(reply, "s",
					     strcmp(interface, CHAR_IF) == 0 ? CHANNEL_0 : CCC);
	if (strcmp(property, "AddressType") == 0)
		return sd_bus_message_append(reply, "s", "random");
	if (strcmp(property, "RSSI") == 0)
		return sd_bus_message_append(reply, "n", -50);
	return sd_bus_message_append(reply, "b", peer->connected);
}

#define CHANGES SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE

static const sd_bus_vtable device_vtable[] = {
	SD_BUS_VTABLE_START(SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Connect", "", "", on_connect, 0),
	SD_BUS_PROPERTY("AddressType", "s", get_property, 0, 0),
	SD_BUS_PROPERTY("UUIDs", "as", get_property, 0, 0),
	SD_BUS_PROPERTY("RSSI", "n", get_property, 0, CHANGES),
	SD_BUS_PROPERTY("ServiceData", "a{sv}", get_property, 0, CHANGES),
	SD_BUS_PROPERTY("Connected", "b", get_property, 0, CHANGES),
	SD_BUS_PROPERTY("ServicesResolved", "b", get_property, 0, CHANGES),
	SD_BUS_VTABLE_END,
};

static const sd_bus_vtable characteristic_vtable[] = {
	SD_BUS_VTABLE_START(SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("AcquireWrite", "a{sv}", "hq", on_acquire_write, 0),
	SD_BUS_METHOD("AcquireNotify", "a{sv}", "hq", on_acquire_notify, 0),
	SD_BUS_PROPERTY("UUID", "s", get_property, 0, 0),
	SD_BUS_VTABLE_END,
};

static const sd_bus_vtable descriptor_vtable[] = {
	SD_BUS_VTABLE_START(SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("ReadValue", "a{sv}", "ay", on_read, 0),
	SD_BUS_PROPERTY("UUID", "s", get_property, 0, 0),
	SD_BUS_VTABLE_END,
};

static int add_peer(struct radio *radio, unsigned number)
{
	struct peer *peer = &radio->peers[number];
	sd_bus *bus = radio->adapter.bus;

	*peer = (struct peer){.adapter = &radio->adapter, .number = number};
	device_init(&peer->device, -1, -1, true);
	snprintf(peer->path, PATH_BYTES, ADAPTER "/dev_C0_00_00_00_00_%02X", number);
	snprintf(peer->characteristic, PATH_BYTES, "%s/service0010/char0011", peer->path);
	snprintf(peer->descriptor, PATH_BYTES, "%s/desc0013", peer->characteristic);
	TRY(sd_bus_add_object_vtable(bus, NULL, peer->path, DEVICE_IF, device_vtable, peer));
	TRY(sd_bus_add_object_vtable(bus, NULL, peer->characteristic, CHAR_IF,
				     characteristic_vtable, peer));
	return sd_bus_add_object_vtable(bus, NULL, peer->descriptor, DESCRIPTOR_IF,
					descriptor_vtable, peer);
}

/* --- L2CAP --- */

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 16) < 0)
		return -errno;
	return fd;
}

static int receive_request(int fd, uint8_t request[REQUEST_BYTES], int *ret_end)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec data = {request, REQUEST_BYTES};
	struct msghdr message = {
		.msg_iov = &data,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != REQUEST_BYTES || !CMSG_FIRSTHDR(&message))
		return -EPROTO;
	memcpy(ret_end, CMSG_DATA(&control.head), sizeof(int));
	return 0;
}

/* The agent's connect() waits for room in the socket, and reads how it went from it. */
static void answer(int end, int32_t error)
{
	uint8_t status[6], dummy;
	uint16_t sndmtu = SNDMTU;

	memcpy(status, &error, sizeof(error));
	memcpy(status + sizeof(error), &sndmtu, sizeof(sndmtu));
	while (recv(end, &dummy, 1, MSG_DONTWAIT) > 0)
		;
	send(end, status, sizeof(status), MSG_NOSIGNAL);
}

/* The library makes both ends narrow. This one gets the room that GATT's and socat's have: a device
 * that is woken for every few frames would be what is measured. */
static void widen(int end)
{
	int size = 212992;

	setsockopt(end, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

static int accept_channel(struct radio *radio)
{
	uint8_t request[REQUEST_BYTES];
	int fd = accept(radio->listener, NULL, NULL), end = -1, r;
	unsigned number;

	if (fd < 0)
		return -errno;
	r = receive_request(fd, request, &end);
	close(fd);
	if (r < 0)
		return r;
	number = request[REQUEST_DST];
	if (request[REQUEST_PSM] != PSM_0 || number >= radio->n_peers) {
		answer(end, ECONNREFUSED);
		close(end);
		return 0;
	}
	widen(end);
	answer(end, 0);
	radio->peers[number].device.in = radio->peers[number].device.out = end;
	return 0;
}

/* --- All together --- */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Returns whether there is a device that still asks. */
static int advertise(struct radio *radio, bool *ret_asks)
{
	*ret_asks = false;
	for (unsigned i = 0; i < radio->n_peers; i++) {
		const struct peer *peer = &radio->peers[i];

		if (peer->connected)
			continue;
		*ret_asks = true;
		if (radio->adapter.discovering)
			TRY(sd_bus_emit_properties_changed(radio->adapter.bus, peer->path,
							   DEVICE_IF, "RSSI", "ServiceData", NULL));
	}
	return 0;
}

static int serve_peer(struct peer *peer)
{
	int r = device_serve(&peer->device);

	if (r >= 0)
		return 0;
	/* The agent is gone: it ends in a moment, and so does this. */
	peer->device.in = -1;
	return 0;
}

static int serve(struct radio *radio)
{
	struct pollfd fds[2 + 2 * SESSIONS_MAX];
	uint64_t next_ms = 0;
	bool asks = true;

	for (;;) {
		unsigned n = 2;

		TRY(adapter_process(&radio->adapter));
		if (asks && now_ms() >= next_ms) {
			TRY(advertise(radio, &asks));
			next_ms = now_ms() + ADVERT_MS;
		}
		fds[0] = (struct pollfd){sd_bus_get_fd(radio->adapter.bus), POLLIN, 0};
		fds[1] = (struct pollfd){radio->listener, POLLIN, 0};
		for (unsigned i = 0; i < radio->n_peers; i++) {
			struct device *device = &radio->peers[i].device;
			bool open = device->in >= 0 && device->out >= 0;

			fds[n++] = (struct pollfd){open ? device->in : -1, POLLIN, 0};
			fds[n++] = (struct pollfd){
				open && device_is_blocked(device) ? device->out : -1, POLLOUT, 0};
		}
		if (poll(fds, n, asks ? ADVERT_MS : -1) < 0)
			return -errno;
		if (fds[1].revents)
			TRY(accept_channel(radio));
		for (unsigned i = 0; i < radio->n_peers; i++) {
			if (fds[2 + 2 * i].revents || fds[3 + 2 * i].revents)
				TRY(serve_peer(&radio->peers[i]));
		}
	}
}

static int run(struct radio *radio, const char *address, const char *l2cap_path)
{
	TRY(adapter_start(&radio->adapter, address));
	for (unsigned i = 0; i < radio->n_peers; i++)
		TRY(add_peer(radio, i));
	TRY(radio->listener = listen_at(l2cap_path));
	TRY(sd_bus_request_name(radio->adapter.bus, "org.bluez", 0));
	puts("ready");
	fflush(stdout);
	return serve(radio);
}

int main(int argc, char **argv)
{
	struct radio radio = {0};
	int r;

	if (argc == 4)
		radio.n_peers = (unsigned)strtoul(argv[2], NULL, 10);
	if (radio.n_peers == 0 || radio.n_peers > SESSIONS_MAX) {
		fprintf(stderr, "usage: radio BUS-ADDRESS DEVICES L2CAP-PATH\n");
		return 2;
	}
	r = run(&radio, argv[1], argv[3]);
	fprintf(stderr, "radio: %s\n", strerror(-r));
	return 1;
}
