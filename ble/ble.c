/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/ble.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "agent/util.h"
#include "ble/adapters.h"
#include "ble/link.h"
#include "ble/links.h"
#include "ble/peers.h"

#define STOP_MS 1000
/* bluetoothd finds its adapters one after the other when it starts: what is missing before this is
 * over need not be. */
#define ADAPTERS_WAIT_MS 1500

struct ble {
	struct loop *loop; /* not owned */
	struct adapter_config adapter_config;
	struct ble_handler handler;
	void *userdata; /* not owned */
	struct bluez bluez;
	enum ble_state gone; /* why there is no bluetoothd; valid until bluez.known */
	enum ble_fault gone_fault;
	char gone_reason[BUS_ERROR_TEXT];
	char version[BLE_VERSION_TEXT]; /* of bluetoothd */
	struct adapters adapters;
	bool too_many; /* adapters, and the log knows */
	uint64_t early_until_ms; /* bluetoothd may still be finding adapters */
	char missing[BUS_ERROR_TEXT]; /* adapters, as the log knows */
	unsigned max_devices; /* peers of each adapter */
	struct peers peers;
	struct channels channels;
	struct links links;
	enum ble_state state;
	enum ble_fault fault;
	char reason[BUS_ERROR_TEXT];
	uint64_t since_ms;
	struct loop_timer settle; /* tells what changed, once, from a clean stack */
};

const char *ble_state_name(enum ble_state state)
{
	switch (state) {
	case BLE_STATE_NO_BUS:
		return "no-bus";
	case BLE_STATE_NO_BLUETOOTHD:
		return "no-bluetoothd";
	case BLE_STATE_NO_ACCESS:
		return "no-access";
	case BLE_STATE_NO_ADAPTER:
		return "no-adapter";
	case BLE_STATE_NOT_SCANNING:
		return "not-scanning";
	case BLE_STATE_SCANNING:
		return "scanning";
	}
	return "?";
}

/* --- Status --- */

/* level: of the log line, where it says anything new. */
static void set_state(struct ble *ble, enum ble_state state, enum ble_fault fault,
		      const char *reason, enum log_level level)
{
	ble->fault = fault;
	if (state == ble->state && strcmp(reason, ble->reason) == 0)
		return;
	log_event(level, level < LOG_LEVEL_DEBUG ? LOG_EVENT_BLUETOOTH : LOG_EVENT_NONE,
		  "Bluetooth: %s -> %s%s%s", ble_state_name(ble->state), ble_state_name(state),
		  reason[0] ? ": " : "", reason);
	if (state != ble->state)
		ble->since_ms = util_now_ms();
	ble->state = state;
	snprintf(ble->reason, sizeof(ble->reason), "%s", reason);
}

/* Once for each adapter that is not there while others are. */
static void log_missing(struct ble *ble, const char *missing)
{
	if (strcmp(missing, ble->missing) == 0)
		return;
	if (missing[0])
		log_event(LOG_LEVEL_WARNING, LOG_EVENT_ADAPTER,
			  "Bluetooth: %s: it goes on with what there is", missing);
	snprintf(ble->missing, sizeof(ble->missing), "%s", missing);
}

static void update_adapters(struct ble *ble)
{
	bool early = util_now_ms() < ble->early_until_ms;
	char missing[BUS_ERROR_TEXT], reason[BUS_ERROR_TEXT];
	enum ble_state state = adapters_state(&ble->adapters, reason);

	adapters_missing(&ble->adapters, missing);
	if (state == BLE_STATE_NO_ADAPTER && early) {
		set_state(ble, state, BLE_FAULT_STARTING, "bluetoothd is looking for adapters",
			  LOG_LEVEL_DEBUG);
		return;
	}
	if (state == BLE_STATE_NO_ADAPTER) {
		set_state(ble, state, missing[0] ? BLE_FAULT_MISSING : BLE_FAULT_ABSENT,
			  missing[0] ? missing : "no adapter", LOG_LEVEL_ERROR);
		return;
	}
	if (early)
		missing[0] = '\0';
	else
		log_missing(ble, missing);
	if (missing[0])
		adapters_add_reason(reason, "", missing);
	/* What is wrong with an adapter was logged where it came about. */
	set_state(ble, state, missing[0] ? BLE_FAULT_MISSING : BLE_FAULT_NONE, reason,
		  LOG_LEVEL_DEBUG);
}

static void update_state(struct ble *ble)
{
	if (ble->bluez.known)
		update_adapters(ble);
	else
		set_state(ble, ble->gone, ble->gone_fault, ble->gone_reason,
			  ble->gone == BLE_STATE_NO_ACCESS ? LOG_LEVEL_ERROR : LOG_LEVEL_DEBUG);
}

static void on_settle(void *userdata)
{
	struct ble *ble = userdata;
	uint64_t now_ms = util_now_ms();

	if (ble->early_until_ms > now_ms)
		loop_timer_start(&ble->settle, ble->early_until_ms - now_ms);
	update_state(ble);
	ble->handler.on_status(ble->userdata);
}

static void settle(void *userdata)
{
	struct ble *ble = userdata;

	loop_timer_start(&ble->settle, 0);
}

void ble_get_status(const struct ble *ble, struct ble_status *ret)
{
	*ret = (struct ble_status){
		.state = ble->state,
		.fault = ble->fault,
		.since_ms = ble->since_ms,
		.generation = ble->bluez.generation,
	};
	memcpy(ret->version, ble->version, sizeof(ret->version));
	snprintf(ret->reason, sizeof(ret->reason), "%s", ble->reason);
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		if (ble->adapters.each[i].present)
			adapter_get_status(&ble->adapters.each[i],
					   &ret->adapters[ret->n_adapters++]);
	}
}

/* --- What BlueZ says --- */

static void on_gone(void *userdata, enum ble_state state, enum ble_fault fault, const char *reason)
{
	struct ble *ble = userdata;

	links_lost(&ble->links, LINKS_ALL,
		   state == BLE_STATE_NO_BUS ? "the D-Bus connection was lost"
					     : "bluetoothd went away");
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		if (ble->adapters.each[i].present)
			adapter_lost(&ble->adapters.each[i]);
	}
	peers_clear(&ble->peers);
	channels_clear(&ble->channels);
	ble->version[0] = '\0';
	if (state == ble->gone && strcmp(reason, ble->gone_reason) == 0 && ble->state == state)
		return;
	ble->gone = state;
	ble->gone_fault = fault;
	snprintf(ble->gone_reason, sizeof(ble->gone_reason), "%s", reason);
	settle(ble);
}

static void on_adapter_off(void *userdata, unsigned index)
{
	struct ble *ble = userdata;

	links_lost(&ble->links, index, "the adapter was switched off");
}

static bool has_links(void *userdata, unsigned index)
{
	const struct ble *ble = userdata;

	return links_any(&ble->links, index);
}

static struct adapter *add_adapter(struct ble *ble, unsigned index, const char *address)
{
	static const struct adapter_handler handler = {settle, on_adapter_off, has_links};
	struct adapter *adapter = adapters_slot(&ble->adapters, address);

	if (!adapter) {
		if (!ble->too_many)
			log_event(LOG_LEVEL_WARNING, LOG_EVENT_ADAPTER,
				  "hci%u (%s): ignored, there are %d adapters already", index,
				  address, BLE_ADAPTERS_MAX);
		ble->too_many = true;
		return NULL;
	}
	adapter_init(adapter, &ble->bluez, index, &ble->adapter_config, &handler, ble);
	settle(ble);
	return adapter;
}

static void use_adapter(struct ble *ble, struct adapter *adapter)
{
	adapter_use(adapter);
	/* A device is an object of each adapter that hears it. */
	peers_set_max(&ble->peers, ble->max_devices * adapters_n_used(&ble->adapters));
}

static void on_adapter(void *userdata, unsigned index, const struct adapter_props *props)
{
	struct ble *ble = userdata;
	struct adapter *adapter = adapters_find(&ble->adapters, index);

	if (props->version[0] != '\0')
		memcpy(ble->version, props->version, sizeof(ble->version));
	if (!adapter && props->address[0] != '\0')
		adapter = add_adapter(ble, index, props->address);
	if (!adapter)
		return;
	adapter_update(adapter, props);
	if (!adapter->used && adapters_want(&ble->adapters, adapter))
		use_adapter(ble, adapter);
}

static void on_adapter_removed(void *userdata, unsigned index)
{
	struct ble *ble = userdata;
	struct adapter *adapter = adapters_find(&ble->adapters, index);

	if (!adapter)
		return;
	log_event(LOG_LEVEL_WARNING, LOG_EVENT_ADAPTER, "hci%u (%s): removed", index,
		  adapter->address);
	ble->early_until_ms = 0; /* what is missing now was there */
	adapter_lost(adapter);
	links_lost(&ble->links, index, "the adapter was removed");
	peers_remove_adapter(&ble->peers, index);
	channels_remove_adapter(&ble->channels, index);
	settle(ble);
}

static void on_monitor_manager(void *userdata, unsigned index)
{
	struct ble *ble = userdata;
	struct adapter *adapter = adapters_find(&ble->adapters, index);

	if (adapter)
		adapter_has_monitors(adapter);
}

static void on_adapters_known(void *userdata)
{
	struct ble *ble = userdata;

	ble->early_until_ms = util_now_ms() + ADAPTERS_WAIT_MS;
	settle(ble);
}

/* --- Adverts --- */

/* Takes over what was told. Returns NULL where it is no Blecon device's. */
static struct peer *learn(struct ble *ble, const struct object_key *key,
			  const struct device_props *props, bool *ret_bad)
{
	struct peer *peer = peers_find(&ble->peers, key);
	struct advert advert;

	if (props->data && advert_decode(props->data, props->data_len, &advert) < 0) {
		*ret_bad = true;
		if (peer)
			peers_remove(&ble->peers, peer);
		return NULL;
	}
	if (props->data && !peer) {
		peer = peers_add(&ble->peers, key);
		if (!peer)
			return NULL;
		peer->rssi_dbm = BLE_RSSI_NONE;
		peer->random = true; /* as Blecon devices have it, where it was not told */
	}
	if (!peer)
		return NULL;
	if (props->data)
		peer->advert = advert;
	if (props->random != TOLD_NOT)
		peer->random = props->random == TOLD_TRUE;
	if (props->rssi_told)
		peer->rssi_dbm = props->rssi_dbm;
	else if (props->rssi_gone)
		peer->rssi_dbm = BLE_RSSI_NONE;
	return peer;
}

/* Whether the signal stands for an advert, if it is of a Blecon device. */
static bool is_advert(const struct device_props *props, enum bluez_source source)
{
	switch (source) {
	case BLUEZ_SNAPSHOT:
		return false;
	case BLUEZ_ADDED:
		return props->data && props->rssi_told;
	case BLUEZ_CHANGED:
		/* Service data of other services alone, or with it, is another kind of advert. */
		return props->data || (props->rssi_told && !props->service_data);
	}
	return false;
}

static void tell_advert(struct ble *ble, const struct peer *peer)
{
	struct ble_advert told = {
		.advert = &peer->advert,
		.address.random = peer->random,
		.rssi_dbm = peer->rssi_dbm,
		.adapter = peer->key.adapter,
	};
	char device_id[UTIL_UUID_TEXT];

	if (log_get_level() >= LOG_LEVEL_DEBUG) {
		util_uuid_text(peer->advert.device_id, device_id);
		log_debug("hci%u: advert of %s, flags %02x, %d dBm", told.adapter, device_id,
			  peer->advert.flags, told.rssi_dbm);
	}
	memcpy(told.address.bytes, peer->key.address, sizeof(told.address.bytes));
	ble->handler.on_advert(ble->userdata, &told);
}

static void hear(struct ble *ble, const struct object_key *key, const struct device_props *props,
		 enum bluez_source source)
{
	struct adapter *adapter = adapters_find(&ble->adapters, key->adapter);
	bool bad = false, heard = is_advert(props, source);
	uint64_t now_ms;
	struct peer *peer;

	if (!adapter || !adapter->used)
		return;
	peer = learn(ble, key, props, &bad);
	if (!heard && (source == BLUEZ_SNAPSHOT || !props->rssi_told))
		return;
	/* Whatever advertised it: the radio is not deaf. */
	now_ms = util_now_ms();
	adapter_heard(adapter, now_ms);
	if (heard && bad)
		adapter->dropped++;
	else if (!peer)
		adapter->others++;
	if (!heard || !peer)
		return;
	peers_touch(&ble->peers, peer);
	adapter_count_advert(adapter, now_ms);
	tell_advert(ble, peer);
}

static void on_device(void *userdata, const struct object_key *key,
		      const struct device_props *props, enum bluez_source source)
{
	struct ble *ble = userdata;
	const struct adapter *adapter = adapters_find(&ble->adapters, key->adapter);

	/* Left over by an agent that ended without a goodbye: nobody else would let it go. */
	if (source == BLUEZ_SNAPSHOT && props->connected == TOLD_TRUE && adapter && adapter->used &&
	    (props->data || props->lists_service)) {
		log_info("hci%u: disconnects a device left over by an earlier run", key->adapter);
		link_forget_device(&ble->bluez, key, true);
		return;
	}
	links_device(&ble->links, key, props);
	hear(ble, key, props, source);
}

static void on_device_removed(void *userdata, const struct object_key *key)
{
	struct ble *ble = userdata;
	struct peer *peer = peers_find(&ble->peers, key);

	if (peer)
		peers_remove(&ble->peers, peer);
	channels_remove_device(&ble->channels, key);
	links_device_removed(&ble->links, key);
}

static void on_attribute(void *userdata, const struct object_key *key,
			 enum object_attribute attribute, const char *path)
{
	struct ble *ble = userdata;

	if (attribute == OBJECT_ATTRIBUTE_CCC)
		channels_put_ccc(&ble->channels, path);
	else
		channels_put(&ble->channels, key, attribute == OBJECT_ATTRIBUTE_CHANNEL_1, path);
	links_attribute(&ble->links, key);
}

static void on_characteristic_removed(void *userdata, const char *path)
{
	struct ble *ble = userdata;

	channels_remove(&ble->channels, path);
}

static const struct bluez_handler bluez_handler = {
	.on_gone = on_gone,
	.on_adapter = on_adapter,
	.on_adapter_removed = on_adapter_removed,
	.on_monitor_manager = on_monitor_manager,
	.on_adapters_known = on_adapters_known,
	.on_device = on_device,
	.on_device_removed = on_device_removed,
	.on_attribute = on_attribute,
	.on_characteristic_removed = on_characteristic_removed,
};

/* --- For the agent --- */

int ble_new(struct loop *loop, const struct ble_config *config, const struct ble_handler *handler,
	    void *userdata, struct ble **ret)
{
	struct ble *ble = calloc(1, sizeof(*ble));

	if (!ble)
		return -ENOMEM;
	ble->loop = loop;
	if (adapters_init(&ble->adapters, config->adapters, config->n_adapters) < 0 ||
	    peers_init(&ble->peers, config->max_devices) < 0) {
		adapters_done(&ble->adapters);
		free(ble);
		return -ENOMEM;
	}
	ble->adapter_config.duplicate_data = config->duplicate_data;
	ble->adapter_config.silence_ms = config->silence_ms;
	ble->max_devices = config->max_devices;
	ble->handler = *handler;
	ble->userdata = userdata;
	ble->since_ms = util_now_ms();
	ble->state = ble->gone = BLE_STATE_NO_BUS;
	ble->fault = ble->gone_fault = BLE_FAULT_STARTING;
	snprintf(ble->reason, sizeof(ble->reason), "Bluetooth is starting");
	snprintf(ble->gone_reason, sizeof(ble->gone_reason), "Bluetooth is starting");
	loop_timer_init(loop, &ble->settle, on_settle, ble);
	links_init(&ble->links, loop, &ble->bluez, &ble->channels);
	bluez_init(&ble->bluez, loop, &bluez_handler, ble);
	*ret = ble;
	return 0;
}

void ble_free(struct ble *ble)
{
	bool sent;

	if (!ble)
		return;
	loop_timer_stop(&ble->settle);
	sent = links_stop(&ble->links);
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		if (ble->adapters.each[i].present)
			sent = adapter_stop(&ble->adapters.each[i]) || sent;
	}
	if (sent)
		bluez_sync(&ble->bluez, STOP_MS);
	bluez_done(&ble->bluez);
	peers_done(&ble->peers);
	adapters_done(&ble->adapters);
	free(ble);
}

int ble_link_open(struct ble *ble, unsigned adapter, const struct ble_address *address,
		  enum ble_bearers bearers, const struct ble_link_handler *handler, void *userdata,
		  struct ble_link **ret)
{
	const struct adapter *on = adapters_find(&ble->adapters, adapter);
	struct ble_address local;

	if (!on || !adapter_usable(on))
		return -ENODEV;
	adapter_get_address(on, &local);
	return links_open(&ble->links, adapter, &local, address, bearers, handler, userdata, ret);
}
