/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The floor of the bench: the least that a client of BlueZ can do with sd-bus. Two match rules,
 * RSSI and ServiceData are read, adverts are counted, nothing else.
 *
 *    floor BUS-ADDRESS FILE
 *
 * Says "ready" when it is subscribed. The count is in FILE, a uint64_t, while it runs.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <systemd/sd-bus.h>

#define MATCH "type='signal',sender='org.bluez',"

struct floor {
	volatile uint64_t *count; /* shared with who looks */
	unsigned long sum; /* of what was read, so that it is read */
	bool rssi;
};

static int read_service_data(struct floor *f, sd_bus_message *m)
{
	const char *uuid;
	const void *data;
	size_t len;
	int r = sd_bus_message_enter_container(m, 'v', "a{sv}");

	if (r >= 0)
		r = sd_bus_message_enter_container(m, 'a', "{sv}");
	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		r = sd_bus_message_read_basic(m, 's', &uuid);
		if (r >= 0)
			r = sd_bus_message_enter_container(m, 'v', "ay");
		if (r >= 0)
			r = sd_bus_message_read_array(m, 'y', &data, &len);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
		f->sum += len ? *(const uint8_t *)data : 0u;
		r = sd_bus_message_exit_container(m);
	}
	if (r >= 0)
		r = sd_bus_message_exit_container(m);
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_prop(struct floor *f, sd_bus_message *m)
{
	const char *key;
	int16_t rssi;
	int r = sd_bus_message_read_basic(m, 's', &key);

	if (r < 0)
		return r;
	if (strcmp(key, "ServiceData") == 0)
		return read_service_data(f, m);
	if (strcmp(key, "RSSI") != 0)
		return sd_bus_message_skip(m, "v");
	r = sd_bus_message_read(m, "v", "n", &rssi);
	f->rssi = true;
	f->sum += (uint16_t)rssi;
	return r;
}

/* An a{sv}. */
static int read_props(struct floor *f, sd_bus_message *m)
{
	int r = sd_bus_message_enter_container(m, 'a', "{sv}");

	f->rssi = false;
	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
		r = read_prop(f, m);
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	if (f->rssi)
		++*f->count;
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)error;
	if (sd_bus_message_skip(m, "s") >= 0)
		read_props(userdata, m);
	return 0;
}

static int on_added(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const char *interface;
	int r = sd_bus_message_skip(m, "o");

	(void)error;
	if (r >= 0)
		r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
	while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
		r = sd_bus_message_read_basic(m, 's', &interface);
		if (r >= 0 && strcmp(interface, "org.bluez.Device1") == 0)
			r = read_props(userdata, m);
		else if (r >= 0)
			r = sd_bus_message_skip(m, "a{sv}");
		if (r >= 0)
			r = sd_bus_message_exit_container(m);
	}
	return 0;
}

static int subscribe(sd_bus *bus, struct floor *f)
{
	int r = sd_bus_add_match(bus, NULL,
				 MATCH "interface='org.freedesktop.DBus.ObjectManager',"
				       "member='InterfacesAdded'",
				 on_added, f);

	if (r < 0)
		return r;
	return sd_bus_add_match(bus, NULL,
				MATCH "path_namespace='/org/bluez',"
				      "interface='org.freedesktop.DBus.Properties',"
				      "member='PropertiesChanged',arg0='org.bluez.Device1'",
				on_changed, f);
}

static int run(const char *address, struct floor *f)
{
	sd_bus *bus = NULL;
	int r = sd_bus_new(&bus);

	if (r >= 0)
		r = sd_bus_set_address(bus, address);
	if (r >= 0)
		r = sd_bus_set_bus_client(bus, 1);
	if (r >= 0)
		r = sd_bus_start(bus);
	if (r >= 0)
		r = subscribe(bus, f);
	if (r >= 0) {
		puts("ready");
		fflush(stdout);
	}
	while (r >= 0) {
		r = sd_bus_process(bus, NULL);
		if (r == 0)
			r = sd_bus_wait(bus, UINT64_MAX);
	}
	fprintf(stderr, "floor: %s\n", strerror(-r));
	sd_bus_unref(bus);
	return 1;
}

int main(int argc, char **argv)
{
	struct floor f = {0};
	void *shared;
	int fd;

	if (argc != 3) {
		fprintf(stderr, "usage: floor BUS-ADDRESS FILE\n");
		return 2;
	}
	fd = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, sizeof(*f.count)) < 0) {
		perror(argv[2]);
		return 1;
	}
	shared = mmap(NULL, sizeof(*f.count), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (shared == MAP_FAILED) {
		perror(argv[2]);
		return 1;
	}
	f.count = shared;
	return run(argv[1], &f);
}
