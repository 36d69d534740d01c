/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "ble/gatt.h"

/* Our own deadlines are shorter than D-Bus's: bluetoothd has to be told to give up. */
#define CALL_TIMEOUT_MS	   65000
#define CONNECT_MS	   20000
#define CONNECTED_GRACE_MS 2000 /* for Connected to follow a successful Connect */
#define RESOLVE_MS	   15000
#define OBJECTS_GRACE_MS   3000 /* for GATT objects to follow ServicesResolved */
#define OPEN_MS		   8000 /* bluetoothd never answers where a subscription fails */
#define CLOSE_MS	   5000
/* A broken connection is told a moment later: its cause may be bluetoothd or the adapter, whose
 * sockets and devices go first. */
#define CAUSE_MS 100

enum link_state {
	LINK_STATE_CONNECTING, /* Connect */
	LINK_STATE_RESOLVING, /* Connected, ServicesResolved and the characteristic */
	LINK_STATE_OPENING, /* the bearer */
	LINK_STATE_UP,
	LINK_STATE_CLOSING, /* Disconnect */
	LINK_STATE_DOWN, /* to be told and freed from a clean stack */
};

struct ble_link {
	struct list in_list; /* in links.list */
	struct links *links; /* not owned */
	struct object_key key;
	struct ble_link_handler handler;
	void *userdata; /* not owned */
	enum link_state state;
	enum ble_down why; /* from CLOSING on */
	char text[LINK_TEXT_MAX];
	bool connected; /* Device1.Connected */
	bool resolved; /* Device1.ServicesResolved */
	struct loop_timer timer; /* of the state */
	struct bus_call connect;
	struct bus_call query; /* of Connected */
	struct bus_call disconnect;
	struct gatt gatt;
};

static struct ble_link *entry(struct list *l)
{
	return LIST_ENTRY(l, struct ble_link, in_list);
}

const char *ble_down_name(enum ble_down why)
{
	switch (why) {
	case BLE_DOWN_LOCAL:
		return "local";
	case BLE_DOWN_PEER:
		return "peer";
	case BLE_DOWN_CONNECT:
		return "connect";
	case BLE_DOWN_NOT_SERVED:
		return "not-served";
	case BLE_DOWN_TIMEOUT:
		return "timeout";
	case BLE_DOWN_RADIO:
		return "radio";
	}
	return "?";
}

static const char *state_name(enum link_state state)
{
	switch (state) {
	case LINK_STATE_CONNECTING:
		return "connecting";
	case LINK_STATE_RESOLVING:
		return "resolving";
	case LINK_STATE_OPENING:
		return "opening";
	case LINK_STATE_UP:
		return "up";
	case LINK_STATE_CLOSING:
		return "closing";
	case LINK_STATE_DOWN:
		return "down";
	}
	return "?";
}

/* after_ms 0: the state has no deadline. */
static void set_state(struct ble_link *link, enum link_state state, uint64_t after_ms)
{
	char path[OBJECT_PATH_MAX];
	struct bus *bus = &link->links->bluez->bus;
	bool was_opening = link->state < LINK_STATE_UP;

	if (log_get_level() >= LOG_LEVEL_DEBUG) {
		object_device_path(&link->key, path);
		log_debug("link %s: %s -> %s", path, state_name(link->state), state_name(state));
	}
	link->state = state;
	if (was_opening && state >= LINK_STATE_UP)
		bus_release(bus);
	if (after_ms > 0)
		loop_timer_start(&link->timer, after_ms);
	else
		loop_timer_stop(&link->timer);
}

static sd_bus_message *device_message(struct ble_link *link, const char *member)
{
	char path[OBJECT_PATH_MAX];

	object_device_path(&link->key, path);
	return bluez_message(link->links->bluez, path, BLUEZ_DEVICE, member, "");
}

static void link_free(struct ble_link *link)
{
	if (link->state < LINK_STATE_UP)
		bus_release(&link->links->bluez->bus);
	loop_timer_stop(&link->timer);
	bus_call_cancel(&link->connect);
	bus_call_cancel(&link->query);
	bus_call_cancel(&link->disconnect);
	gatt_close(&link->gatt);
	list_remove(&link->in_list);
	link->links->n--;
	free(link);
}

/* --- The end --- */

void link_forget_device(struct bluez *bluez, const struct object_key *key, bool connected)
{
	char adapter[OBJECT_PATH_MAX], device[OBJECT_PATH_MAX];

	object_adapter_path(key->adapter, adapter);
	object_device_path(key, device);
	if (connected)
		bus_send(&bluez->bus, bluez_message(bluez, device, BLUEZ_DEVICE, "Disconnect", ""));
	/* Connect() made it permanent, and its address will hardly come back. */
	bus_send(&bluez->bus,
		 bluez_message(bluez, adapter, BLUEZ_ADAPTER, "RemoveDevice", "o", device));
}

/* The caller of this may be a callback of the bearer or somebody who still uses the link. */
static void set_down(struct ble_link *link, uint64_t after_ms)
{
	bus_call_cancel(&link->connect);
	bus_call_cancel(&link->query);
	bus_call_cancel(&link->disconnect);
	gatt_close(&link->gatt);
	set_state(link, LINK_STATE_DOWN, 0);
	loop_timer_start(&link->timer, after_ms);
}

static uint64_t cause_ms(const struct ble_link *link)
{
	return link->why == BLE_DOWN_PEER || link->why == BLE_DOWN_CONNECT ? CAUSE_MS : 0;
}

static void finish(struct ble_link *link)
{
	link_forget_device(link->links->bluez, &link->key, false);
	set_down(link, cause_ms(link));
}

static void check_closed(struct ble_link *link)
{
	if (link->state == LINK_STATE_CLOSING && !link->connected &&
	    !bus_call_pending(&link->connect) && !bus_call_pending(&link->disconnect))
		finish(link);
}

static void on_disconnected(void *userdata, sd_bus_message *reply)
{
	struct ble_link *link = userdata;
	char text[BUS_ERROR_TEXT];

	if (sd_bus_message_is_method_error(reply, NULL))
		log_debug("Disconnect: %s", bus_error_text(reply, text));
	/* Told when the link is down, and an error is mostly that it was. What is left is for
	 * RemoveDevice, which disconnects too. */
	link->connected = false;
	check_closed(link);
}

static void set_reason(struct ble_link *link, enum ble_down why, const char *text)
{
	link->why = why;
	snprintf(link->text, sizeof(link->text), "%s", text);
}

/* The first reason counts. */
static void end(struct ble_link *link, enum ble_down why, const char *text)
{
	if (link->state == LINK_STATE_UP && why == BLE_DOWN_PEER)
		gatt_drain(&link->gatt);
	if (link->state >= LINK_STATE_CLOSING)
		return;
	set_reason(link, why, text);
	bus_call_cancel(&link->query);
	gatt_close(&link->gatt);
	set_state(link, LINK_STATE_CLOSING, CLOSE_MS);
	if (link->connected || bus_call_pending(&link->connect))
		bus_call(&link->links->bluez->bus, &link->disconnect,
			 device_message(link, "Disconnect"), CALL_TIMEOUT_MS, on_disconnected,
			 link);
	check_closed(link);
}

static void tell_down(struct ble_link *link)
{
	struct ble_link_handler handler = link->handler;

	/* Out of the list first: the callback may open the next link to this device. */
	list_remove(&link->in_list);
	handler.on_down(link->userdata, link->why, link->text);
	link_free(link);
}

static void on_timeout(void *userdata)
{
	struct ble_link *link = userdata;
	char text[LINK_TEXT_MAX];

	switch (link->state) {
	case LINK_STATE_CONNECTING:
		end(link, BLE_DOWN_TIMEOUT, "Connect did not answer");
		break;
	case LINK_STATE_RESOLVING:
		if (!link->connected)
			end(link, BLE_DOWN_CONNECT, "Connect succeeded without a connection");
		else if (!link->resolved)
			end(link, BLE_DOWN_TIMEOUT, "services were not resolved");
		else
			end(link, BLE_DOWN_NOT_SERVED, "no Blecon characteristic in its services");
		break;
	case LINK_STATE_OPENING:
		snprintf(text, sizeof(text), "%s did not answer", gatt_step(&link->gatt));
		end(link, BLE_DOWN_TIMEOUT, text);
		break;
	case LINK_STATE_UP:
		break;
	case LINK_STATE_CLOSING:
		finish(link);
		break;
	case LINK_STATE_DOWN:
		tell_down(link);
		break;
	}
}

/* --- The bearer --- */

static void on_open(void *userdata, size_t max_frame)
{
	struct ble_link *link = userdata;

	set_state(link, LINK_STATE_UP, 0);
	link->handler.on_up(link->userdata, BLE_BEARER_GATT, max_frame);
}

static void on_frame(void *userdata, unsigned channel, const uint8_t *data, size_t len)
{
	struct ble_link *link = userdata;

	link->handler.on_frame(link->userdata, channel, data, len);
}

static void on_writable(void *userdata)
{
	struct ble_link *link = userdata;

	link->handler.on_writable(link->userdata);
}

static void on_fail(void *userdata, enum ble_down why, const char *text)
{
	end(userdata, why, text);
}

static const struct bearer_handler bearer_handler = {on_open, on_frame, on_writable, on_fail};

/* --- The way up --- */

static void check_resolved(struct ble_link *link)
{
	const char *path = channels_find(link->links->channels, &link->key);

	if (link->state != LINK_STATE_RESOLVING || !link->connected || !link->resolved || !path)
		return;
	set_state(link, LINK_STATE_OPENING, OPEN_MS);
	gatt_open(&link->gatt, path);
}

static void on_queried(void *userdata, sd_bus_message *reply);

/* 5.66 does not always tell Connected when it finds the connection in two ways at once. */
static void query(struct ble_link *link)
{
	char path[OBJECT_PATH_MAX];

	object_device_path(&link->key, path);
	bus_call(&link->links->bluez->bus, &link->query,
		 bluez_message(link->links->bluez, path, DBUS_PROPERTIES, "GetAll", "s",
			       BLUEZ_DEVICE),
		 CALL_TIMEOUT_MS, on_queried, link);
}

/* The deadline of what is missing. */
static void set_resolving(struct ble_link *link)
{
	uint64_t after_ms = RESOLVE_MS;

	if (!link->connected)
		after_ms = CONNECTED_GRACE_MS;
	else if (link->resolved)
		after_ms = OBJECTS_GRACE_MS;
	set_state(link, LINK_STATE_RESOLVING, after_ms);
	if (!link->connected && !bus_call_pending(&link->query))
		query(link);
	check_resolved(link);
}

static void on_connected(void *userdata, sd_bus_message *reply)
{
	struct ble_link *link = userdata;
	char error[BUS_ERROR_TEXT], text[LINK_TEXT_MAX];

	if (link->state == LINK_STATE_CLOSING) {
		check_closed(link);
		return;
	}
	if (sd_bus_message_is_method_error(reply, NULL)) {
		snprintf(text, sizeof(text), "Connect: %s", bus_error_text(reply, error));
		end(link, BLE_DOWN_CONNECT, text);
		return;
	}
	set_resolving(link);
}

static void on_connection_lost(struct ble_link *link)
{
	switch (link->state) {
	case LINK_STATE_RESOLVING:
	case LINK_STATE_OPENING:
		end(link, BLE_DOWN_CONNECT, "the connection broke before the channel was open");
		break;
	case LINK_STATE_UP:
		end(link, BLE_DOWN_PEER, "the connection broke");
		break;
	case LINK_STATE_CLOSING:
		check_closed(link);
		break;
	case LINK_STATE_CONNECTING: /* Connect will say why */
	case LINK_STATE_DOWN:
		break;
	}
}

static struct ble_link *find(const struct links *links, const struct object_key *key)
{
	LIST_FOREACH (l, &links->list) {
		if (object_key_equal(&entry(l)->key, key))
			return entry(l);
	}
	return NULL;
}

static void apply(struct ble_link *link, const struct device_props *props)
{
	bool was_connected = link->connected, was_resolved = link->resolved;

	if (props->connected != TOLD_NOT)
		link->connected = props->connected == TOLD_TRUE;
	if (props->resolved != TOLD_NOT)
		link->resolved = props->resolved == TOLD_TRUE;
	if (was_connected && !link->connected)
		on_connection_lost(link);
	else if (link->state == LINK_STATE_RESOLVING &&
		 (was_connected != link->connected || was_resolved != link->resolved))
		set_resolving(link);
}

void links_device(struct links *links, const struct object_key *key,
		  const struct device_props *props)
{
	struct ble_link *link = links->n > 0 ? find(links, key) : NULL;

	if (link)
		apply(link, props);
}

static void on_queried(void *userdata, sd_bus_message *reply)
{
	struct device_props props;

	if (!sd_bus_message_is_method_error(reply, NULL) && device_props_read(reply, &props) >= 0)
		apply(userdata, &props);
}

void links_channel(struct links *links, const struct object_key *key)
{
	struct ble_link *link = find(links, key);

	if (link)
		check_resolved(link);
}

void links_device_removed(struct links *links, const struct object_key *key)
{
	struct ble_link *link = find(links, key);

	if (!link || link->state == LINK_STATE_DOWN)
		return;
	if (link->state < LINK_STATE_CLOSING)
		set_reason(link, link->state == LINK_STATE_UP ? BLE_DOWN_PEER : BLE_DOWN_CONNECT,
			   "bluetoothd removed the device");
	set_down(link, cause_ms(link));
}

void links_lost(struct links *links, unsigned adapter, const char *text)
{
	LIST_FOREACH (l, &links->list) {
		struct ble_link *link = entry(l);

		if (adapter != LINKS_ALL && link->key.adapter != adapter)
			continue;
		/* Also where a consequence of it, a closed socket, was seen a moment before. */
		if (link->why != BLE_DOWN_LOCAL || link->state < LINK_STATE_CLOSING)
			set_reason(link, BLE_DOWN_RADIO, text);
		set_down(link, 0);
	}
}

/* --- For the agent --- */

/* One attempt at a time for each adapter; an attempt that is being given up still is one. */
static bool is_busy(const struct links *links, const struct object_key *key)
{
	if (links->n >= LINKS_MAX)
		return true;
	LIST_FOREACH (l, &links->list) {
		const struct ble_link *link = entry(l);

		if (link->key.adapter == key->adapter &&
		    (link->state < LINK_STATE_UP || bus_call_pending(&link->connect)))
			return true;
		if (object_key_equal(&link->key, key))
			return true;
	}
	return false;
}

int links_open(struct links *links, const struct object_key *key,
	       const struct ble_link_handler *handler, void *userdata, struct ble_link **ret)
{
	struct ble_link *link;

	if (is_busy(links, key))
		return -EBUSY;
	link = calloc(1, sizeof(*link));
	if (!link)
		return -ENOMEM;
	link->links = links;
	link->key = *key;
	link->handler = *handler;
	link->userdata = userdata;
	loop_timer_init(links->loop, &link->timer, on_timeout, link);
	gatt_init(&link->gatt, links->bluez, &bearer_handler, link);
	list_append(&links->list, &link->in_list);
	links->n++;
	bus_hold(&links->bluez->bus);
	set_state(link, LINK_STATE_CONNECTING, CONNECT_MS);
	bus_call(&links->bluez->bus, &link->connect, device_message(link, "Connect"),
		 CALL_TIMEOUT_MS, on_connected, link);
	*ret = link;
	return 0;
}

int ble_link_send(struct ble_link *link, unsigned channel, const uint8_t *data, size_t len)
{
	if (channel != 0)
		return -EINVAL;
	if (link->state != LINK_STATE_UP)
		return -ENOTCONN;
	return gatt_send(&link->gatt, data, len);
}

void ble_link_close(struct ble_link *link)
{
	end(link, BLE_DOWN_LOCAL, "closed here");
}

void links_init(struct links *links, struct loop *loop, struct bluez *bluez,
		const struct channels *channels)
{
	*links = (struct links){.loop = loop, .bluez = bluez, .channels = channels};
	list_init(&links->list);
}

bool links_any(const struct links *links, unsigned adapter)
{
	LIST_FOREACH (l, &links->list) {
		if (entry(l)->key.adapter == adapter)
			return true;
	}
	return false;
}

bool links_stop(struct links *links)
{
	bool sent = false;

	LIST_FOREACH_SAFE (l, &links->list) {
		struct ble_link *link = entry(l);

		if (link->state != LINK_STATE_DOWN) {
			link_forget_device(links->bluez, &link->key, true);
			sent = true;
		}
		link_free(link);
	}
	return sent;
}
