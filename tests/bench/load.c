/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The load of the bench: plays bluetoothd with one adapter and many devices around it, and sends
 * their adverts one by one at a fixed total rate.
 *
 *    load BUS-ADDRESS DEVICES RATE COUNT
 *
 * Says "ready" when it owns org.bluez. Each line on its standard input makes it send COUNT adverts
 * at RATE a second: the first of a device as InterfacesAdded, the others as PropertiesChanged with
 * another RSSI, every 20th with ServiceData too. "sent COUNT MILLISECONDS" follows when all are on
 * the bus. It ends with its standard input.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "adapter.h"

#define WITH_DATA    20 /* one in so many */
#define NS_PER_S     1000000000u
#define DEVICE_PATH  64
#define DEVICES_MAX  65536
#define ADVERT_BYTES 20

struct load {
	struct adapter adapter;
	unsigned n_devices, rate;
	uint64_t count; /* adverts for each line of input */
	uint64_t sent; /* of all */
};

/* --- Adverts --- */

static void device_path(unsigned device, char ret[DEVICE_PATH])
{
	snprintf(ret, DEVICE_PATH, ADAPTER "/dev_C0_00_00_00_%02X_%02X", device >> 8 & 0xff,
		 device & 0xff);
}

/* A dictionary entry with the service data, which asks for nothing. */
static int append_service_data(sd_bus_message *m, unsigned device)
{
	uint8_t data[ADVERT_BYTES] = {0x3a, 4, 0xb1, 0xec, 0x0};

	data[16] = (uint8_t)(device >> 8);
	data[17] = (uint8_t)device;
	TRY(sd_bus_message_open_container(m, 'e', "sv"));
	TRY(sd_bus_message_append(m, "s", "ServiceData"));
	TRY(sd_bus_message_open_container(m, 'v', "a{sv}"));
	TRY(adapter_append_service_data(m, data, sizeof(data)));
	TRY(sd_bus_message_close_container(m));
	return sd_bus_message_close_container(m);
}

static int append_device(sd_bus_message *m, unsigned device, int16_t rssi)
{
	char path[DEVICE_PATH], address[18];

	device_path(device, path);
	snprintf(address, sizeof(address), "C0:00:00:00:%02X:%02X", device >> 8 & 0xff,
		 device & 0xff);
	TRY(sd_bus_message_append(m, "o", path));
	TRY(sd_bus_message_open_container(m, 'a', "{sa{sv}}"));
	TRY(sd_bus_message_append(m, "{sa{sv}}", "org.freedesktop.DBus.Introspectable", 0));
	TRY(sd_bus_message_open_container(m, 'e', "sa{sv}"));
	TRY(sd_bus_message_append(m, "s", DEVICE_IF));
	TRY(sd_bus_message_open_container(m, 'a', "{sv}"));
	TRY(sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}{sv}{sv}", "Address", "s", address,
				  "AddressType", "s", "random", "Alias", "s", address, "Paired",
				  "b", 0, "Trusted", "b", 0, "Blocked", "b", 0, "LegacyPairing",
				  "b", 0));
	TRY(sd_bus_message_append(m, "{sv}{sv}{sv}{sv}{sv}", "RSSI", "n", rssi, "Connected", "b", 0,
				  "UUIDs", "as", 1, FD0D, "Adapter", "o", ADAPTER,
				  "ServicesResolved", "b", 0));
	TRY(append_service_data(m, device));
	TRY(sd_bus_message_close_container(m));
	TRY(sd_bus_message_close_container(m));
	TRY(sd_bus_message_append(m, "{sa{sv}}", PROPERTIES, 0));
	return sd_bus_message_close_container(m);
}

static int append_change(sd_bus_message *m, unsigned device, int16_t rssi, bool with_data)
{
	TRY(sd_bus_message_append(m, "s", DEVICE_IF));
	TRY(sd_bus_message_open_container(m, 'a', "{sv}"));
	TRY(sd_bus_message_append(m, "{sv}", "RSSI", "n", rssi));
	if (with_data)
		TRY(append_service_data(m, device));
	TRY(sd_bus_message_close_container(m));
	return sd_bus_message_append(m, "as", 0);
}

static int send_advert(struct load *load)
{
	unsigned device = (unsigned)(load->sent % load->n_devices);
	uint64_t turn = load->sent / load->n_devices; /* how often this device was heard before */
	int16_t rssi = (int16_t)(-40 - (int)((turn + device) % 50));
	char path[DEVICE_PATH];
	sd_bus_message *m = NULL;
	int r;

	device_path(device, path);
	if (turn == 0)
		r = sd_bus_message_new_signal(load->adapter.bus, &m, "/",
					      "org.freedesktop.DBus.ObjectManager",
					      "InterfacesAdded");
	else
		r = sd_bus_message_new_signal(load->adapter.bus, &m, path, PROPERTIES,
					      "PropertiesChanged");
	if (r >= 0)
		r = turn == 0 ? append_device(m, device, rssi)
			      : append_change(m, device, rssi, (turn + device) % WITH_DATA == 0);
	if (r >= 0)
		r = sd_bus_send(load->adapter.bus, m, NULL);
	sd_bus_message_unref(m);
	load->sent++;
	return r < 0 ? r : 0;
}

/* --- Time --- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int send_all(struct load *load)
{
	uint64_t began_ns = now_ns(), n = 0;

	while (n < load->count) {
		uint64_t due_ns = began_ns + n * NS_PER_S / load->rate, at_ns = now_ns();

		if (at_ns >= due_ns) {
			TRY(send_advert(load));
			n++;
			continue;
		}
		TRY(adapter_process(&load->adapter));
		nanosleep(&(struct timespec){.tv_nsec = (long)(due_ns - at_ns) % NS_PER_S}, NULL);
	}
	TRY(sd_bus_flush(load->adapter.bus));
	printf("sent %llu %llu\n", (unsigned long long)load->count,
	       (unsigned long long)(now_ns() - began_ns) / 1000000);
	return fflush(stdout) == 0 ? 0 : -errno;
}

/* Serves until its standard input ends. */
static int serve(struct load *load)
{
	char line[16];

	for (;;) {
		struct pollfd fds[] = {
			{.fd = sd_bus_get_fd(load->adapter.bus), .events = POLLIN},
			{.fd = STDIN_FILENO, .events = POLLIN},
		};

		TRY(adapter_process(&load->adapter));
		if (poll(fds, 2, -1) < 0)
			return -errno;
		if (!fds[1].revents)
			continue;
		if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
			return 0;
		TRY(send_all(load));
	}
}

static int run(const char *address, struct load *load)
{
	TRY(adapter_start(&load->adapter, address));
	TRY(sd_bus_request_name(load->adapter.bus, "org.bluez", 0));
	puts("ready");
	fflush(stdout);
	return serve(load);
}

int main(int argc, char **argv)
{
	struct load load = {0};
	int r;

	if (argc == 5) {
		load.n_devices = (unsigned)strtoul(argv[2], NULL, 10);
		load.rate = (unsigned)strtoul(argv[3], NULL, 10);
		load.count = strtoull(argv[4], NULL, 10);
	}
	if (load.n_devices == 0 || load.n_devices > DEVICES_MAX || load.rate == 0) {
		fprintf(stderr, "usage: load BUS-ADDRESS DEVICES RATE COUNT\n");
		return 2;
	}
	r = run(argv[1], &load);
	sd_bus_unref(load.adapter.bus);
	if (r < 0)
		fprintf(stderr, "load: %s\n", strerror(-r));
	return r < 0;
}
