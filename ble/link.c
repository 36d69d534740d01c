/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/log.h"
#include "ble/links.h"

/* Our own deadlines are shorter than D-Bus's: bluetoothd has to be told to give up. CONNECT_MS is
 * what other devices wait behind one that has gone. */
#define CALL_TIMEOUT_MS	   65000
#define CONNECT_MS	   6000
#define CONNECTED_GRACE_MS 2000 /* for Connected to follow a successful Connect */
#define L2CAP_MS	   3000
#define RESOLVE_MS	   10000
#define OBJECTS_GRACE_MS   3000 /* for GATT objects to follow ServicesResolved */
#define GATT_MS		   5000 /* bluetoothd never answers where a subscription fails */
#define CLOSE_MS	   5000
/* A broken connection is told a moment later: its cause may be bluetoothd or the adapter, whose
 * sockets and devices go first. */
#define CAUSE_MS 100

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

const char *ble_bearer_name(enum ble_bearer bearer)
{
	return bearer == BLE_BEARER_L2CAP ? "l2cap" : "gatt";
}

static const char *const state_names[] = {
	[LINK_STATE_CONNECTING] = "connecting",
	[LINK_STATE_L2CAP] = "opening L2CAP",
	[LINK_STATE_RESOLVING] = "resolving",
	[LINK_STATE_GATT] = "opening GATT",
	[LINK_STATE_UP] = "up",
	[LINK_STATE_CLOSING] = "closing",
	[LINK_STATE_DOWN] = "down",
};

/* after_ms 0: the state has no deadline. */
static void set_state(struct ble_link *link, enum link_state state, uint64_t after_ms)
{
	char path[OBJECT_PATH_MAX];
	struct bus *bus = &link->links->bluez->bus;
	bool was_opening = link->state < LINK_STATE_UP;

	if (log_get_level() >= LOG_LEVEL_DEBUG) {
		object_device_path(&link->key, path);
		log_debug("link %s: %s -> %s", path, state_names[link->state], state_names[state]);
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

static void close_bearers(struct ble_link *link)
{
	l2cap_close(&link->l2cap);
	gatt_close(&link->gatt);
}

void link_free(struct ble_link *link)
{
	if (link->state < LINK_STATE_UP)
		bus_release(&link->links->bluez->bus);
	loop_timer_stop(&link->timer);
	bus_call_cancel(&link->connect);
	bus_call_cancel(&link->query);
	bus_call_cancel(&link->disconnect);
	close_bearers(link);
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
	close_bearers(link);
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

static void drain(struct ble_link *link)
{
	if (link->bearer == BLE_BEARER_L2CAP)
		l2cap_drain(&link->l2cap);
	else
		gatt_drain(&link->gatt);
}

/* The first reason counts. */
static void end(struct ble_link *link, enum ble_down why, const char *text)
{
	if (link->state == LINK_STATE_UP && why == BLE_DOWN_PEER)
		drain(link);
	if (link->state >= LINK_STATE_CLOSING)
		return;
	set_reason(link, why, text);
	bus_call_cancel(&link->query);
	close_bearers(link);
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

static void not_l2cap(struct ble_link *link, enum ble_down why, const char *text);

static void on_timeout(void *userdata)
{
	struct ble_link *link = userdata;
	char text[LINK_TEXT_MAX];

	switch (link->state) {
	case LINK_STATE_CONNECTING:
		if (bus_call_pending(&link->connect))
			end(link, BLE_DOWN_TIMEOUT, "Connect did not answer");
		else
			end(link, BLE_DOWN_CONNECT, "Connect succeeded without a connection");
		break;
	case LINK_STATE_L2CAP:
		not_l2cap(link, BLE_DOWN_TIMEOUT, "L2CAP: no answer from the device");
		break;
	case LINK_STATE_RESOLVING:
		if (!link->resolved)
			end(link, BLE_DOWN_TIMEOUT, "services were not resolved");
		else
			end(link, BLE_DOWN_NOT_SERVED, "no Blecon characteristic in its services");
		break;
	case LINK_STATE_GATT:
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

static void on_open(void *userdata, size_t max_frame, unsigned channels)
{
	struct ble_link *link = userdata;

	set_state(link, LINK_STATE_UP, 0);
	link->handler.on_up(link->userdata, link->bearer, max_frame, channels);
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

static void on_flushed(void *userdata)
{
	struct ble_link *link = userdata;

	link->handler.on_flushed(link->userdata);
}

static void on_fail(void *userdata, enum ble_down why, const char *text)
{
	struct ble_link *link = userdata;

	/* Once channel 0 was open a device that closes it does not want GATT instead. */
	if (link->state == LINK_STATE_L2CAP && why != BLE_DOWN_PEER)
		not_l2cap(link, why, text);
	else
		end(link, why, text);
}

static const struct bearer_handler bearer_handler = {on_open, on_frame, on_writable, on_flushed,
						     on_fail};

/* --- The way up --- */

void link_check_resolved(struct ble_link *link)
{
	const struct channels *channels = link->links->channels;
	const struct channel *first = channels_find(channels, &link->key, 0);

	if (link->state != LINK_STATE_RESOLVING || !link->resolved || !first)
		return;
	link->bearer = BLE_BEARER_GATT;
	set_state(link, LINK_STATE_GATT, GATT_MS);
	gatt_open(&link->gatt, first, channels_find(channels, &link->key, 1));
}

static void resolve(struct ble_link *link)
{
	set_state(link, LINK_STATE_RESOLVING, link->resolved ? OBJECTS_GRACE_MS : RESOLVE_MS);
	link_check_resolved(link);
}

/* The connection itself may be fine, and GATT as good; if it is not, that will be told. */
static void not_l2cap(struct ble_link *link, enum ble_down why, const char *text)
{
	if (link->bearers == BLE_BEARERS_L2CAP) {
		end(link, why, text);
		return;
	}
	log_debug("link: no L2CAP (%s), trying GATT", text);
	l2cap_close(&link->l2cap);
	resolve(link);
}

static void established(struct ble_link *link)
{
	/* The adapter is free for others: not CONNECTING before that is told. */
	if (link->bearers == BLE_BEARERS_GATT) {
		resolve(link);
	} else {
		link->bearer = BLE_BEARER_L2CAP;
		set_state(link, LINK_STATE_L2CAP, L2CAP_MS);
		l2cap_open(&link->l2cap, &link->local, &link->peer);
	}
	link->handler.on_connected(link->userdata);
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

static void on_connected(void *userdata, sd_bus_message *reply)
{
	struct ble_link *link = userdata;
	char error[BUS_ERROR_TEXT], text[LINK_TEXT_MAX];

	if (link->state == LINK_STATE_CLOSING) {
		check_closed(link);
	} else if (sd_bus_message_is_method_error(reply, NULL)) {
		snprintf(text, sizeof(text), "Connect: %s", bus_error_text(reply, error));
		end(link, BLE_DOWN_CONNECT, text);
	} else if (link->connected) {
		established(link);
	} else {
		loop_timer_start(&link->timer, CONNECTED_GRACE_MS);
		query(link);
	}
}

static void on_connection_lost(struct ble_link *link)
{
	switch (link->state) {
	case LINK_STATE_L2CAP:
	case LINK_STATE_RESOLVING:
	case LINK_STATE_GATT:
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

void link_update(struct ble_link *link, const struct device_props *props)
{
	bool was_connected = link->connected, was_resolved = link->resolved;

	if (props->connected != TOLD_NOT)
		link->connected = props->connected == TOLD_TRUE;
	if (props->resolved != TOLD_NOT)
		link->resolved = props->resolved == TOLD_TRUE;
	if (was_connected && !link->connected)
		on_connection_lost(link);
	else if (link->state == LINK_STATE_CONNECTING && link->connected &&
		 !bus_call_pending(&link->connect))
		established(link);
	else if (link->state == LINK_STATE_RESOLVING && was_resolved != link->resolved)
		resolve(link);
}

static void on_queried(void *userdata, sd_bus_message *reply)
{
	struct device_props props;

	if (!sd_bus_message_is_method_error(reply, NULL) && device_props_read(reply, &props) >= 0)
		link_update(userdata, &props);
}

void link_removed(struct ble_link *link)
{
	if (link->state == LINK_STATE_DOWN)
		return;
	if (link->state < LINK_STATE_CLOSING)
		set_reason(link, link->state == LINK_STATE_UP ? BLE_DOWN_PEER : BLE_DOWN_CONNECT,
			   "bluetoothd removed the device");
	set_down(link, cause_ms(link));
}

void link_lost(struct ble_link *link, const char *text)
{
	/* Also where a consequence of it, a closed socket, was seen a moment before. */
	if (link->why != BLE_DOWN_LOCAL || link->state < LINK_STATE_CLOSING)
		set_reason(link, BLE_DOWN_RADIO, text);
	set_down(link, 0);
}

bool link_is_attempt(const struct ble_link *link)
{
	return link->state == LINK_STATE_CONNECTING || bus_call_pending(&link->connect);
}

void link_start(struct ble_link *link)
{
	struct links *links = link->links;

	loop_timer_init(links->loop, &link->timer, on_timeout, link);
	l2cap_init(&link->l2cap, links->loop, &bearer_handler, link);
	gatt_init(&link->gatt, links->bluez, &bearer_handler, link);
	bus_hold(&links->bluez->bus);
	set_state(link, LINK_STATE_CONNECTING, CONNECT_MS);
	bus_call(&links->bluez->bus, &link->connect, device_message(link, "Connect"),
		 CALL_TIMEOUT_MS, on_connected, link);
}

/* --- For the agent --- */

int ble_link_send(struct ble_link *link, unsigned channel, const uint8_t *data, size_t len)
{
	if (channel >= BEARER_CHANNELS)
		return -EINVAL;
	if (link->state != LINK_STATE_UP)
		return -ENOTCONN;
	if (link->bearer == BLE_BEARER_L2CAP)
		return l2cap_send(&link->l2cap, channel, data, len);
	return gatt_send(&link->gatt, channel, data, len);
}

void ble_link_hold(struct ble_link *link, bool hold)
{
	if (link->state == LINK_STATE_UP && link->bearer == BLE_BEARER_L2CAP)
		l2cap_hold(&link->l2cap, hold);
}

void ble_link_flush(struct ble_link *link)
{
	if (link->state != LINK_STATE_UP)
		return;
	if (link->bearer == BLE_BEARER_L2CAP)
		l2cap_flush(&link->l2cap);
	else
		gatt_flush(&link->gatt);
}

void ble_link_close(struct ble_link *link)
{
	end(link, BLE_DOWN_LOCAL, "closed here");
}
