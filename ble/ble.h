/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The radio as the agent sees it: Bluetooth LE through BlueZ on D-Bus, behind a few callbacks.
 * Survives the restart of the bus and of bluetoothd, and adapters that go and come back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ble/advert.h"

struct loop;
struct ble;
struct ble_link;

#define BLE_ADAPTERS_MAX 8 /* adapters known at once; further ones are ignored and logged */
#define BLE_ADDRESS_TEXT 18 /* "AA:BB:CC:DD:EE:FF" and NUL */
#define BLE_VERSION_TEXT 8 /* "255.255" and NUL */
#define BLE_RSSI_NONE	 127 /* RSSI not available (Bluetooth Core, HCI LE Advertising Report) */
#define BLE_FRAME_MAX	 512 /* longest attribute value, so the longest frame (Core, Vol 3 Part F) */

struct ble_config {
	/* Names (hci0) or addresses of the adapters to use; none: all there are. Copied. */
	const char *const *adapters;
	size_t n_adapters;
	uint32_t silence_ms; /* without an advert until an adapter is helped; 0: never */
	bool duplicate_data; /* DuplicateData of SetDiscoveryFilter */
	/* D-Bus objects of Blecon devices remembered for each adapter; oldest-seen go first */
	unsigned max_devices;
};

struct ble_address {
	uint8_t bytes[6]; /* as written: bytes[0] is the first pair */
	bool random;
};

/* One advertisement heard. */
struct ble_advert {
	const struct advert *advert; /* valid during the callback */
	struct ble_address address; /* changes whenever the device's set is updated */
	int8_t rssi_dbm; /* or BLE_RSSI_NONE */
	unsigned adapter; /* N of hciN */
};

enum ble_adapter_state {
	BLE_ADAPTER_OFF, /* not powered, power asked for */
	BLE_ADAPTER_BLOCKED, /* rfkill */
	BLE_ADAPTER_STARTING, /* filter and discovery asked for */
	BLE_ADAPTER_SCANNING,
	BLE_ADAPTER_FAILED, /* tried again later, reason says why */
};
const char *ble_adapter_state_name(enum ble_adapter_state state);

enum ble_state {
	BLE_STATE_NO_BUS, /* D-Bus not reachable */
	BLE_STATE_NO_BLUETOOTHD, /* org.bluez has no owner */
	BLE_STATE_NO_ACCESS, /* org.bluez is there, and D-Bus does not let us speak to it */
	BLE_STATE_NO_ADAPTER, /* none, or none of those configured */
	BLE_STATE_NOT_SCANNING, /* no adapter in use is scanning: see their states */
	BLE_STATE_SCANNING, /* at least one is; reason says what is wrong with another, if anything */
};
const char *ble_state_name(enum ble_state state);

/* What keeps the radio or an adapter from working, as far as there is something to be done about it. */
enum ble_fault {
	BLE_FAULT_NONE,
	BLE_FAULT_STARTING, /* nothing is wrong yet */
	BLE_FAULT_ABSENT, /* D-Bus, bluetoothd, or any adapter */
	BLE_FAULT_MISSING, /* an adapter that the configuration names */
	BLE_FAULT_DENIED, /* by a file's mode, a D-Bus policy or bluetoothd */
	BLE_FAULT_NOT_READY, /* from here on: as bluetoothd answered */
	BLE_FAULT_IN_PROGRESS,
	BLE_FAULT_NOT_PERMITTED,
	BLE_FAULT_NOT_SUPPORTED,
	BLE_FAULT_NO_ANSWER, /* in time */
	BLE_FAULT_FAILED, /* in any other way */
};

/* What the radio supervisor does about an adapter that hears nothing. */
enum ble_supervisor_step {
	BLE_SUPERVISOR_WATCHING, /* nothing to do */
	BLE_SUPERVISOR_RESTARTED, /* discovery was restarted */
	BLE_SUPERVISOR_CYCLED, /* the adapter was switched off and on */
	BLE_SUPERVISOR_REPORTED, /* both did not help: a person is told */
};
const char *ble_supervisor_step_name(enum ble_supervisor_step step);

struct ble_supervisor_status {
	uint32_t silence_ms; /* without an advert until it does something; 0: never */
	enum ble_supervisor_step step; /* the last one taken in this silence */
	bool reported; /* in this silence, whatever was tried again since */
	char cause[96]; /* of the step, empty while watching */
	uint64_t step_ms; /* monotonic, when; 0 for never since start */
	uint64_t next_ms; /* monotonic, when the next one is due if nothing is heard; 0 for none */
	uint64_t restarts, power_cycles, reports; /* since start */
};

struct ble_adapter_status {
	unsigned index; /* N of hciN */
	char address[BLE_ADDRESS_TEXT];
	bool used; /* chosen by the configuration */
	enum ble_adapter_state state;
	char reason[128]; /* why it does not scan, empty where it does */
	enum ble_fault fault; /* of BLE_ADAPTER_FAILED */
	uint64_t since_ms; /* monotonic, of state */
	bool powered;
	bool discovering; /* as bluetoothd says, for whatever program */
	bool monitor; /* an advertisement monitor is active as well */
	uint64_t adverts; /* heard since start */
	uint64_t dropped; /* FD0D service data that did not decode */
	uint32_t adverts_per_10s; /* in the last 10 s */
	uint64_t last_advert_ms; /* monotonic, 0 for never */
	/* Signals with an RSSI of devices that are not Blecon's. bluetoothd tells them only while
	 * another program scans too: our filter lets none through. */
	uint64_t others;
	uint64_t last_heard_ms; /* monotonic, of any device; 0 for never */
	struct ble_supervisor_status supervisor;
};

struct ble_status {
	enum ble_state state;
	char reason[128];
	enum ble_fault fault; /* kind of it; that of an adapter is with the adapter */
	uint64_t since_ms; /* monotonic, of state */
	unsigned generation; /* how many times bluetoothd was (re)found */
	char version[BLE_VERSION_TEXT]; /* of bluetoothd, "5.66"; empty where it does not say */
	unsigned n_adapters;
	struct ble_adapter_status adapters[BLE_ADAPTERS_MAX];
};

struct ble_handler {
	/* Something in ble_get_status changed other than the counters. */
	void (*on_status)(void *userdata);
	void (*on_advert)(void *userdata, const struct ble_advert *advert);
};

/* Starts at once and goes on by itself; nothing that is missing is an error. handler is copied,
 * userdata not owned. Returns 0 and an object to be freed with ble_free, or -errno. */
int ble_new(struct loop *loop, const struct ble_config *config, const struct ble_handler *handler,
	    void *userdata, struct ble **ret);
/* Stops scanning, disconnects what is connected, waits at most a second for bluetoothd to take the
 * calls. No callback comes any more. NULL is fine. */
void ble_free(struct ble *ble);
void ble_get_status(const struct ble *ble, struct ble_status *ret);

/* --- Links: one connected device with its channel 0 open, and channel 1 where it has it. --- */

enum ble_down {
	BLE_DOWN_LOCAL, /* ble_link_close was called */
	BLE_DOWN_PEER, /* the device or the distance ended an open link */
	BLE_DOWN_CONNECT, /* no connection came about */
	BLE_DOWN_NOT_SERVED, /* connected, but not a Blecon device's service or characteristic */
	BLE_DOWN_TIMEOUT, /* a step did not answer in time */
	BLE_DOWN_RADIO, /* bluetoothd or the adapter went away */
};
const char *ble_down_name(enum ble_down why);

enum ble_bearer { BLE_BEARER_GATT = 0, BLE_BEARER_L2CAP = 1 };
const char *ble_bearer_name(enum ble_bearer bearer);

/* What to try: auto is L2CAP, and GATT where the device does not take that. */
enum ble_bearers { BLE_BEARERS_AUTO, BLE_BEARERS_L2CAP, BLE_BEARERS_GATT };

struct ble_link_handler {
	/* The connection is made, its channels are being opened: ble_link_open may be called for
	 * another device on this adapter. */
	void (*on_connected)(void *userdata);
	/* Channel 0 is open and, where channels is 2, channel 1. max_frame: bytes of the longest
	 * frame towards the device. */
	void (*on_up)(void *userdata, enum ble_bearer bearer, size_t max_frame, unsigned channels);
	/* One frame from the device, valid during the callback. May come before on_up: a device
	 * speaks as soon as its channel 0 is open. */
	void (*on_frame)(void *userdata, unsigned channel, const uint8_t *data, size_t len);
	/* After ble_link_send returned -EAGAIN: it may be tried again. */
	void (*on_writable)(void *userdata);
	/* After ble_link_flush: the radio has taken every frame sent. */
	void (*on_flushed)(void *userdata);
	/* The last callback, exactly once for each link: the slot is free, link is freed after it
	 * returns. text: what happened, for people, valid during the callback. */
	void (*on_down)(void *userdata, enum ble_down why, const char *text);
};

/* Connects the device heard at that address. Attempts are one at a time for each adapter: -EBUSY
 * while another link there is not connected yet. -ENODEV where the adapter is not usable now.
 * Otherwise 0 and *ret, valid until on_down has returned; no callback comes before this returns. handler is
 * copied, userdata not owned. Every step has a deadline. */
int ble_link_open(struct ble *ble, unsigned adapter, const struct ble_address *address,
		  enum ble_bearers bearers, const struct ble_link_handler *handler, void *userdata,
		  struct ble_link **ret);
/* One frame to the device. Returns 0; -EAGAIN (nothing sent, on_writable will follow); -EMSGSIZE;
 * -ENOTCONN while not up; -EINVAL for a channel that is not open. */
int ble_link_send(struct ble_link *link, unsigned channel, const uint8_t *data, size_t len);
/* Holds the device back, or no longer: nothing more is read from it. L2CAP alone can: over GATT
 * frames go on coming. */
void ble_link_hold(struct ble_link *link, bool hold);
/* on_flushed follows, once, unless the link ends before or a frame is sent. */
void ble_link_flush(struct ble_link *link);
/* Lets the device go; on_down follows, later, with BLE_DOWN_LOCAL. May be called in any state and
 * more than once. Of the callbacks only on_down comes after it. */
void ble_link_close(struct ble_link *link);
