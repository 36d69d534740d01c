/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/adapters.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int adapters_init(struct adapters *adapters, const char *const *names, size_t n)
{
	if (n == 0)
		return 0;
	adapters->wanted = calloc(n, sizeof(*adapters->wanted));
	if (!adapters->wanted)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		adapters->wanted[i] = strdup(names[i]);
		if (!adapters->wanted[i])
			return -ENOMEM;
		adapters->n_wanted++;
	}
	return 0;
}

void adapters_done(struct adapters *adapters)
{
	for (size_t i = 0; i < adapters->n_wanted; i++)
		free(adapters->wanted[i]);
	free(adapters->wanted);
	adapters->wanted = NULL;
	adapters->n_wanted = 0;
}

struct adapter *adapters_find(struct adapters *adapters, unsigned index)
{
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		if (adapters->each[i].present && adapters->each[i].index == index)
			return &adapters->each[i];
	}
	return NULL;
}

/* One never used goes before that of an absent adapter, whose counters would be lost. */
struct adapter *adapters_slot(struct adapters *adapters, const char *address)
{
	struct adapter *unused = NULL, *absent = NULL;

	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		struct adapter *adapter = &adapters->each[i];

		if (adapter->present)
			continue;
		if (strcasecmp(adapter->address, address) == 0)
			return adapter;
		if (adapter->address[0] == '\0')
			unused = unused ? unused : adapter;
		else
			absent = absent ? absent : adapter;
	}
	if (!unused && absent)
		memset(absent, 0, sizeof(*absent));
	return unused ? unused : absent;
}

/* Whether that is what the configuration calls it. */
static bool is_called(const struct adapter *adapter, const char *wanted)
{
	char name[16];

	snprintf(name, sizeof(name), "hci%u", adapter->index);
	return strcasecmp(wanted, name) == 0 || strcasecmp(wanted, adapter->address) == 0;
}

bool adapters_want(const struct adapters *adapters, const struct adapter *adapter)
{
	for (size_t i = 0; i < adapters->n_wanted; i++) {
		if (is_called(adapter, adapters->wanted[i]))
			return true;
	}
	return adapters->n_wanted == 0;
}

static bool is_used(const struct adapter *adapter)
{
	return adapter->present && adapter->used;
}

unsigned adapters_n_used(const struct adapters *adapters)
{
	unsigned n = 0;

	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++)
		n += is_used(&adapters->each[i]);
	return n;
}

void adapters_add_reason(char reasons[BUS_ERROR_TEXT], const char *who, const char *what)
{
	size_t len = strlen(reasons);

	snprintf(reasons + len, BUS_ERROR_TEXT - len, "%s%s%s", len > 0 ? "; " : "", who, what);
}

static bool is_present(const struct adapters *adapters, const char *wanted)
{
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		if (adapters->each[i].present && is_called(&adapters->each[i], wanted))
			return true;
	}
	return false;
}

void adapters_missing(const struct adapters *adapters, char ret[BUS_ERROR_TEXT])
{
	ret[0] = '\0';
	for (size_t i = 0; i < adapters->n_wanted; i++) {
		if (!is_present(adapters, adapters->wanted[i]))
			adapters_add_reason(ret, "no adapter ", adapters->wanted[i]);
	}
}

static bool any_scans(const struct adapters *adapters)
{
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		const struct adapter *adapter = &adapters->each[i];

		if (is_used(adapter) && adapter->state == BLE_ADAPTER_SCANNING)
			return true;
	}
	return false;
}

enum ble_state adapters_state(const struct adapters *adapters, char ret_reason[BUS_ERROR_TEXT])
{
	bool scanning = any_scans(adapters);

	ret_reason[0] = '\0';
	for (unsigned i = 0; i < BLE_ADAPTERS_MAX; i++) {
		const struct adapter *adapter = &adapters->each[i];
		char who[16];

		/* To start takes a moment, and is nothing wrong where another one scans. */
		if (!is_used(adapter) || adapter->state == BLE_ADAPTER_SCANNING ||
		    (scanning && adapter->state == BLE_ADAPTER_STARTING))
			continue;
		snprintf(who, sizeof(who), "hci%u: ", adapter->index);
		adapters_add_reason(ret_reason, who, adapter->reason);
	}
	if (adapters_n_used(adapters) == 0)
		return BLE_STATE_NO_ADAPTER;
	return scanning ? BLE_STATE_SCANNING : BLE_STATE_NOT_SCANNING;
}
