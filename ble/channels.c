/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/channels.h"

#include <stdio.h>
#include <string.h>

static void remove_at(struct channels *channels, unsigned i)
{
	struct channels_entry *entry = &channels->entries[i];

	channels->n--;
	memmove(entry, entry + 1, (channels->n - i) * sizeof(*entry));
}

void channels_put(struct channels *channels, const struct object_key *key, const char *path)
{
	struct channels_entry *entry;

	if (strlen(path) >= sizeof(entry->path))
		return;
	channels_remove_device(channels, key);
	if (channels->n == CHANNELS_MAX)
		remove_at(channels, 0);
	entry = &channels->entries[channels->n++];
	entry->key = *key;
	snprintf(entry->path, sizeof(entry->path), "%s", path);
}

const char *channels_find(const struct channels *channels, const struct object_key *key)
{
	for (unsigned i = 0; i < channels->n; i++) {
		if (object_key_equal(&channels->entries[i].key, key))
			return channels->entries[i].path;
	}
	return NULL;
}

void channels_remove(struct channels *channels, const char *path)
{
	for (unsigned i = 0; i < channels->n; i++) {
		if (strcmp(channels->entries[i].path, path) != 0)
			continue;
		remove_at(channels, i);
		return;
	}
}

void channels_remove_device(struct channels *channels, const struct object_key *key)
{
	for (unsigned i = 0; i < channels->n; i++) {
		if (!object_key_equal(&channels->entries[i].key, key))
			continue;
		remove_at(channels, i);
		return;
	}
}

void channels_remove_adapter(struct channels *channels, unsigned adapter)
{
	for (unsigned i = channels->n; i-- > 0;) {
		if (channels->entries[i].key.adapter == adapter)
			remove_at(channels, i);
	}
}

void channels_clear(struct channels *channels)
{
	channels->n = 0;
}
