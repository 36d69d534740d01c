/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct devices {
	struct device **buckets;
	unsigned shift; /* 64 - log2 of how many buckets there are */
	size_t max;
	uint64_t lost_after_ms;
	uint64_t key[2]; /* random, so that which IDs share a bucket is not known beforehand */
	struct list seen;
	struct list dirty;
	struct list batch;
	size_t n_urgent;
	struct devices_counters counters;
};

static const char *const state_names[] = {
	[DEVICE_STATE_APPEARED] = "appeared",
	[DEVICE_STATE_PRESENT] = "present",
	[DEVICE_STATE_LOST] = "lost",
};

const char *device_state_name(enum device_state state)
{
	return state_names[state];
}

int devices_new(size_t max, uint64_t lost_after_ms, struct devices **ret)
{
	struct devices *devices = calloc(1, sizeof(*devices));

	if (!devices)
		return -ENOMEM;
	devices->shift = 64 - 4;
	while (UINT64_C(1) << (64 - devices->shift) < max)
		devices->shift--;
	devices->buckets = calloc((size_t)1 << (64 - devices->shift), sizeof(*devices->buckets));
	if (!devices->buckets) {
		free(devices);
		return -ENOMEM;
	}
	devices->max = max;
	devices->lost_after_ms = lost_after_ms;
	util_random(devices->key, sizeof(devices->key));
	list_init(&devices->seen);
	list_init(&devices->dirty);
	list_init(&devices->batch);
	*ret = devices;
	return 0;
}

static void device_free(struct device *device)
{
	free(device->failure);
	free(device);
}

void devices_free(struct devices *devices)
{
	if (!devices)
		return;
	LIST_FOREACH_SAFE (l, &devices->seen) {
		device_free(LIST_ENTRY(l, struct device, seen));
	}
	free(devices->buckets);
	free(devices);
}

void devices_configure(struct devices *devices, uint64_t lost_after_ms)
{
	devices->lost_after_ms = lost_after_ms;
}

static struct device **bucket(struct devices *devices, const uint8_t id[16])
{
	uint64_t half[2];

	/* A Device ID is random already; multiplying by odd secrets spreads what is not. */
	memcpy(half, id, sizeof(half));
	half[0] = (half[0] ^ devices->key[0]) * (devices->key[1] | 1);
	half[0] = (half[0] ^ (half[0] >> 32) ^ half[1]) * (devices->key[0] | 1);
	/* The highest bits: only they depend on all others. */
	return &devices->buckets[half[0] >> devices->shift];
}

struct device *devices_find(struct devices *devices, const uint8_t device_id[16])
{
	for (struct device *d = *bucket(devices, device_id); d; d = d->next) {
		if (memcmp(d->advert.device_id, device_id, 16) == 0)
			return d;
	}
	return NULL;
}

static void unlink_device(struct devices *devices, struct device *device)
{
	struct device **p = bucket(devices, device->advert.device_id);

	while (*p != device)
		p = &(*p)->next;
	*p = device->next;
	list_remove(&device->seen);
	if (device->is_dirty) {
		list_remove(&device->dirty);
		devices->counters.dirty--;
	}
	if (device->urgent)
		devices->n_urgent--;
	if (device->state != DEVICE_STATE_LOST)
		devices->counters.present--;
	devices->counters.known--;
}

/* Makes room: the one heard least recently goes, but never out of a batch or a session. */
static bool evict(struct devices *devices)
{
	LIST_FOREACH (l, &devices->seen) {
		struct device *device = LIST_ENTRY(l, struct device, seen);

		if (device->in_batch || device->connected)
			continue;
		devices->counters.evicted++;
		devices->counters.evicted_adverts += device->pending.count;
		unlink_device(devices, device);
		device_free(device);
		return true;
	}
	return false;
}

static void mark(struct devices *devices, struct device *device, bool urgent)
{
	if (!device->is_dirty) {
		device->is_dirty = true;
		list_append(&devices->dirty, &device->dirty);
		devices->counters.dirty++;
	}
	if (urgent && !device->urgent) {
		device->urgent = true;
		devices->n_urgent++;
	}
}

static void rssi_merge(struct device_rssi *rssi, int8_t dbm)
{
	if (dbm == BLE_RSSI_NONE)
		return;
	if (rssi->last == BLE_RSSI_NONE)
		rssi->min = rssi->max = dbm;
	rssi->last = dbm;
	rssi->min = MIN(rssi->min, dbm);
	rssi->max = MAX(rssi->max, dbm);
}

static const struct device_rssi rssi_none = {BLE_RSSI_NONE, BLE_RSSI_NONE, BLE_RSSI_NONE};

static struct device *add(struct devices *devices, const struct advert *advert)
{
	struct device **p = bucket(devices, advert->device_id);
	struct device *device;

	if (devices->counters.known >= devices->max && !evict(devices))
		return NULL;
	device = calloc(1, sizeof(*device));
	if (!device)
		return NULL;
	device->advert = *advert;
	device->state = DEVICE_STATE_LOST; /* until its advert is counted */
	device->next = *p;
	*p = device;
	list_append(&devices->seen, &device->seen);
	devices->counters.known++;
	return device;
}

/* Adds one advert to what is to be told. */
static void pend(struct devices *devices, struct device *device, uint64_t now_ms, int8_t dbm,
		 enum device_state state)
{
	struct device_span *span = &device->pending;

	if (span->count == 0) {
		span->first_ms = now_ms;
		span->rssi = rssi_none;
		span->state = state;
	} else if (state == DEVICE_STATE_APPEARED || span->state == DEVICE_STATE_LOST) {
		span->state = DEVICE_STATE_APPEARED;
	}
	devices->counters.merged += span->count > 0;
	span->count++;
	span->last_ms = now_ms;
	span->adapter = device->adapter;
	memcpy(span->data, device->advert.data, ADVERT_LEN);
	rssi_merge(&span->rssi, dbm);
}

struct device *devices_heard(struct devices *devices, uint64_t now_ms,
			     const struct ble_advert *advert)
{
	struct device *device = devices_find(devices, advert->advert->device_id);
	bool appears, changed;

	devices->counters.adverts++;
	if (!device)
		device = add(devices, advert->advert);
	if (!device) {
		devices->counters.evicted_adverts++;
		return NULL;
	}
	appears = device->state == DEVICE_STATE_LOST;
	changed = device->advert.flags != advert->advert->flags;
	if (appears) {
		device->rssi = rssi_none;
		device->first_ms = now_ms;
		device->state = DEVICE_STATE_PRESENT;
		devices->counters.present++;
	}
	device->advert = *advert->advert;
	device->address = advert->address;
	device->adapter = advert->adapter;
	device->count++;
	device->last_ms = now_ms;
	rssi_merge(&device->rssi, advert->rssi_dbm);
	list_remove(&device->seen);
	list_append(&devices->seen, &device->seen);
	pend(devices, device, now_ms, advert->rssi_dbm,
	     appears ? DEVICE_STATE_APPEARED : DEVICE_STATE_PRESENT);
	mark(devices, device, appears || changed);
	return device;
}

/* The device of a sighting that is taken over; NULL where there is none, or it has such a one. */
static struct device *restored(struct devices *devices, const struct device_span *span,
			       bool in_batch)
{
	struct device *device;
	struct advert advert;

	if (advert_decode(span->data, sizeof(span->data), &advert) < 0)
		return NULL;
	device = devices_find(devices, advert.device_id);
	if (!device)
		return add(devices, &advert);
	return (in_batch ? device->in_batch : device->is_dirty) ? NULL : device;
}

void devices_restore(struct devices *devices, const struct device_span *span, bool in_batch)
{
	struct device *device = restored(devices, span, in_batch);

	if (!device) {
		devices->counters.evicted++;
		devices->counters.evicted_adverts += span->count;
		return;
	}
	devices->counters.kept++;
	advert_decode(span->data, sizeof(span->data), &device->advert);
	device->adapter = span->adapter;
	device->rssi = span->rssi;
	device->first_ms = span->first_ms;
	device->last_ms = span->last_ms;
	list_remove(&device->seen);
	list_append(&devices->seen, &device->seen);
	if (in_batch) {
		device->sent = *span;
		device->in_batch = true;
		list_append(&devices->batch, &device->batch);
	} else {
		device->pending = *span;
		mark(devices, device, true);
	}
}

static void lose(struct devices *devices, struct device *device)
{
	device->state = DEVICE_STATE_LOST;
	devices->counters.present--;
	if (device->pending.count == 0) {
		device->pending.first_ms = device->pending.last_ms = device->last_ms;
		device->pending.rssi = device->rssi;
		device->pending.adapter = device->adapter;
		memcpy(device->pending.data, device->advert.data, ADVERT_LEN);
	}
	device->pending.state = DEVICE_STATE_LOST;
	mark(devices, device, true);
}

void device_failed(struct device *device, uint64_t now_ms, uint32_t wait_ms, const char *reason)
{
	char *copy = strdup(reason);

	device->failures++;
	device->failed_ms = now_ms;
	device->retry_ms = now_ms + wait_ms;
	if (!copy)
		return;
	free(device->failure);
	device->failure = copy;
}

uint64_t devices_expire(struct devices *devices, uint64_t now_ms)
{
	uint64_t next_ms = UINT64_MAX;

	LIST_FOREACH (l, &devices->seen) {
		struct device *device = LIST_ENTRY(l, struct device, seen);

		if (device->state == DEVICE_STATE_LOST)
			continue;
		if (device->connected) {
			next_ms = MIN(next_ms, now_ms + devices->lost_after_ms);
			continue;
		}
		if (device->last_ms + devices->lost_after_ms > now_ms)
			return MIN(next_ms, device->last_ms + devices->lost_after_ms);
		lose(devices, device);
	}
	return next_ms;
}

void devices_connected(struct devices *devices, struct device *device, uint64_t now_ms,
		       bool connected)
{
	device->connected = connected;
	/* It was there until now. */
	device->last_ms = now_ms;
	list_remove(&device->seen);
	list_append(&devices->seen, &device->seen);
}

size_t devices_urgent(const struct devices *devices)
{
	return devices->n_urgent;
}

size_t devices_batch_begin(struct devices *devices, size_t max, bool urgent_only)
{
	size_t n = 0;

	LIST_FOREACH_SAFE (l, &devices->dirty) {
		struct device *device = LIST_ENTRY(l, struct device, dirty);

		if (n == max)
			break;
		if (urgent_only && !device->urgent)
			continue;
		list_remove(&device->dirty);
		devices->counters.dirty--;
		device->is_dirty = false;
		if (device->urgent)
			devices->n_urgent--;
		device->urgent = false;
		device->sent = device->pending;
		device->pending = (struct device_span){0};
		device->in_batch = true;
		list_append(&devices->batch, &device->batch);
		n++;
	}
	return n;
}

void devices_batch_done(struct devices *devices)
{
	LIST_FOREACH_SAFE (l, &devices->batch) {
		struct device *device = LIST_ENTRY(l, struct device, batch);

		list_remove(&device->batch);
		device->in_batch = false;
	}
}

void devices_batch_each(struct devices *devices,
			void (*each)(void *userdata, const struct device *device), void *userdata)
{
	LIST_FOREACH (l, &devices->batch) {
		each(userdata, LIST_ENTRY(l, struct device, batch));
	}
}

void devices_each(struct devices *devices,
		  void (*each)(void *userdata, const struct device *device), void *userdata)
{
	LIST_FOREACH (l, &devices->seen) {
		each(userdata, LIST_ENTRY(l, struct device, seen));
	}
}

void devices_get_counters(const struct devices *devices, struct devices_counters *ret)
{
	*ret = devices->counters;
}
