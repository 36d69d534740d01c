/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Blecon devices bluetoothd has objects of, each with what it advertised last: BlueZ tells an
 * unchanged advert by its RSSI alone. Bounded; the one not heard for longest makes room.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/util.h"
#include "ble/advert.h"
#include "ble/objects.h"

struct peer {
	struct list by_age; /* in peers.by_age */
	struct peer *next; /* in its bucket */
	struct object_key key;
	bool random; /* address type */
	int8_t rssi_dbm; /* last known, or BLE_RSSI_NONE */
	struct advert advert;
};

struct peers {
	struct list by_age; /* oldest first; owns the peers */
	struct peer **buckets;
	size_t n_buckets; /* a power of two */
	unsigned n, max;
	uint64_t seed; /* so that nobody can choose addresses that share a bucket */
};

/* Returns 0 or -ENOMEM. */
int peers_init(struct peers *peers, unsigned max);
void peers_done(struct peers *peers);
/* How many there may be from now on, not fewer than before. */
void peers_set_max(struct peers *peers, unsigned max);
/* NULL where there is none. */
struct peer *peers_find(const struct peers *peers, const struct object_key *key);
/* A new one, all but its key zero; the oldest goes if need be. NULL without memory. */
struct peer *peers_add(struct peers *peers, const struct object_key *key);
/* It was heard now. */
void peers_touch(struct peers *peers, struct peer *peer);
void peers_remove(struct peers *peers, struct peer *peer);
void peers_remove_adapter(struct peers *peers, unsigned adapter);
void peers_clear(struct peers *peers);
