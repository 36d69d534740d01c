/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/summary.h"

#include <stdio.h>
#include <string.h>

#include "agent/advice.h"
#include "agent/util.h"

/* What is wrong with the radio and what to do about it, or "". */
static void describe_bluetooth(const struct ble_status *s, char *ret, size_t size)
{
	char advice[ADVICE_MAX];

	*ret = '\0';
	if (s->state == BLE_STATE_SCANNING)
		return;
	advice_bluetooth(s, advice, sizeof(advice));
	snprintf(ret, size, "%s%s%s%s", s->state == BLE_STATE_NOT_SCANNING ? "Bluetooth: " : "",
		 s->reason, *advice ? ": " : "", advice);
}

/* The same of the uplink. */
static void describe_uplink(const struct uplink_status *s, char *ret, size_t size)
{
	if (s->state == UPLINK_STATE_UP)
		*ret = '\0';
	else if (s->state == UPLINK_STATE_UNCONFIGURED)
		snprintf(ret, size, "no cloud: set uplink.url in the configuration");
	else if (*s->error)
		snprintf(ret, size, "no cloud: %s", s->error);
	else
		snprintf(ret, size, "no cloud yet: %s", uplink_state_name(s->state));
}

/* What is wrong with part of a radio that works, or "". */
static void describe_part(const struct ble_status *s, char *ret, size_t size)
{
	char advice[ADVICE_MAX];

	*ret = '\0';
	if (s->state == BLE_STATE_SCANNING)
		snprintf(ret, size, "%s", s->reason);
	for (unsigned i = 0; i < s->n_adapters; i++) {
		const struct ble_adapter_status *a = &s->adapters[i];
		size_t len = strlen(ret);

		/* Also while another restart is under way; any other state tells its own reason. */
		if (a->used && a->supervisor.reported &&
		    (a->state == BLE_ADAPTER_SCANNING || a->state == BLE_ADAPTER_STARTING))
			snprintf(ret + len, size - len, "%shci%u: %s", len > 0 ? "; " : "",
				 a->index, a->supervisor.cause);
	}
	advice_bluetooth(s, advice, sizeof(advice));
	if (*advice)
		snprintf(ret + strlen(ret), size - strlen(ret), "%s%s", *ret ? ": " : "", advice);
}

/* Adds that what runs is not what the file says. */
static void describe_reload(const struct agent *agent, char *ret, size_t size)
{
	struct reload_status s;
	size_t len = strlen(ret);

	reload_get_status(agent->reload, &s);
	if (s.state == RELOAD_REFUSED)
		snprintf(ret + len, size - len, "; but the new configuration is refused: %s",
			 s.text);
	else if (s.state == RELOAD_REVERTED)
		snprintf(ret + len, size - len, "; but not with the new configuration: %s", s.text);
}

static void count_failing(void *userdata, const struct device *device)
{
	if (device->state != DEVICE_STATE_LOST && device->failures > 0)
		++*(unsigned *)userdata;
}

static void summarise_working(const struct agent *agent, const struct ble_status *ble,
			      const struct devices_counters *devices, char *ret, size_t size)
{
	char part[1024];
	bool any = devices->known > 0;
	unsigned failing = 0;

	describe_part(ble, part, sizeof(part));
	if (any)
		snprintf(ret, size, "Working: %zu device%s present, uplink up", devices->present,
			 devices->present == 1 ? "" : "s");
	else
		snprintf(ret, size, "Working, but no device heard yet");
	if (*part)
		snprintf(ret + strlen(ret), size - strlen(ret), "; %s %s", any ? "but" : "and",
			 part);
	describe_reload(agent, ret, size);
	devices_each(agent->devices, count_failing, &failing);
	if (failing > 0)
		snprintf(ret + strlen(ret), size - strlen(ret),
			 "; %s %u device%s could not be connected: see devices",
			 *part ? "and" : "but", failing, failing == 1 ? "" : "s");
}

bool summary_write(const struct agent *agent, const struct ble_status *ble,
		   const struct uplink_status *uplink, const struct devices_counters *devices,
		   char *ret, size_t size)
{
	char radio[512], cloud[URLS_ERROR + 32];

	describe_bluetooth(ble, radio, sizeof(radio));
	describe_uplink(uplink, cloud, sizeof(cloud));
	if (*radio || *cloud)
		snprintf(ret, size, "Not working: %s%s%s", radio, *radio && *cloud ? "; and " : "",
			 cloud);
	else
		summarise_working(agent, ble, devices, ret, size);
	return !*radio && !*cloud;
}
