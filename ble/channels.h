/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the characteristics of channels 0 and 1 are, for the devices whose GATT objects bluetoothd
 * has shown: it may do so long before a link is opened, from its cache.
 */
#pragma once

#include "ble/objects.h"

#define CHANNELS_MAX 128 /* only devices connected before have GATT objects at all */

struct channel {
	struct object_key key;
	unsigned number;
	char path[OBJECT_PATH_MAX];
	char ccc[OBJECT_PATH_MAX]; /* of its Client Characteristic Configuration, empty: unknown */
};

struct channels {
	struct channel entries[CHANNELS_MAX]; /* oldest first */
	unsigned n;
};

/* Replaces what is known of this channel; the oldest entry makes room. */
void channels_put(struct channels *channels, const struct object_key *key, unsigned number,
		  const char *path);
/* A descriptor of some characteristic, known or not. */
void channels_put_ccc(struct channels *channels, const char *path);
/* NULL where the channel or its descriptor is not known. Valid until the next change. */
const struct channel *channels_find(const struct channels *channels, const struct object_key *key,
				    unsigned number);
void channels_remove(struct channels *channels, const char *path);
void channels_remove_device(struct channels *channels, const struct object_key *key);
void channels_remove_adapter(struct channels *channels, unsigned adapter);
void channels_clear(struct channels *channels);
