/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the characteristic of channel 0 is, for the devices whose GATT objects bluetoothd has
 * shown: it may do so long before a link is opened, from its cache.
 */
#pragma once

#include "ble/objects.h"

#define CHANNELS_MAX 64 /* devices; only those connected before have GATT objects at all */

struct channels {
	struct channels_entry {
		struct object_key key;
		char path[OBJECT_PATH_MAX];
	} entries[CHANNELS_MAX]; /* oldest first */
	unsigned n;
};

/* Replaces what is known of the device; the oldest entry makes room. */
void channels_put(struct channels *channels, const struct object_key *key, const char *path);
/* Of the characteristic, or NULL. Valid until the next change. */
const char *channels_find(const struct channels *channels, const struct object_key *key);
void channels_remove(struct channels *channels, const char *path);
void channels_remove_device(struct channels *channels, const struct object_key *key);
void channels_remove_adapter(struct channels *channels, unsigned adapter);
void channels_clear(struct channels *channels);
