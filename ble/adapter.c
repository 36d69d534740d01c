/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/adapter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/util.h"
#include "ble/fault.h"
#include "ble/rfkill.h"

#define CALL_TIMEOUT_MS 15000
#define RETRY_MIN_MS	1000
#define RETRY_MAX_MS	30000
/* For Powered to follow a successful request, and before somebody else's "off" is undone. */
#define POWER_WAIT_MS 2000
#define BUSY_MAX      2 /* answers of InProgress before the adapter is switched off and on */
/* bluetoothd ends and starts its own scans; what is still off after this has ended for good. */
#define DISCOVERY_GRACE_MS 3000
/* The end of a block is told, as PowerState or, by a bluetoothd that switches it on again, as Powered;
 * look now and then nevertheless. */
#define BLOCKED_RETRY_MS 30000
#define LINKS_POLL_MS	 500 /* while a power cycle waits for the links to end */

static void run(struct adapter *adapter);

const char *ble_adapter_state_name(enum ble_adapter_state state)
{
	switch (state) {
	case BLE_ADAPTER_OFF:
		return "off";
	case BLE_ADAPTER_BLOCKED:
		return "blocked";
	case BLE_ADAPTER_STARTING:
		return "starting";
	case BLE_ADAPTER_SCANNING:
		return "scanning";
	case BLE_ADAPTER_FAILED:
		return "failed";
	}
	return "?";
}

/* Asks the supervisor again when its next step is due. */
static void watch(struct adapter *adapter)
{
	uint64_t now_ms = util_now_ms(), next_ms = supervisor_next_ms(&adapter->supervisor);

	if (next_ms == 0)
		loop_timer_stop(&adapter->watch_timer);
	else
		loop_timer_start(&adapter->watch_timer,
				 next_ms > now_ms ? next_ms - now_ms : LINKS_POLL_MS);
}

static void set_state(struct adapter *adapter, enum ble_adapter_state state, const char *reason)
{
	enum log_level level = LOG_LEVEL_INFO;

	if (state == adapter->state && strcmp(reason, adapter->reason) == 0)
		return;
	if (state == BLE_ADAPTER_BLOCKED)
		level = LOG_LEVEL_ERROR;
	else if (state == BLE_ADAPTER_FAILED)
		level = LOG_LEVEL_WARNING;
	else if (state == BLE_ADAPTER_STARTING)
		level = LOG_LEVEL_DEBUG;
	log_event(level, level < LOG_LEVEL_DEBUG ? LOG_EVENT_ADAPTER : LOG_EVENT_NONE,
		  "hci%u (%s): %s -> %s%s%s", adapter->index, adapter->address,
		  ble_adapter_state_name(adapter->state), ble_adapter_state_name(state),
		  reason[0] ? ": " : "", reason);
	if (state != adapter->state) {
		adapter->since_ms = util_now_ms();
		supervisor_scanning(&adapter->supervisor, state == BLE_ADAPTER_SCANNING,
				    adapter->since_ms);
		watch(adapter);
	}
	adapter->state = state;
	snprintf(adapter->reason, sizeof(adapter->reason), "%s", reason);
	adapter->handler.on_status(adapter->userdata);
}

/* A step to take while a failure stands: it is not over until the step has succeeded. */
static void set_trying(struct adapter *adapter, enum ble_adapter_state state, const char *reason)
{
	if (adapter->state != BLE_ADAPTER_FAILED && adapter->state != BLE_ADAPTER_BLOCKED)
		set_state(adapter, state, reason);
}

static void retry_later(struct adapter *adapter)
{
	loop_timer_start(&adapter->timer, adapter->retry_ms);
	adapter->retry_ms = MIN(adapter->retry_ms * 2, RETRY_MAX_MS);
}

static void fail_as(struct adapter *adapter, enum ble_fault fault, const char *reason)
{
	adapter->fault = fault;
	set_state(adapter, BLE_ADAPTER_FAILED, reason);
	retry_later(adapter);
}

static void fail(struct adapter *adapter, const char *step, sd_bus_message *reply)
{
	char text[BUS_ERROR_TEXT], reason[BUS_ERROR_TEXT + 32];

	snprintf(reason, sizeof(reason), "%s: %s", step, bus_error_text(reply, text));
	reason[sizeof(adapter->reason) - 1] = '\0';
	fail_as(adapter, fault_of_error(sd_bus_message_get_error(reply)->name), reason);
}

static sd_bus_message *new_message(struct adapter *adapter, const char *member)
{
	char path[OBJECT_PATH_MAX];

	object_adapter_path(adapter->index, path);
	return bluez_message(adapter->bluez, path, BLUEZ_ADAPTER, member, "");
}

static sd_bus_message *new_power_message(struct adapter *adapter, bool on)
{
	char path[OBJECT_PATH_MAX];

	object_adapter_path(adapter->index, path);
	return bluez_message(adapter->bluez, path, DBUS_PROPERTIES, "Set", "ssv", BLUEZ_ADAPTER,
			     "Powered", "b", on);
}

static void call(struct adapter *adapter, sd_bus_message *m,
		 void (*on_reply)(void *userdata, sd_bus_message *reply))
{
	bus_call(&adapter->bluez->bus, &adapter->call, m, CALL_TIMEOUT_MS, on_reply, adapter);
}

/* --- Discovery --- */

static void on_cycle_off(void *userdata, sd_bus_message *reply)
{
	struct adapter *adapter = userdata;

	/* The change of Powered, which goes on from here, mostly comes before. */
	if (sd_bus_message_is_method_error(reply, NULL))
		fail(adapter, "Powered", reply);
	else
		loop_timer_start(&adapter->timer, POWER_WAIT_MS);
}

static void power_cycle(struct adapter *adapter)
{
	loop_timer_stop(&adapter->timer);
	adapter->discovery = false;
	adapter->cycling = true;
	call(adapter, new_power_message(adapter, false), on_cycle_off);
}

static void on_start_failed(struct adapter *adapter, sd_bus_message *reply)
{
	/* bluetoothd 5.66 then answers InProgress. */
	if (adapter->no_le) {
		fail_as(adapter, BLE_FAULT_NOT_SUPPORTED, "it has no Bluetooth LE");
		return;
	}
	if (!sd_bus_message_is_method_error(reply, "org.bluez.Error.InProgress")) {
		fail(adapter, "StartDiscovery", reply);
		return;
	}
	/* A discovery of ours, which may have lost its filter: not worth trusting. */
	bus_send(&adapter->bluez->bus, new_message(adapter, "StopDiscovery"));
	fail(adapter, "StartDiscovery", reply);
	if (++adapter->n_busy != BUSY_MAX ||
	    adapter->handler.has_links(adapter->userdata, adapter->index))
		return;
	/* Or the kernel's, of a bluetoothd that was killed: it lasts for 10 s, or to power-off. */
	log_event(LOG_LEVEL_WARNING, LOG_EVENT_SUPERVISOR,
		  "hci%u: switched off and on to end a discovery that is nobody's", adapter->index);
	supervisor_cycled(&adapter->supervisor);
	power_cycle(adapter);
}

static void on_started(void *userdata, sd_bus_message *reply)
{
	struct adapter *adapter = userdata;

	if (sd_bus_message_is_method_error(reply, NULL)) {
		on_start_failed(adapter, reply);
		return;
	}
	adapter->discovery = true;
	adapter->n_busy = 0;
	adapter->retry_ms = RETRY_MIN_MS;
	set_state(adapter, BLE_ADAPTER_SCANNING, "");
	if (adapter->has_monitors)
		monitor_start(&adapter->monitor);
}

static void on_filter_set(void *userdata, sd_bus_message *reply)
{
	struct adapter *adapter = userdata;

	if (sd_bus_message_is_method_error(reply, NULL))
		fail(adapter, "SetDiscoveryFilter", reply);
	else
		call(adapter, new_message(adapter, "StartDiscovery"), on_started);
}

/* Transport alone would be a regular discovery: RSSI in steps of 8 dB, and gaps of 5 s. UUIDs make it
 * a filtered one; with an RSSI threshold the kernel would drop adverts whose RSSI is not available. */
static void start_discovery(struct adapter *adapter)
{
	char path[OBJECT_PATH_MAX];

	set_trying(adapter, BLE_ADAPTER_STARTING, "discovery is being started");
	object_adapter_path(adapter->index, path);
	call(adapter,
	     bluez_message(adapter->bluez, path, BLUEZ_ADAPTER, "SetDiscoveryFilter", "a{sv}", 3,
			   "Transport", "s", "le", "UUIDs", "as", 1, ADVERT_SERVICE_UUID,
			   "DuplicateData", "b", adapter->config.duplicate_data),
	     on_filter_set);
}

static void discovery_ended(struct adapter *adapter)
{
	adapter->discovery = false;
	/* Our session may still be registered, and would make the next start fail. */
	bus_send(&adapter->bluez->bus, new_message(adapter, "StopDiscovery"));
	set_state(adapter, BLE_ADAPTER_STARTING, "discovery ended by itself");
	run(adapter);
}

/* --- Silence --- */

static void on_stopped(void *userdata, sd_bus_message *reply)
{
	(void)reply; /* an error says that there was none to stop */
	run(userdata);
}

/* bluetoothd may refuse a start while the stop is under way, so its answer is waited for. */
static void restart_discovery(struct adapter *adapter)
{
	loop_timer_stop(&adapter->timer);
	adapter->discovery = false;
	set_state(adapter, BLE_ADAPTER_STARTING, "discovery is being restarted");
	call(adapter, new_message(adapter, "StopDiscovery"), on_stopped);
}

static void cycle_deaf(struct adapter *adapter)
{
	/* Should it stay on, the next start is not to find this discovery. */
	bus_send(&adapter->bluez->bus, new_message(adapter, "StopDiscovery"));
	set_state(adapter, BLE_ADAPTER_STARTING, "being switched off and on");
	power_cycle(adapter);
}

static void log_step(const struct adapter *adapter, enum log_level level)
{
	struct ble_supervisor_status status;

	supervisor_get_status(&adapter->supervisor, util_now_ms(), &status);
	log_event(level, LOG_EVENT_SUPERVISOR, "hci%u (%s): %s", adapter->index, adapter->address,
		  status.cause);
}

static void on_watch(void *userdata)
{
	struct adapter *adapter = userdata;
	bool has_links = adapter->handler.has_links(adapter->userdata, adapter->index);

	switch (supervisor_due(&adapter->supervisor, util_now_ms(), has_links)) {
	case SUPERVISOR_NONE:
		break;
	case SUPERVISOR_RESTART:
		log_step(adapter, LOG_LEVEL_INFO);
		restart_discovery(adapter);
		break;
	case SUPERVISOR_CYCLE:
		log_step(adapter, LOG_LEVEL_INFO);
		cycle_deaf(adapter);
		break;
	case SUPERVISOR_REPORT:
		log_step(adapter, LOG_LEVEL_WARNING);
		adapter->handler.on_status(adapter->userdata);
		break;
	}
	watch(adapter);
}

void adapter_heard(struct adapter *adapter, uint64_t now_ms)
{
	char text[SUPERVISOR_TEXT];

	adapter->last_heard_ms = now_ms;
	if (!supervisor_heard(&adapter->supervisor, now_ms, text))
		return;
	log_event(LOG_LEVEL_INFO, LOG_EVENT_SUPERVISOR, "hci%u (%s): %s", adapter->index,
		  adapter->address, text);
	/* The wait may have been a longer one. */
	watch(adapter);
	adapter->handler.on_status(adapter->userdata);
}

void adapter_count_advert(struct adapter *adapter, uint64_t now_ms)
{
	adapter->adverts++;
	adapter->last_advert_ms = now_ms;
	rate_add(&adapter->rate, now_ms);
}

/* --- Power --- */

static bool is_blocked(const struct adapter *adapter)
{
	return adapter->blocked || rfkill_blocks(RFKILL_SYSFS, adapter->index);
}

static void set_blocked(struct adapter *adapter)
{
	set_state(adapter, BLE_ADAPTER_BLOCKED, "switched off by rfkill");
	loop_timer_start(&adapter->timer, BLOCKED_RETRY_MS);
}

static void on_power_set(void *userdata, sd_bus_message *reply)
{
	struct adapter *adapter = userdata;

	if (sd_bus_message_is_method_error(reply, "org.bluez.Error.Blocked")) {
		set_blocked(adapter);
	} else if (sd_bus_message_is_method_error(reply, "org.bluez.Error.Busy") &&
		   adapter->retry_ms == RETRY_MIN_MS) {
		/* It is being switched on already, by bluetoothd itself where it is a new one. */
		retry_later(adapter);
	} else if (sd_bus_message_is_method_error(reply, NULL)) {
		fail(adapter, "Powered", reply);
	} else if (adapter->powered) {
		run(adapter);
	} else {
		loop_timer_start(&adapter->timer, POWER_WAIT_MS);
	}
}

static void power_on(struct adapter *adapter)
{
	set_trying(adapter, BLE_ADAPTER_OFF, "not powered");
	call(adapter, new_power_message(adapter, true), on_power_set);
}

/* --- The next step --- */

static void run(struct adapter *adapter)
{
	if (!adapter->present || !adapter->used || adapter->discovery ||
	    bus_call_pending(&adapter->call))
		return;
	loop_timer_stop(&adapter->timer);
	adapter->cycling = false;
	if (!adapter->powered && is_blocked(adapter))
		set_blocked(adapter);
	else if (!adapter->powered)
		power_on(adapter);
	else
		start_discovery(adapter);
}

static void on_timeout(void *userdata)
{
	struct adapter *adapter = userdata;

	if (adapter->discovery)
		discovery_ended(adapter);
	else
		run(adapter);
}

static void on_monitor_change(void *userdata)
{
	struct adapter *adapter = userdata;

	adapter->handler.on_status(adapter->userdata);
}

void adapter_init(struct adapter *adapter, struct bluez *bluez, unsigned index,
		  const struct adapter_config *config, const struct adapter_handler *handler,
		  void *userdata)
{
	struct adapter before = *adapter;

	*adapter = (struct adapter){
		.bluez = bluez,
		.handler = *handler,
		.userdata = userdata,
		.config = *config,
		.index = index,
		.present = true,
		.state = BLE_ADAPTER_OFF,
		.reason = "not in use",
		.since_ms = util_now_ms(),
		.retry_ms = RETRY_MIN_MS,
		.supervisor = before.supervisor,
		.adverts = before.adverts,
		.dropped = before.dropped,
		.others = before.others,
		.last_advert_ms = before.last_advert_ms,
		.last_heard_ms = before.last_heard_ms,
		.rate = before.rate,
	};
	snprintf(adapter->address, sizeof(adapter->address), "%s", before.address);
	if (before.address[0] == '\0')
		supervisor_init(&adapter->supervisor, config->silence_ms);
	loop_timer_init(bluez->loop, &adapter->timer, on_timeout, adapter);
	loop_timer_init(bluez->loop, &adapter->watch_timer, on_watch, adapter);
	monitor_init(&adapter->monitor, bluez, index, on_monitor_change, adapter);
}

/* Power-off ends discovery, frees the filter and breaks the links. */
static void went_off(struct adapter *adapter)
{
	adapter->discovery = false;
	bus_call_cancel(&adapter->call);
	adapter->handler.on_off(adapter->userdata, adapter->index);
	if (!adapter->used)
		return;
	if (is_blocked(adapter) || adapter->cycling) {
		adapter->cycling = false;
		run(adapter);
		return;
	}
	set_state(adapter, BLE_ADAPTER_OFF, "switched off");
	loop_timer_start(&adapter->timer, POWER_WAIT_MS);
}

static void update_power(struct adapter *adapter, const struct adapter_props *props)
{
	bool was_powered = adapter->powered, was_blocked = adapter->blocked;

	if (props->powered != TOLD_NOT)
		adapter->powered = props->powered == TOLD_TRUE;
	if (props->blocked != TOLD_NOT)
		adapter->blocked = props->blocked == TOLD_TRUE;
	if (was_powered && !adapter->powered) {
		went_off(adapter);
	} else if (was_powered != adapter->powered || was_blocked != adapter->blocked) {
		adapter->retry_ms = RETRY_MIN_MS;
		if (was_blocked && adapter->used)
			set_state(adapter, BLE_ADAPTER_OFF, "not powered");
		run(adapter);
	}
}

void adapter_update(struct adapter *adapter, const struct adapter_props *props)
{
	if (props->address[0] != '\0')
		memcpy(adapter->address, props->address, sizeof(adapter->address));
	if (props->random != TOLD_NOT)
		adapter->random = props->random == TOLD_TRUE;
	if (props->le != TOLD_NOT)
		adapter->no_le = props->le == TOLD_FALSE;
	update_power(adapter, props);
	if (props->discovering == TOLD_NOT)
		return;
	if (adapter->discovering != (props->discovering == TOLD_TRUE)) {
		adapter->discovering = !adapter->discovering;
		adapter->handler.on_status(adapter->userdata);
	}
	if (!adapter->discovery)
		return;
	if (adapter->discovering)
		loop_timer_stop(&adapter->timer);
	else
		loop_timer_start(&adapter->timer, DISCOVERY_GRACE_MS);
}

void adapter_has_monitors(struct adapter *adapter)
{
	adapter->has_monitors = true;
	if (adapter->discovery)
		monitor_start(&adapter->monitor);
}

static bool tell_stop(struct adapter *adapter)
{
	if (!adapter->discovery)
		return false;
	monitor_stop(&adapter->monitor, true);
	bus_send(&adapter->bluez->bus, new_message(adapter, "StopDiscovery"));
	adapter->discovery = false;
	return true;
}

void adapter_use(struct adapter *adapter)
{
	if (adapter->used)
		return;
	adapter->used = true;
	run(adapter);
}

void adapter_lost(struct adapter *adapter)
{
	bus_call_cancel(&adapter->call);
	loop_timer_stop(&adapter->timer);
	loop_timer_stop(&adapter->watch_timer);
	supervisor_scanning(&adapter->supervisor, false, util_now_ms());
	monitor_stop(&adapter->monitor, false);
	adapter->present = false;
	adapter->used = false;
	adapter->discovery = false;
	adapter->powered = false;
}

bool adapter_usable(const struct adapter *adapter)
{
	return adapter->present && adapter->used && adapter->powered && !adapter->cycling;
}

void adapter_get_address(const struct adapter *adapter, struct ble_address *ret)
{
	*ret = (struct ble_address){.random = adapter->random};
	/* bluetoothd's text, so nothing else can be in it; zero before it was told. */
	for (size_t i = 0; i < sizeof(ret->bytes) && adapter->address[3 * i] != '\0'; i++)
		ret->bytes[i] = (uint8_t)strtoul(&adapter->address[3 * i], NULL, 16);
}

bool adapter_stop(struct adapter *adapter)
{
	bool told = adapter->present && tell_stop(adapter);

	adapter_lost(adapter);
	return told;
}

void adapter_get_status(const struct adapter *adapter, struct ble_adapter_status *ret)
{
	uint64_t now_ms = util_now_ms();

	*ret = (struct ble_adapter_status){
		.index = adapter->index,
		.used = adapter->used,
		.state = adapter->state,
		.fault = adapter->state == BLE_ADAPTER_FAILED ? adapter->fault : BLE_FAULT_NONE,
		.since_ms = adapter->since_ms,
		.powered = adapter->powered,
		.discovering = adapter->discovering,
		.monitor = adapter->powered && monitor_active(&adapter->monitor),
		.adverts = adapter->adverts,
		.dropped = adapter->dropped,
		.adverts_per_10s = rate_tenths(&adapter->rate, now_ms),
		.last_advert_ms = adapter->last_advert_ms,
		.others = adapter->others,
		.last_heard_ms = adapter->last_heard_ms,
	};
	memcpy(ret->address, adapter->address, sizeof(ret->address));
	snprintf(ret->reason, sizeof(ret->reason), "%s", adapter->reason);
	supervisor_get_status(&adapter->supervisor, now_ms, &ret->supervisor);
}
