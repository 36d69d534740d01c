/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/ble.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/log.h"
#include "agent/util.h"
#include "ble/adapter.h"
#include "ble/link.h"
#include "ble/peers.h"

#define STOP_MS 1000
/* For the adapter used before to appear again, once bluetoothd has. */
#define PREFERRED_WAIT_MS 1500

struct ble {
	struct loop *loop; /* not owned */
	char *wanted; /* adapter of the configuration; owned */
	bool duplicate_data;
	struct ble_handler handler;
	void *userdata; /* not owned */
	struct bluez bluez;
	enum ble_state gone; /* why there is no bluetoothd; valid until bluez.known */
	char gone_reason[BUS_ERROR_TEXT];
	struct adapter adapters[BLE_ADAPTERS_MAX];
	bool too_many; /* adapters, and the log knows */
	char preferred[BLE_ADDRESS_TEXT]; /* of the adapter used last, empty before any */
	uint64_t known_ms; /* since when bluetoothd is there */
	struct peers peers;
	struct channels channels;
	struct links links;
	enum ble_state state;
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

/* --- Adapters --- */

static struct adapter *find_adapter(struct ble *ble, unsigned index)
{
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		if (ble->adapters[i].present && ble->adapters[i].index == index)
			return &ble->adapters[i];
	}
	return NULL;
}

static struct adapter *used_adapter(struct ble *ble)
{
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		if (ble->adapters[i].present && ble->adapters[i].used)
			return &ble->adapters[i];
	}
	return NULL;
}

/* The slot the address had before, else one never used, else that of an absent one. */
static struct adapter *free_slot(struct ble *ble, const char *address)
{
	struct adapter *unused = NULL, *absent = NULL;

	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		struct adapter *adapter = &ble->adapters[i];

		if (adapter->present)
			continue;
		if (strcasecmp(adapter->address, address) == 0)
			return adapter;
		if (adapter->address[0] == '\0')
			unused = unused ? unused : adapter;
		else
			absent = absent ? absent : adapter;
	}
	if (!unused && absent)
		memset(absent, 0, sizeof(*absent));
	return unused ? unused : absent;
}

static bool is_wanted(const struct ble *ble, const struct adapter *adapter)
{
	char name[16];

	snprintf(name, sizeof(name), "hci%u", adapter->index);
	return strcasecmp(ble->wanted, "auto") == 0 || strcasecmp(ble->wanted, name) == 0 ||
	       strcasecmp(ble->wanted, adapter->address) == 0;
}

/* Not blocked before blocked, then the one in use, then the one used last, then the lowest number. */
static bool is_better(const struct ble *ble, const struct adapter *a, const struct adapter *b)
{
	bool a_preferred = strcmp(a->address, ble->preferred) == 0;
	bool b_preferred = strcmp(b->address, ble->preferred) == 0;
	bool a_blocked = a->state == BLE_ADAPTER_BLOCKED || (a->blocked && !a->powered);
	bool b_blocked = b->state == BLE_ADAPTER_BLOCKED || (b->blocked && !b->powered);

	if (a_blocked != b_blocked)
		return b_blocked;
	if (a->used != b->used)
		return a->used;
	if (a_preferred != b_preferred)
		return a_preferred;
	return a->index < b->index;
}

/* bluetoothd finds adapters one after the other when it starts: whether better is still to come. */
static bool is_early(struct ble *ble, const struct adapter *best)
{
	uint64_t age_ms = util_now_ms() - ble->known_ms;

	if (!ble->preferred[0] || strcmp(best->address, ble->preferred) == 0 ||
	    age_ms >= PREFERRED_WAIT_MS)
		return false;
	loop_timer_start(&ble->settle, PREFERRED_WAIT_MS - age_ms);
	return true;
}

static void choose_adapter(struct ble *ble)
{
	struct adapter *before = used_adapter(ble), *best = NULL;

	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		struct adapter *adapter = &ble->adapters[i];

		if (adapter->present && is_wanted(ble, adapter) &&
		    (!best || is_better(ble, adapter, best)))
			best = adapter;
	}
	if (before == best || (!before && best && is_early(ble, best)))
		return;
	if (before) {
		links_lost(&ble->links, before->index, "another adapter is used now");
		adapter_use(before, false);
	}
	if (best) {
		snprintf(ble->preferred, sizeof(ble->preferred), "%s", best->address);
		adapter_use(best, true);
	}
}

/* --- Status --- */

static void set_state(struct ble *ble, enum ble_state state, const char *reason)
{
	/* The others are logged where they come about. */
	bool fault = state == BLE_STATE_NO_ADAPTER || state == BLE_STATE_NO_ACCESS;

	if (state == ble->state && strcmp(reason, ble->reason) == 0)
		return;
	log_at(fault ? LOG_LEVEL_ERROR : LOG_LEVEL_DEBUG, "Bluetooth: %s -> %s%s%s",
	       ble_state_name(ble->state), ble_state_name(state), reason[0] ? ": " : "", reason);
	if (state != ble->state)
		ble->since_ms = util_now_ms();
	ble->state = state;
	snprintf(ble->reason, sizeof(ble->reason), "%s", reason);
}

static void update_state(struct ble *ble)
{
	const struct adapter *adapter = used_adapter(ble);
	char reason[BUS_ERROR_TEXT];

	if (!ble->bluez.known) {
		set_state(ble, ble->gone, ble->gone_reason);
	} else if (!adapter) {
		snprintf(reason, sizeof(reason), "no adapter that is \"%s\"", ble->wanted);
		set_state(ble, BLE_STATE_NO_ADAPTER,
			  strcasecmp(ble->wanted, "auto") == 0 ? "no adapter" : reason);
	} else if (adapter->state != BLE_ADAPTER_SCANNING) {
		set_state(ble, BLE_STATE_NOT_SCANNING, adapter->reason);
	} else {
		set_state(ble, BLE_STATE_SCANNING, "");
	}
}

static void on_settle(void *userdata)
{
	struct ble *ble = userdata;

	if (ble->bluez.known)
		choose_adapter(ble);
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
		.since_ms = ble->since_ms,
		.generation = ble->bluez.generation,
	};
	snprintf(ret->reason, sizeof(ret->reason), "%s", ble->reason);
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		if (ble->adapters[i].present)
			adapter_get_status(&ble->adapters[i], &ret->adapters[ret->n_adapters++]);
	}
}

/* --- What BlueZ says --- */

static void on_gone(void *userdata, enum ble_state state, const char *reason)
{
	struct ble *ble = userdata;

	links_lost(&ble->links, LINKS_ALL,
		   state == BLE_STATE_NO_BUS ? "the D-Bus connection was lost"
					     : "bluetoothd went away");
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		if (ble->adapters[i].present)
			adapter_lost(&ble->adapters[i]);
	}
	peers_clear(&ble->peers);
	channels_clear(&ble->channels);
	if (state == ble->gone && strcmp(reason, ble->gone_reason) == 0 && ble->state == state)
		return;
	ble->gone = state;
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
	struct adapter *adapter = free_slot(ble, address);

	if (!adapter) {
		if (!ble->too_many)
			log_warning("hci%u (%s): ignored, there are %d adapters already", index,
				    address, BLE_ADAPTERS_MAX);
		ble->too_many = true;
		return NULL;
	}
	adapter_init(adapter, &ble->bluez, index, ble->duplicate_data, &handler, ble);
	settle(ble);
	return adapter;
}

static void on_adapter(void *userdata, unsigned index, const struct adapter_props *props)
{
	struct ble *ble = userdata;
	struct adapter *adapter = find_adapter(ble, index);

	if (!adapter && props->address[0] != '\0')
		adapter = add_adapter(ble, index, props->address);
	if (adapter)
		adapter_update(adapter, props);
}

static void on_adapter_removed(void *userdata, unsigned index)
{
	struct ble *ble = userdata;
	struct adapter *adapter = find_adapter(ble, index);

	if (!adapter)
		return;
	log_warning("hci%u (%s): removed", index, adapter->address);
	adapter_lost(adapter);
	links_lost(&ble->links, index, "the adapter was removed");
	peers_remove_adapter(&ble->peers, index);
	channels_remove_adapter(&ble->channels, index);
	settle(ble);
}

static void on_monitor_manager(void *userdata, unsigned index)
{
	struct adapter *adapter = find_adapter(userdata, index);

	if (adapter)
		adapter_has_monitors(adapter);
}

static void on_adapters_known(void *userdata)
{
	struct ble *ble = userdata;

	ble->known_ms = util_now_ms();
	choose_adapter(ble);
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
	struct adapter *adapter = find_adapter(ble, key->adapter);
	bool bad = false;
	struct peer *peer = learn(ble, key, props, &bad);

	if (!adapter || !adapter->used || !is_advert(props, source))
		return;
	if (bad)
		adapter->dropped++;
	if (!peer)
		return;
	peers_touch(&ble->peers, peer);
	adapter->adverts++;
	adapter->last_advert_ms = util_now_ms();
	tell_advert(ble, peer);
}

static void on_device(void *userdata, const struct object_key *key,
		      const struct device_props *props, enum bluez_source source)
{
	struct ble *ble = userdata;
	const struct adapter *adapter = find_adapter(ble, key->adapter);

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

static void on_channel(void *userdata, const struct object_key *key, const char *path)
{
	struct ble *ble = userdata;

	channels_put(&ble->channels, key, path);
	links_channel(&ble->links, key);
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
	.on_channel = on_channel,
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
	ble->wanted = strdup(config->adapter);
	if (!ble->wanted || peers_init(&ble->peers, config->max_devices) < 0) {
		free(ble->wanted);
		free(ble);
		return -ENOMEM;
	}
	ble->duplicate_data = config->duplicate_data;
	ble->handler = *handler;
	ble->userdata = userdata;
	ble->since_ms = util_now_ms();
	ble->state = ble->gone = BLE_STATE_NO_BUS;
	snprintf(ble->reason, sizeof(ble->reason), "starting");
	snprintf(ble->gone_reason, sizeof(ble->gone_reason), "starting");
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
		if (ble->adapters[i].present)
			sent = adapter_stop(&ble->adapters[i]) || sent;
	}
	if (sent)
		bluez_sync(&ble->bluez, STOP_MS);
	bluez_done(&ble->bluez);
	peers_done(&ble->peers);
	free(ble->wanted);
	free(ble);
}

int ble_link_open(struct ble *ble, unsigned adapter, const struct ble_address *address,
		  const struct ble_link_handler *handler, void *userdata, struct ble_link **ret)
{
	const struct adapter *on = find_adapter(ble, adapter);
	struct object_key key = {.adapter = adapter};

	if (!on || !adapter_usable(on))
		return -ENODEV;
	memcpy(key.address, address->bytes, sizeof(key.address));
	return links_open(&ble->links, &key, handler, userdata, ret);
}
