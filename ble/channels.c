/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/channels.h"

#include <stdio.h>
#include <string.h>

static void remove_at(struct channels *channels, unsigned i)
{
	struct channel *channel = &channels->entries[i];

	channels->n--;
	memmove(channel, channel + 1, (channels->n - i) * sizeof(*channel));
}

void channels_put(struct channels *channels, const struct object_key *key, unsigned number,
		  const char *path)
{
	struct channel *channel;

	if (strlen(path) >= sizeof(channel->path))
		return;
	for (unsigned i = channels->n; i-- > 0;) {
		channel = &channels->entries[i];
		if (channel->number == number && object_key_equal(&channel->key, key))
			remove_at(channels, i);
	}
	if (channels->n == CHANNELS_MAX)
		remove_at(channels, 0);
	channel = &channels->entries[channels->n++];
	*channel = (struct channel){.key = *key, .number = number};
	snprintf(channel->path, sizeof(channel->path), "%s", path);
}

/* Whether path is an object directly or further below parent. */
static bool is_below(const char *path, const char *parent)
{
	size_t len = strlen(parent);

	return strncmp(path, parent, len) == 0 && path[len] == '/';
}

void channels_put_ccc(struct channels *channels, const char *path)
{
	for (unsigned i = 0; i < channels->n; i++) {
		struct channel *channel = &channels->entries[i];

		if (is_below(path, channel->path) && strlen(path) < sizeof(channel->ccc))
			snprintf(channel->ccc, sizeof(channel->ccc), "%s", path);
	}
}

const struct channel *channels_find(const struct channels *channels, const struct object_key *key,
				    unsigned number)
{
	for (unsigned i = 0; i < channels->n; i++) {
		const struct channel *channel = &channels->entries[i];

		if (channel->number == number && channel->ccc[0] != '\0' &&
		    object_key_equal(&channel->key, key))
			return channel;
	}
	return NULL;
}

void channels_remove(struct channels *channels, const char *path)
{
	for (unsigned i = channels->n; i-- > 0;) {
		if (strcmp(channels->entries[i].path, path) == 0)
			remove_at(channels, i);
	}
}

void channels_remove_device(struct channels *channels, const struct object_key *key)
{
	for (unsigned i = channels->n; i-- > 0;) {
		if (object_key_equal(&channels->entries[i].key, key))
			remove_at(channels, i);
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
