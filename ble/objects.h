/* SPDX-License-Identifier: Apache-2.0 */
/* What BlueZ says of its objects: their paths and the properties used here. No state. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ble/ble.h"
#include "ble/sdbus.h"

#define OBJECT_PATH_MAX 96 /* "/org/bluez/hciN/dev_…/serviceNNNN/charNNNN" and NUL, with room */

#define BLUEZ_ADAPTER	      "org.bluez.Adapter1"
#define BLUEZ_DEVICE	      "org.bluez.Device1"
#define BLUEZ_CHARACTERISTIC  "org.bluez.GattCharacteristic1"
#define BLUEZ_DESCRIPTOR      "org.bluez.GattDescriptor1"
#define BLUEZ_MONITOR	      "org.bluez.AdvertisementMonitor1"
#define BLUEZ_MONITOR_MANAGER "org.bluez.AdvertisementMonitorManager1"
#define DBUS_PROPERTIES	      "org.freedesktop.DBus.Properties"

/* Where a device is: its address on one adapter. BlueZ derives the path from it. */
struct object_key {
	unsigned adapter; /* N of hciN */
	uint8_t address[6];
};
bool object_key_equal(const struct object_key *a, const struct object_key *b);

enum object_kind {
	OBJECT_OTHER, /* none of ours */
	OBJECT_ADAPTER,
	OBJECT_DEVICE,
	OBJECT_BELOW_DEVICE, /* GATT */
};
/* ret_key->adapter is set for all but OBJECT_OTHER, the address for devices and what is below. */
enum object_kind object_parse(const char *path, struct object_key *ret_key);
void object_adapter_path(unsigned adapter, char ret[OBJECT_PATH_MAX]);
void object_device_path(const struct object_key *key, char ret[OBJECT_PATH_MAX]);

/* A bool property that may not have been told. */
enum told { TOLD_NOT = -1, TOLD_FALSE = 0, TOLD_TRUE = 1 };

struct adapter_props {
	char address[BLE_ADDRESS_TEXT]; /* empty: not told */
	char version[BLE_VERSION_TEXT]; /* bluetoothd's, empty: not told */
	enum told powered;
	enum told discovering;
	enum told blocked; /* PowerState is "off-blocked" */
	enum told random; /* AddressType */
	enum told le; /* whether a central is among the Roles */
};

/* bluetoothd's version in an adapter's Modalias, which is the Linux Foundation's product 0246 unless
 * main.conf has a DeviceID of its own: "usb:v1D6Bp0246d0542" is of 5.66. Empty for anything else. */
void object_version(const char *modalias, char ret[BLE_VERSION_TEXT]);

struct device_props {
	const uint8_t *data; /* service data of FD0D, of the message; NULL: none told */
	size_t data_len;
	bool service_data; /* ServiceData was told, whatever is in it */
	bool lists_service; /* FD0D is in UUIDs */
	bool rssi_told;
	bool rssi_gone; /* invalidated: discovery ended */
	int8_t rssi_dbm; /* where rssi_told; may be BLE_RSSI_NONE */
	enum told random; /* AddressType */
	enum told connected;
	enum told resolved;
};

/* Each reads the a{sv} at which m stands. They return 0 or -errno, *ret is then only partly set. */
int adapter_props_read(sd_bus_message *m, struct adapter_props *ret);
int device_props_read(sd_bus_message *m, struct device_props *ret);
/* The "as" of PropertiesChanged that follows. */
int device_props_read_invalidated(sd_bus_message *m, struct device_props *props);

enum object_attribute {
	OBJECT_ATTRIBUTE_OTHER,
	OBJECT_ATTRIBUTE_CHANNEL_0, /* characteristics */
	OBJECT_ATTRIBUTE_CHANNEL_1,
	OBJECT_ATTRIBUTE_CCC, /* descriptor: Client Characteristic Configuration */
};
/* Of a characteristic or descriptor. */
int attribute_props_read(sd_bus_message *m, enum object_attribute *ret);
