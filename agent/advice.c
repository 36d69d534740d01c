/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/advice.h"

#include <stdbool.h>
#include <stdio.h>

#include "agent/util.h"

#define RESTART_BLUETOOTHD                                                                         \
	"restart it (systemctl restart bluetooth, on OpenWrt service bluetoothd restart)"
#define ALLOW_ACCESS                                                                               \
	"allow it in a D-Bus policy for org.bluez, or put the user into the group bluetooth"

/* --- No bluetoothd --- */

static const char *of_bus(enum ble_fault fault)
{
	if (fault == BLE_FAULT_STARTING)
		return "";
	if (fault == BLE_FAULT_DENIED)
		return "let the daemon's user open the bus, by its socket's mode or a D-Bus policy";
	return "start dbus-daemon (systemctl start dbus, on OpenWrt service dbus start), or "
	       "correct DBUS_SYSTEM_BUS_ADDRESS";
}

static const char *of_bluetoothd(enum ble_fault fault)
{
	if (fault == BLE_FAULT_STARTING)
		return "";
	if (fault == BLE_FAULT_ABSENT)
		return "start the bluetooth service "
		       "(systemctl start bluetooth, on OpenWrt service bluetoothd start)";
	return RESTART_BLUETOOTHD;
}

static const char *of_no_adapter(enum ble_fault fault)
{
	if (fault == BLE_FAULT_STARTING)
		return "";
	if (fault == BLE_FAULT_MISSING)
		return "plug it in, see dmesg if it is, or correct bluetooth.adapters in the "
		       "configuration (bluetoothctl list shows what there is)";
	return "plug one in, or see dmesg for the firmware and USB power of one that is "
	       "(bluetoothctl list shows what works)";
}

/* --- An adapter that does not scan --- */

static const char *of_power(enum ble_fault fault)
{
	if (fault == BLE_FAULT_DENIED)
		return ALLOW_ACCESS;
	if (fault == BLE_FAULT_NO_ANSWER)
		return "bluetoothd hangs, " RESTART_BLUETOOTHD;
	return "see dmesg for its firmware and USB power, and plug it out and in";
}

static const char *of_scan(enum ble_fault fault)
{
	switch (fault) {
	case BLE_FAULT_DENIED:
		return ALLOW_ACCESS;
	case BLE_FAULT_NOT_READY:
		return "bluetoothctl power on, and if that fails see dmesg, and plug it out and in";
	case BLE_FAULT_IN_PROGRESS:
		return "end other programs that scan (bluetoothctl, btmgmt, hcitool), see that "
		       "/etc/bluetooth/main.conf does not say ControllerMode = bredr, or restart "
		       "bluetoothd";
	case BLE_FAULT_NOT_PERMITTED:
		return "see that /etc/bluetooth/main.conf does not say ControllerMode = bredr, and "
		       "restart bluetoothd";
	case BLE_FAULT_NOT_SUPPORTED:
		return "use an adapter with Bluetooth LE, 4.0 or later "
		       "(bluetoothctl show lists its roles)";
	case BLE_FAULT_NO_ANSWER:
		return "bluetoothd hangs, " RESTART_BLUETOOTHD;
	case BLE_FAULT_NONE:
	case BLE_FAULT_STARTING:
	case BLE_FAULT_ABSENT:
	case BLE_FAULT_MISSING:
	case BLE_FAULT_FAILED:
		break;
	}
	return "see dmesg for errors of the adapter, plug it out and in, or restart bluetoothd";
}

static const char *of_adapter(const struct ble_adapter_status *a)
{
	switch (a->state) {
	case BLE_ADAPTER_BLOCKED:
		return "rfkill unblock bluetooth, or without that program: "
		       "echo 0 | tee /sys/class/bluetooth/hci*/rfkill*/soft";
	case BLE_ADAPTER_FAILED:
		return a->powered ? of_scan(a->fault) : of_power(a->fault);
	case BLE_ADAPTER_OFF: /* it is being switched on, perhaps after it was switched off by us */
	case BLE_ADAPTER_STARTING:
	case BLE_ADAPTER_SCANNING:
		break;
	}
	return "";
}

/* --- An adapter that scans --- */

/* Whether other devices were heard for the supervisor's time, and none of Blecon's. */
static bool hears_only_others(const struct ble_adapter_status *a)
{
	uint64_t from_ms = MAX(a->last_advert_ms, a->since_ms);

	return a->state == BLE_ADAPTER_SCANNING && a->supervisor.silence_ms > 0 &&
	       a->last_heard_ms >= from_ms + a->supervisor.silence_ms;
}

static const char *of_silence(const struct ble_adapter_status *a)
{
	if (a->supervisor.reported)
		return "bring a Blecon device within 10 m, and if that is not heard see to the "
		       "antenna and to USB 3 beside it (noise), or try another adapter";
	if (hears_only_others(a))
		return "other devices are heard, but none of Blecon's: "
		       "is one switched on, and within some 10 m?";
	return "";
}

/* The first that there is about the adapters in use. */
static const char *of_each(const struct ble_status *s,
			   const char *(*of)(const struct ble_adapter_status *a))
{
	const char *advice = "";

	for (unsigned i = 0; i < s->n_adapters && !*advice; i++) {
		if (s->adapters[i].used)
			advice = of(&s->adapters[i]);
	}
	return advice;
}

static const char *of_adapters(const struct ble_status *s)
{
	const char *advice = of_each(s, of_adapter);

	if (!*advice && s->fault == BLE_FAULT_MISSING)
		advice = of_no_adapter(s->fault);
	return *advice ? advice : of_each(s, of_silence);
}

static const char *advice_of(const struct ble_status *s)
{
	switch (s->state) {
	case BLE_STATE_NO_BUS:
		return of_bus(s->fault);
	case BLE_STATE_NO_BLUETOOTHD:
		return of_bluetoothd(s->fault);
	case BLE_STATE_NO_ACCESS:
		return ALLOW_ACCESS;
	case BLE_STATE_NO_ADAPTER:
		return of_no_adapter(s->fault);
	case BLE_STATE_NOT_SCANNING:
	case BLE_STATE_SCANNING:
		return of_adapters(s);
	}
	return "";
}

void advice_bluetooth(const struct ble_status *s, char *ret, size_t size)
{
	snprintf(ret, size, "%s", advice_of(s));
}
