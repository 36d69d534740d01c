/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/monitor.h"

#include <stdio.h>
#include <string.h>

#include "agent/log.h"
#include "agent/util.h"

#define ROOT		"/com/blecon/hotspot/hci"
#define CALL_TIMEOUT_MS 15000

/* An advert with FD0D, in the order of the air, at the start of its service data. */
#define PATTERN_START	0
#define PATTERN_AD_TYPE 0x16
static const uint8_t pattern[] = {0x0d, 0xfd};

/* Without thresholds bluetoothd makes a method call for each advert. These are never crossed:
 * anything heard is above the upper one, and the rest says "lost" as late as can be. */
#define RSSI_HIGH_DBM	  (-126)
#define RSSI_HIGH_SECONDS 1
#define RSSI_LOW_DBM	  (-127)
#define RSSI_LOW_SECONDS  300
#define RSSI_SAMPLING_ALL 0 /* every advert is passed on */

static void root_path(const struct monitor *monitor, char ret[OBJECT_PATH_MAX])
{
	snprintf(ret, OBJECT_PATH_MAX, ROOT "%u", monitor->adapter);
}

static void object_path(const struct monitor *monitor, char ret[OBJECT_PATH_MAX])
{
	snprintf(ret, OBJECT_PATH_MAX, ROOT "%u/fd0d", monitor->adapter);
}

static void set_state(struct monitor *monitor, enum monitor_state state)
{
	bool was = monitor_active(monitor);

	monitor->state = state;
	if (was != monitor_active(monitor))
		monitor->on_change(monitor->userdata);
}

static int on_activate(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct monitor *monitor = userdata;

	(void)error;
	log_debug("hci%u: advertisement monitor is active", monitor->adapter);
	set_state(monitor, MONITOR_ACTIVE);
	return sd_bus_reply_method_return(m, NULL);
}

static int on_release(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct monitor *monitor = userdata;

	(void)error;
	log_debug("hci%u: advertisement monitor was released", monitor->adapter);
	set_state(monitor, MONITOR_REFUSED);
	return sd_bus_reply_method_return(m, NULL);
}

/* What it tells comes through the device's properties as well. */
static int on_device(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	(void)userdata;
	(void)error;
	return sd_bus_reply_method_return(m, NULL);
}

static int get_property(sd_bus *sd, const char *path, const char *interface, const char *property,
			sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	(void)sd;
	(void)path;
	(void)interface;
	(void)userdata;
	(void)error;
	if (strcmp(property, "Type") == 0)
		return sd_bus_message_append(reply, "s", "or_patterns");
	if (strcmp(property, "RSSIHighThreshold") == 0)
		return sd_bus_message_append(reply, "n", RSSI_HIGH_DBM);
	if (strcmp(property, "RSSIHighTimeout") == 0)
		return sd_bus_message_append(reply, "q", RSSI_HIGH_SECONDS);
	if (strcmp(property, "RSSILowThreshold") == 0)
		return sd_bus_message_append(reply, "n", RSSI_LOW_DBM);
	if (strcmp(property, "RSSILowTimeout") == 0)
		return sd_bus_message_append(reply, "q", RSSI_LOW_SECONDS);
	if (strcmp(property, "RSSISamplingPeriod") == 0)
		return sd_bus_message_append(reply, "q", RSSI_SAMPLING_ALL);
	return sd_bus_message_append(reply, "a(yyay)", 1, PATTERN_START, PATTERN_AD_TYPE, 2,
				     pattern[0], pattern[1]);
}

static const sd_bus_vtable vtable[] = {
	SD_BUS_VTABLE_START(0),
	SD_BUS_METHOD("Release", "", "", on_release, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("Activate", "", "", on_activate, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("DeviceFound", "o", "", on_device, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_METHOD("DeviceLost", "o", "", on_device, SD_BUS_VTABLE_UNPRIVILEGED),
	SD_BUS_PROPERTY("Type", "s", get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("RSSIHighThreshold", "n", get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("RSSIHighTimeout", "q", get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("RSSILowThreshold", "n", get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("RSSILowTimeout", "q", get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("RSSISamplingPeriod", "q", get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_PROPERTY("Patterns", "a(yyay)", get_property, 0, SD_BUS_VTABLE_PROPERTY_CONST),
	SD_BUS_VTABLE_END,
};

/* Exported only after RegisterMonitor: bluetoothd may otherwise see it twice. */
static void on_registered(void *userdata, sd_bus_message *reply)
{
	struct monitor *monitor = userdata;
	sd_bus *sd = monitor->bluez->bus.sd;
	char path[OBJECT_PATH_MAX], text[BUS_ERROR_TEXT];
	int r;

	if (sd_bus_message_is_method_error(reply, NULL)) {
		log_debug("hci%u: no advertisement monitor: %s", monitor->adapter,
			  bus_error_text(reply, text));
		set_state(monitor, MONITOR_REFUSED);
		return;
	}
	object_path(monitor, path);
	set_state(monitor, MONITOR_EXPORTED);
	r = sd_bus_add_object_vtable(sd, &monitor->object_slot, path, BLUEZ_MONITOR, vtable,
				     monitor);
	if (r >= 0)
		r = sd_bus_emit_object_added(sd, path);
	if (r < 0) {
		log_warning("hci%u: cannot export the advertisement monitor: %s", monitor->adapter,
			    strerror(-r));
		set_state(monitor, MONITOR_REFUSED);
	}
	bus_update(&monitor->bluez->bus);
}

void monitor_init(struct monitor *monitor, struct bluez *bluez, unsigned adapter,
		  void (*on_change)(void *userdata), void *userdata)
{
	*monitor = (struct monitor){
		.bluez = bluez,
		.on_change = on_change,
		.userdata = userdata,
		.adapter = adapter,
	};
}

static sd_bus_message *manager_message(struct monitor *monitor, const char *member)
{
	char adapter[OBJECT_PATH_MAX], root[OBJECT_PATH_MAX];

	object_adapter_path(monitor->adapter, adapter);
	root_path(monitor, root);
	return bluez_message(monitor->bluez, adapter, BLUEZ_MONITOR_MANAGER, member, "o", root);
}

void monitor_start(struct monitor *monitor)
{
	struct bus *bus = &monitor->bluez->bus;
	char root[OBJECT_PATH_MAX];
	int r;

	if (monitor->state != MONITOR_IDLE)
		return;
	root_path(monitor, root);
	/* bluetoothd asks it for its objects, of which there is none yet. */
	r = sd_bus_add_object_manager(bus->sd, &monitor->manager_slot, root);
	if (r < 0) {
		log_warning("hci%u: cannot export an object manager: %s", monitor->adapter,
			    strerror(-r));
		return;
	}
	set_state(monitor, MONITOR_REGISTERING);
	bus_call(bus, &monitor->call, manager_message(monitor, "RegisterMonitor"), CALL_TIMEOUT_MS,
		 on_registered, monitor);
}

void monitor_stop(struct monitor *monitor, bool tell)
{
	bus_call_cancel(&monitor->call);
	if (tell && (monitor->state == MONITOR_EXPORTED || monitor->state == MONITOR_ACTIVE))
		bus_send(&monitor->bluez->bus, manager_message(monitor, "UnregisterMonitor"));
	monitor->state = MONITOR_IDLE;
	monitor->object_slot = sd_bus_slot_unref(monitor->object_slot);
	monitor->manager_slot = sd_bus_slot_unref(monitor->manager_slot);
}

bool monitor_active(const struct monitor *monitor)
{
	return monitor->state == MONITOR_ACTIVE;
}
