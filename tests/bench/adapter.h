/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The adapter of who plays bluetoothd in the bench, and what they share.
 */
#pragma once

#include <systemd/sd-bus.h>

#define ADAPTER	   "/org/bluez/hci0"
#define ADAPTER_IF "org.bluez.Adapter1"
#define DEVICE_IF  "org.bluez.Device1"
#define PROPERTIES "org.freedesktop.DBus.Properties"
#define FD0D	   "0000fd0d-0000-1000-8000-00805f9b34fb"

#define TRY(call)                                                                                  \
	do {                                                                                       \
		int r_ = (call);                                                                   \
		if (r_ < 0)                                                                        \
			return r_;                                                                 \
	} while (0)

struct adapter {
	sd_bus *bus;
	int discovering;
};

/* Connects to the bus and exports the adapter; not yet as org.bluez. */
int adapter_start(struct adapter *adapter, const char *address);
/* Answers what the bus asks. */
int adapter_process(struct adapter *adapter);
/* Appends the value of ServiceData, a variant. */
int adapter_append_service_data(sd_bus_message *m, const uint8_t *data, size_t len);
