/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/links.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ble/link.h"

static struct ble_link *entry(struct list *l)
{
	return LIST_ENTRY(l, struct ble_link, in_list);
}

static struct ble_link *find(const struct links *links, const struct object_key *key)
{
	LIST_FOREACH (l, &links->list) {
		if (object_key_equal(&entry(l)->key, key))
			return entry(l);
	}
	return NULL;
}

void links_init(struct links *links, struct loop *loop, struct bluez *bluez,
		const struct channels *channels)
{
	*links = (struct links){.loop = loop, .bluez = bluez, .channels = channels};
	list_init(&links->list);
}

static bool is_busy(const struct links *links, const struct object_key *key)
{
	if (links->n >= LINKS_MAX || find(links, key))
		return true;
	LIST_FOREACH (l, &links->list) {
		if (entry(l)->key.adapter == key->adapter && link_is_attempt(entry(l)))
			return true;
	}
	return false;
}

int links_open(struct links *links, unsigned adapter, const struct ble_address *local,
	       const struct ble_address *peer, enum ble_bearers bearers,
	       const struct ble_link_handler *handler, void *userdata, struct ble_link **ret)
{
	struct object_key key = {.adapter = adapter};
	struct ble_link *link;

	memcpy(key.address, peer->bytes, sizeof(key.address));
	if (is_busy(links, &key))
		return -EBUSY;
	link = calloc(1, sizeof(*link));
	if (!link)
		return -ENOMEM;
	link->links = links;
	link->key = key;
	link->local = *local;
	link->peer = *peer;
	link->bearers = bearers;
	link->handler = *handler;
	link->userdata = userdata;
	list_append(&links->list, &link->in_list);
	links->n++;
	link_start(link);
	*ret = link;
	return 0;
}

void links_device(struct links *links, const struct object_key *key,
		  const struct device_props *props)
{
	struct ble_link *link = links->n > 0 ? find(links, key) : NULL;

	if (link)
		link_update(link, props);
}

void links_device_removed(struct links *links, const struct object_key *key)
{
	struct ble_link *link = find(links, key);

	if (link)
		link_removed(link);
}

void links_attribute(struct links *links, const struct object_key *key)
{
	struct ble_link *link = find(links, key);

	if (link)
		link_check_resolved(link);
}

void links_lost(struct links *links, unsigned adapter, const char *text)
{
	LIST_FOREACH (l, &links->list) {
		if (adapter == LINKS_ALL || entry(l)->key.adapter == adapter)
			link_lost(entry(l), text);
	}
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
