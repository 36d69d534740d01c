/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/bluez.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/util.h"
#include "ble/fault.h"

#define SERVICE		"org.bluez"
#define OBJECT_MANAGER	"org.freedesktop.DBus.ObjectManager"
#define DBUS_SERVICE	"org.freedesktop.DBus"
#define DBUS_PATH	"/org/freedesktop/DBus"
#define BUS_ADDRESS	"DBUS_SYSTEM_BUS_ADDRESS" /* environment variable */
#define CALL_TIMEOUT_MS 10000
#define RETRY_MS	2000

static void set_gone(struct bluez *bluez, enum ble_state state, enum ble_fault fault,
		     const char *reason)
{
	bus_call_cancel(&bluez->call);
	loop_timer_stop(&bluez->retry);
	bluez->owner[0] = '\0';
	bluez->known = false;
	bluez->handler.on_gone(bluez->userdata, state, fault, reason);
}

/* --- Objects --- */

/* What of the objects to read, for one makes sense only once another is known. */
enum pass {
	PASS_ADAPTERS = 1u << 0,
	PASS_DEVICES = 1u << 1, /* and characteristics */
	PASS_DESCRIPTORS = 1u << 2,
};

static int on_attribute(struct bluez *bluez, sd_bus_message *m, const struct object_key *key,
			const char *path)
{
	enum object_attribute attribute;
	int r = attribute_props_read(m, &attribute);

	if (r >= 0 && attribute != OBJECT_ATTRIBUTE_OTHER)
		bluez->handler.on_attribute(bluez->userdata, key, attribute, path);
	return r;
}

static int on_interface(struct bluez *bluez, sd_bus_message *m, const char *path,
			const char *interface, unsigned passes, enum bluez_source source)
{
	struct object_key key = {0};
	enum object_kind kind = object_parse(path, &key);
	struct adapter_props adapter;
	struct device_props device;
	int r;

	if (kind == OBJECT_ADAPTER && (passes & PASS_ADAPTERS) &&
	    strcmp(interface, BLUEZ_ADAPTER) == 0) {
		r = adapter_props_read(m, &adapter);
		if (r >= 0)
			bluez->handler.on_adapter(bluez->userdata, key.adapter, &adapter);
		return r;
	}
	if (kind == OBJECT_DEVICE && (passes & PASS_DEVICES) &&
	    strcmp(interface, BLUEZ_DEVICE) == 0) {
		r = device_props_read(m, &device);
		if (r >= 0)
			bluez->handler.on_device(bluez->userdata, &key, &device, source);
		return r;
	}
	if (kind == OBJECT_BELOW_DEVICE &&
	    (((passes & PASS_DEVICES) && strcmp(interface, BLUEZ_CHARACTERISTIC) == 0) ||
	     ((passes & PASS_DESCRIPTORS) && strcmp(interface, BLUEZ_DESCRIPTOR) == 0)))
		return on_attribute(bluez, m, &key, path);
	if (kind == OBJECT_ADAPTER && (passes & PASS_DEVICES) &&
	    strcmp(interface, BLUEZ_MONITOR_MANAGER) == 0)
		bluez->handler.on_monitor_manager(bluez->userdata, key.adapter);
	return sd_bus_message_skip(m, "a{sv}");
}

/* An a{sa{sv}}. */
static int read_interfaces(struct bluez *bluez, sd_bus_message *m, const char *path,
			   unsigned passes, enum bluez_source source)
{
	const char *interface;
	int r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{sa{sv}}");

	if (r < 0)
		return r;
	while ((r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "sa{sv}")) > 0) {
		r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &interface);
		if (r < 0)
			return r;
		r = on_interface(bluez, m, path, interface, passes, source);
		if (r < 0)
			return r;
		r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* The a{oa{sa{sv}}} of GetManagedObjects, whose order is bluetoothd's. */
static int read_snapshot(struct bluez *bluez, sd_bus_message *m, enum pass pass)
{
	const char *path;
	int r = sd_bus_message_rewind(m, true);

	if (r < 0)
		return r;
	r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "{oa{sa{sv}}}");
	if (r < 0)
		return r;
	while ((r = sd_bus_message_enter_container(m, SD_BUS_TYPE_DICT_ENTRY, "oa{sa{sv}}")) > 0) {
		r = sd_bus_message_read_basic(m, SD_BUS_TYPE_OBJECT_PATH, &path);
		if (r < 0)
			return r;
		r = read_interfaces(bluez, m, path, pass, BLUEZ_SNAPSHOT);
		if (r < 0)
			return r;
		r = sd_bus_message_exit_container(m);
		if (r < 0)
			return r;
	}
	return r;
}

/* It is there, and does not say what it has. */
static void refused(struct bluez *bluez, enum ble_state state, enum ble_fault fault,
		    const char *reason)
{
	bluez->handler.on_gone(bluez->userdata, state, fault, reason);
	loop_timer_start(&bluez->retry, RETRY_MS);
}

static void on_objects(void *userdata, sd_bus_message *reply)
{
	struct bluez *bluez = userdata;
	char text[BUS_ERROR_TEXT], reason[BUS_ERROR_TEXT + 48];
	int r;

	if (sd_bus_message_is_method_error(reply, SD_BUS_ERROR_ACCESS_DENIED)) {
		snprintf(text, sizeof(text), "user %u may not talk to bluetoothd",
			 (unsigned)geteuid());
		refused(bluez, BLE_STATE_NO_ACCESS, BLE_FAULT_DENIED, text);
		return;
	}
	if (sd_bus_message_is_method_error(reply, NULL)) {
		snprintf(reason, sizeof(reason), "bluetoothd does not say what it has: %s",
			 bus_error_text(reply, text));
		reason[BUS_ERROR_TEXT - 1] = '\0';
		refused(bluez, BLE_STATE_NO_BLUETOOTHD,
			fault_of_error(sd_bus_message_get_error(reply)->name), reason);
		return;
	}
	if (bluez->reported)
		log_event(LOG_LEVEL_INFO, LOG_EVENT_BLUETOOTH, "bluetoothd: is back");
	bluez->reported = false;
	bluez->known = true;
	r = read_snapshot(bluez, reply, PASS_ADAPTERS);
	bluez->handler.on_adapters_known(bluez->userdata);
	if (r >= 0)
		r = read_snapshot(bluez, reply, PASS_DEVICES);
	if (r >= 0)
		r = read_snapshot(bluez, reply, PASS_DESCRIPTORS);
	if (r < 0)
		log_warning("bluetoothd: cannot read its objects: %s", strerror(-r));
}

static void ask_objects(void *userdata)
{
	struct bluez *bluez = userdata;
	sd_bus_message *m = bluez_message(bluez, "/", OBJECT_MANAGER, "GetManagedObjects", "");

	bus_call(&bluez->bus, &bluez->call, m, CALL_TIMEOUT_MS, on_objects, bluez);
}

/* --- Signals --- */

/* The match rules let through what others address to us directly, and what a bluetoothd of before
 * has left in the queue. What is older than the snapshot is in the snapshot. */
static bool is_current(const struct bluez *bluez, sd_bus_message *m)
{
	const char *sender = sd_bus_message_get_sender(m);

	return bluez->known && sender && strcmp(sender, bluez->owner) == 0;
}

static int on_added(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct bluez *bluez = userdata;
	const char *path;
	int r;

	(void)error;
	if (!is_current(bluez, m))
		return 0;
	r = sd_bus_message_read_basic(m, SD_BUS_TYPE_OBJECT_PATH, &path);
	if (r >= 0)
		r = read_interfaces(bluez, m, path, PASS_ADAPTERS, BLUEZ_ADDED);
	if (r >= 0)
		r = sd_bus_message_rewind(m, true);
	if (r >= 0)
		r = sd_bus_message_read_basic(m, SD_BUS_TYPE_OBJECT_PATH, &path);
	if (r >= 0)
		r = read_interfaces(bluez, m, path, PASS_DEVICES | PASS_DESCRIPTORS, BLUEZ_ADDED);
	if (r < 0)
		log_debug("bluetoothd: unreadable InterfacesAdded: %s", strerror(-r));
	return 0;
}

static void on_interface_removed(struct bluez *bluez, const char *path, const char *interface)
{
	struct object_key key = {0};
	enum object_kind kind = object_parse(path, &key);

	if (kind == OBJECT_ADAPTER && strcmp(interface, BLUEZ_ADAPTER) == 0)
		bluez->handler.on_adapter_removed(bluez->userdata, key.adapter);
	else if (kind == OBJECT_DEVICE && strcmp(interface, BLUEZ_DEVICE) == 0)
		bluez->handler.on_device_removed(bluez->userdata, &key);
	else if (kind == OBJECT_BELOW_DEVICE && strcmp(interface, BLUEZ_CHARACTERISTIC) == 0)
		bluez->handler.on_characteristic_removed(bluez->userdata, path);
}

static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct bluez *bluez = userdata;
	const char *path, *interface;
	int r;

	(void)error;
	if (!is_current(bluez, m))
		return 0;
	r = sd_bus_message_read_basic(m, SD_BUS_TYPE_OBJECT_PATH, &path);
	if (r >= 0)
		r = sd_bus_message_enter_container(m, SD_BUS_TYPE_ARRAY, "s");
	while (r >= 0 && (r = sd_bus_message_read_basic(m, SD_BUS_TYPE_STRING, &interface)) > 0)
		on_interface_removed(bluez, path, interface);
	if (r < 0)
		log_debug("bluetoothd: unreadable InterfacesRemoved: %s", strerror(-r));
	return 0;
}

/* By far the most frequent message: an advert is one of these. */
static int on_device_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct bluez *bluez = userdata;
	struct device_props props;
	struct object_key key = {0};
	int r;

	(void)error;
	if (!is_current(bluez, m) ||
	    object_parse(sd_bus_message_get_path(m), &key) != OBJECT_DEVICE)
		return 0;
	r = sd_bus_message_skip(m, "s");
	if (r >= 0)
		r = device_props_read(m, &props);
	if (r >= 0)
		r = device_props_read_invalidated(m, &props);
	if (r >= 0)
		bluez->handler.on_device(bluez->userdata, &key, &props, BLUEZ_CHANGED);
	else
		log_debug("bluetoothd: unreadable change of a device: %s", strerror(-r));
	return 0;
}

static int on_adapter_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	struct bluez *bluez = userdata;
	struct adapter_props props;
	struct object_key key = {0};
	int r;

	(void)error;
	if (!is_current(bluez, m) ||
	    object_parse(sd_bus_message_get_path(m), &key) != OBJECT_ADAPTER)
		return 0;
	r = sd_bus_message_skip(m, "s");
	if (r >= 0)
		r = adapter_props_read(m, &props);
	if (r >= 0)
		bluez->handler.on_adapter(bluez->userdata, key.adapter, &props);
	else
		log_debug("bluetoothd: unreadable change of an adapter: %s", strerror(-r));
	return 0;
}

/* --- Who is bluetoothd --- */

static void set_owner(struct bluez *bluez, const char *owner)
{
	if (strcmp(bluez->owner, owner) == 0 && owner[0] != '\0')
		return;
	if (owner[0] == '\0' && !bluez->reported)
		log_event(LOG_LEVEL_WARNING, LOG_EVENT_BLUETOOTH, "bluetoothd: is not running");
	bluez->reported = bluez->reported || owner[0] == '\0';
	if (owner[0] == '\0') {
		set_gone(bluez, BLE_STATE_NO_BLUETOOTHD, BLE_FAULT_ABSENT,
			 "bluetoothd is not running");
		return;
	}
	set_gone(bluez, BLE_STATE_NO_BLUETOOTHD, BLE_FAULT_STARTING, "bluetoothd has just started");
	snprintf(bluez->owner, sizeof(bluez->owner), "%s", owner);
	bluez->generation++;
	ask_objects(bluez);
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *error)
{
	const char *name, *before, *after;

	(void)error;
	if (sd_bus_message_read(m, "sss", &name, &before, &after) >= 0)
		set_owner(userdata, after);
	return 0;
}

static void on_owner(void *userdata, sd_bus_message *reply)
{
	const char *owner = "";

	if (sd_bus_message_is_method_error(reply, NULL) ||
	    sd_bus_message_read(reply, "s", &owner) < 0)
		owner = "";
	set_owner(userdata, owner);
}

static void ask_owner(struct bluez *bluez)
{
	sd_bus_message *m = NULL;
	int r = sd_bus_message_new_method_call(bluez->bus.sd, &m, DBUS_SERVICE, DBUS_PATH,
					       DBUS_SERVICE, "GetNameOwner");

	if (r >= 0)
		r = sd_bus_message_append(m, "s", SERVICE);
	if (r < 0) {
		sd_bus_message_unref(m);
		bus_fail(&bluez->bus, r);
		return;
	}
	bus_call(&bluez->bus, &bluez->call, m, CALL_TIMEOUT_MS, on_owner, bluez);
}

static const struct {
	const char *rule;
	sd_bus_message_handler_t on_signal;
} signals[BLUEZ_SIGNALS] = {
	{"type='signal',sender='" DBUS_SERVICE "',path='" DBUS_PATH "',interface='" DBUS_SERVICE
	 "',member='NameOwnerChanged',arg0='" SERVICE "'",
	 on_owner_changed},
	{"type='signal',sender='" SERVICE "',path='/',interface='" OBJECT_MANAGER
	 "',member='InterfacesAdded'",
	 on_added},
	{"type='signal',sender='" SERVICE "',path='/',interface='" OBJECT_MANAGER
	 "',member='InterfacesRemoved'",
	 on_removed},
	{"type='signal',sender='" SERVICE
	 "',path_namespace='/org/bluez',interface='" DBUS_PROPERTIES
	 "',member='PropertiesChanged',arg0='" BLUEZ_DEVICE "'",
	 on_device_changed},
	{"type='signal',sender='" SERVICE
	 "',path_namespace='/org/bluez',interface='" DBUS_PROPERTIES
	 "',member='PropertiesChanged',arg0='" BLUEZ_ADAPTER "'",
	 on_adapter_changed},
};

/* Without a callback of its own sd-bus would close the connection and not say why. */
static int on_installed(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct bluez *bluez = userdata;
	char text[BUS_ERROR_TEXT];

	(void)error;
	if (sd_bus_message_is_method_error(reply, NULL) && sd_bus_is_open(bluez->bus.sd) > 0) {
		log_error("D-Bus: refuses a subscription: %s", bus_error_text(reply, text));
		bus_fail(&bluez->bus, -sd_bus_message_get_errno(reply));
	}
	return 0;
}

/* The bus handles the calls in order: the name is asked for once all signals are subscribed. */
static void on_bus_up(void *userdata)
{
	struct bluez *bluez = userdata;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		int r = sd_bus_add_match_async(bluez->bus.sd, &bluez->slots[i], signals[i].rule,
					       signals[i].on_signal, on_installed, bluez);

		if (r < 0) {
			bus_fail(&bluez->bus, r);
			return;
		}
	}
	ask_owner(bluez);
}

static void drop_slots(struct bluez *bluez)
{
	for (size_t i = 0; i < ARRAY_SIZE(bluez->slots); i++)
		bluez->slots[i] = sd_bus_slot_unref(bluez->slots[i]);
}

static void on_bus_down(void *userdata, int error)
{
	const char *address = secure_getenv(BUS_ADDRESS); /* as sd-bus looks for it */
	struct bluez *bluez = userdata;
	char reason[BUS_ERROR_TEXT];

	snprintf(reason, sizeof(reason), "D-Bus cannot be reached: %s%s%s%s", strerror(-error),
		 address ? " (" BUS_ADDRESS "=" : "", address ? address : "", address ? ")" : "");
	drop_slots(bluez);
	set_gone(bluez, BLE_STATE_NO_BUS, fault_of_bus(error, bluez->bus.answered), reason);
}

void bluez_init(struct bluez *bluez, struct loop *loop, const struct bluez_handler *handler,
		void *userdata)
{
	static const struct bus_handler bus_handler = {on_bus_up, on_bus_down};

	*bluez = (struct bluez){.loop = loop, .handler = *handler, .userdata = userdata};
	loop_timer_init(loop, &bluez->retry, ask_objects, bluez);
	bus_init(&bluez->bus, loop, &bus_handler, bluez);
}

void bluez_done(struct bluez *bluez)
{
	bus_call_cancel(&bluez->call);
	loop_timer_stop(&bluez->retry);
	drop_slots(bluez);
	bus_done(&bluez->bus);
}

sd_bus_message *bluez_message(struct bluez *bluez, const char *path, const char *interface,
			      const char *member, const char *types, ...)
{
	sd_bus_message *m = NULL;
	va_list args;
	int r;

	if (!bluez->bus.sd || bluez->owner[0] == '\0')
		return NULL;
	/* To the unique name: what is meant for this bluetoothd must not reach the next one. */
	r = sd_bus_message_new_method_call(bluez->bus.sd, &m, bluez->owner, path, interface,
					   member);
	if (r >= 0)
		r = sd_bus_message_set_auto_start(m, 0);
	va_start(args, types);
	if (r >= 0 && types[0] != '\0')
		r = sd_bus_message_appendv(m, types, args);
	va_end(args);
	if (r >= 0)
		return m;
	sd_bus_message_unref(m);
	bus_fail(&bluez->bus, r);
	return NULL;
}

void bluez_sync(struct bluez *bluez, uint64_t timeout_ms)
{
	/* bluetoothd takes messages in order, so its answer to the last one covers all. */
	bus_call_blocking(
		&bluez->bus,
		bluez_message(bluez, "/org/bluez", "org.freedesktop.DBus.Peer", "Ping", ""),
		timeout_ms);
}
