/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/fault.h"

#include <errno.h>
#include <string.h>

#include "agent/util.h"

static const struct {
	const char *name;
	enum ble_fault fault;
} errors[] = {
	{"org.bluez.Error.NotReady", BLE_FAULT_NOT_READY},
	{"org.bluez.Error.NotAuthorized", BLE_FAULT_DENIED},
	{"org.freedesktop.DBus.Error.AccessDenied", BLE_FAULT_DENIED},
	{"org.bluez.Error.InProgress", BLE_FAULT_IN_PROGRESS},
	{"org.bluez.Error.NotPermitted", BLE_FAULT_NOT_PERMITTED},
	{"org.bluez.Error.NotSupported", BLE_FAULT_NOT_SUPPORTED},
	{"org.freedesktop.DBus.Error.UnknownMethod", BLE_FAULT_NOT_SUPPORTED},
	{"org.freedesktop.DBus.Error.NoReply", BLE_FAULT_NO_ANSWER},
	{"org.freedesktop.DBus.Error.Timeout", BLE_FAULT_NO_ANSWER},
};

enum ble_fault fault_of_error(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		if (strcmp(errors[i].name, name) == 0)
			return errors[i].fault;
	}
	return BLE_FAULT_FAILED;
}

enum ble_fault fault_of_bus(int error, bool answered)
{
	if (error == -ENOENT || error == -ECONNREFUSED)
		return BLE_FAULT_ABSENT;
	if (error == -EACCES || error == -EPERM)
		return BLE_FAULT_DENIED;
	/* dbus-daemon says nothing to whom its policy does not let in. */
	return error == -ECONNRESET && !answered ? BLE_FAULT_DENIED : BLE_FAULT_FAILED;
}
