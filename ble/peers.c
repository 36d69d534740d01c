/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/peers.h"

#include <stdlib.h>

#define BUCKETS_MAX 16384

static struct peer *entry(struct list *l)
{
	return LIST_ENTRY(l, struct peer, by_age);
}

static struct peer **bucket_of(const struct peers *peers, const struct object_key *key)
{
	uint64_t hash = peers->seed ^ key->adapter;

	for (int i = 0; i < 6; i++)
		hash = (hash ^ key->address[i]) * UINT64_C(0x100000001b3);
	return &peers->buckets[(hash ^ hash >> 32) & (peers->n_buckets - 1)];
}

int peers_init(struct peers *peers, unsigned max)
{
	size_t n = 16;

	while (n < max && n < BUCKETS_MAX)
		n *= 2;
	*peers = (struct peers){.n_buckets = n, .max = MAX(max, 1u)};
	list_init(&peers->by_age);
	util_random(&peers->seed, sizeof(peers->seed));
	peers->buckets = calloc(n, sizeof(struct peer *));
	return peers->buckets ? 0 : -ENOMEM;
}

void peers_done(struct peers *peers)
{
	peers_clear(peers);
	free(peers->buckets);
	peers->buckets = NULL;
}

void peers_set_max(struct peers *peers, unsigned max)
{
	peers->max = MAX(peers->max, max);
}

struct peer *peers_find(const struct peers *peers, const struct object_key *key)
{
	struct peer *peer = *bucket_of(peers, key);

	while (peer && !object_key_equal(&peer->key, key))
		peer = peer->next;
	return peer;
}

struct peer *peers_add(struct peers *peers, const struct object_key *key)
{
	struct peer **bucket = bucket_of(peers, key);
	struct peer *peer;

	if (peers->n >= peers->max)
		peers_remove(peers, entry(peers->by_age.next));
	peer = calloc(1, sizeof(*peer));
	if (!peer)
		return NULL;
	peer->key = *key;
	peer->next = *bucket;
	*bucket = peer;
	list_append(&peers->by_age, &peer->by_age);
	peers->n++;
	return peer;
}

void peers_touch(struct peers *peers, struct peer *peer)
{
	list_remove(&peer->by_age);
	list_append(&peers->by_age, &peer->by_age);
}

void peers_remove(struct peers *peers, struct peer *peer)
{
	struct peer **link = bucket_of(peers, &peer->key);

	while (*link != peer)
		link = &(*link)->next;
	*link = peer->next;
	list_remove(&peer->by_age);
	peers->n--;
	free(peer);
}

void peers_remove_adapter(struct peers *peers, unsigned adapter)
{
	LIST_FOREACH_SAFE (l, &peers->by_age) {
		if (entry(l)->key.adapter == adapter)
			peers_remove(peers, entry(l));
	}
}

void peers_clear(struct peers *peers)
{
	if (!peers->buckets)
		return;
	LIST_FOREACH_SAFE (l, &peers->by_age)
		peers_remove(peers, entry(l));
}
