/* SPDX-License-Identifier: Apache-2.0 */
/* All adapters: which are there, which of them are wanted, and how they do as a whole. */
#pragma once

#include "ble/adapter.h"

struct adapters {
	struct adapter each[BLE_ADAPTERS_MAX]; /* those that are present, and slots */
	char **wanted; /* names or addresses, none for all; owned */
	size_t n_wanted;
};

/* All zero before. Copies names. Returns 0 or -ENOMEM; adapters_done in either case. */
int adapters_init(struct adapters *adapters, const char *const *names, size_t n);
/* The adapters themselves must be lost before. */
void adapters_done(struct adapters *adapters);
/* The one that is present as hciN; NULL where there is none. */
struct adapter *adapters_find(struct adapters *adapters, unsigned index);
/* For an adapter that has come: the slot it had before, else a free one; NULL where all are taken.
 * To be followed by adapter_init. */
struct adapter *adapters_slot(struct adapters *adapters, const char *address);
bool adapters_want(const struct adapters *adapters, const struct adapter *adapter);
unsigned adapters_n_used(const struct adapters *adapters);
/* Those that are wanted by name or address and not there, in words; empty where there is none. */
void adapters_missing(const struct adapters *adapters, char ret[BUS_ERROR_TEXT]);
/* BLE_STATE_NO_ADAPTER, NOT_SCANNING or SCANNING; ret_reason says what is wrong with those that are
 * used, empty where nothing is. */
enum ble_state adapters_state(const struct adapters *adapters, char ret_reason[BUS_ERROR_TEXT]);
/* "what; what; what" in place, cut off where it gets too long. */
void adapters_add_reason(char reasons[BUS_ERROR_TEXT], const char *who, const char *what);
