/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/summary.h"

#include <stdio.h>
#include <string.h>

#include "agent/advice.h"
#include "agent/util.h"

#define TIME_TEXT	32
#define SILENCE_LONG_MS 60000 /* up for that long, a device should have been heard */

/* Roughly, as a person would say it. */
static const char *time_text(uint64_t ms, char ret[TIME_TEXT])
{
	uint64_t s = ms / 1000;

	if (s < 120)
		snprintf(ret, TIME_TEXT, "%llu s", (unsigned long long)s);
	else if (s < 2 * 3600)
		snprintf(ret, TIME_TEXT, "%llu min", (unsigned long long)(s / 60));
	else if (s < 2 * 86400)
		snprintf(ret, TIME_TEXT, "%llu h", (unsigned long long)(s / 3600));
	else
		snprintf(ret, TIME_TEXT, "%llu days", (unsigned long long)(s / 86400));
	return ret;
}

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

/* What is wrong with the way to the cloud, or with the cloud, or "". */
static void name_uplink(const struct advice_uplink_facts *facts, char *ret, size_t size)
{
	const struct uplink_status *s = facts->uplink;
	char time[TIME_TEXT];

	*ret = '\0';
	if (s->state == UPLINK_STATE_UP && facts->late_ms > 0)
		snprintf(ret, size, "the cloud does not acknowledge what is reported, for %s",
			 time_text(facts->late_ms, time));
	else if (s->state == UPLINK_STATE_UNCONFIGURED)
		snprintf(ret, size, "no cloud is configured");
	else if (s->state != UPLINK_STATE_UP && *s->error)
		snprintf(ret, size, "no cloud: %s", s->error);
	else if (s->state != UPLINK_STATE_UP)
		snprintf(ret, size, "no cloud yet: %s", uplink_state_name(s->state));
}

/* With what to do, as a sentence of its own: an error has colons. */
static void describe_uplink(const struct advice_uplink_facts *facts, char *ret, size_t size)
{
	char advice[ADVICE_MAX];
	size_t len;

	name_uplink(facts, ret, size);
	advice_uplink(facts, advice, sizeof(advice));
	len = strlen(ret);
	if (len > 0 && *advice)
		snprintf(ret + len, size - len, "%s %s", strchr(".?!", ret[len - 1]) ? "" : ".",
			 advice);
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

struct unserved {
	unsigned weak;
	int floor_dbm;
};

static void count_weak(void *userdata, const struct scheduler_asker *asker,
		       enum scheduler_wait wait, const struct scheduler_hearing *on)
{
	struct unserved *unserved = userdata;

	(void)asker;
	(void)on;
	unserved->weak += wait == SCHEDULER_WEAK;
}

/* Adds that devices ask, and why they are not connected where only a person changes that. */
static void describe_unserved(const struct agent *agent, char *ret, size_t size)
{
	const struct scheduler *scheduler = relay_scheduler(agent->relay);
	struct unserved unserved = {.floor_dbm = scheduler->config.rssi_floor_dbm};
	struct scheduler_load load;
	size_t len = strlen(ret);

	if (scheduler->config.max_links == 0) {
		snprintf(ret + len, size - len,
			 "; no device is connected, as relay.max_links is 0");
		return;
	}
	relay_get_load(agent->relay, &load);
	scheduler_each(scheduler, util_now_ms(), &load, count_weak, &unserved);
	if (unserved.weak > 0)
		snprintf(ret + len, size - len,
			 "; but %u device%s ask%s and %s heard too weakly (relay.rssi_floor_dbm is "
			 "%d): see sessions",
			 unserved.weak, unserved.weak == 1 ? "" : "s",
			 unserved.weak == 1 ? "s" : "", unserved.weak == 1 ? "is" : "are",
			 unserved.floor_dbm);
}

static void describe_silence(const struct agent *agent, bool explained, char *ret, size_t size)
{
	uint64_t up_ms = util_now_ms() - agent->started_ms;
	char time[TIME_TEXT];

	if (up_ms < SILENCE_LONG_MS)
		snprintf(ret, size, "Working, but no device heard yet");
	else
		snprintf(ret, size, "Working, but no Blecon device heard in %s%s",
			 time_text(up_ms, time),
			 explained ? "" : ": is one switched on, within some 10 m?");
}

static void summarise_working(const struct agent *agent, const struct summary_facts *facts,
			      char *ret, size_t size)
{
	const struct devices_counters *devices = &facts->devices;
	char part[1024], certificate[ADVICE_MAX];
	bool any = devices->known > 0;
	unsigned failing = 0;

	describe_part(&facts->ble, part, sizeof(part));
	if (any)
		snprintf(ret, size, "Working: %zu device%s present, uplink up", devices->present,
			 devices->present == 1 ? "" : "s");
	else
		describe_silence(agent, *part != '\0', ret, size);
	if (*part)
		snprintf(ret + strlen(ret), size - strlen(ret), "; %s %s", any ? "but" : "and",
			 part);
	describe_reload(agent, ret, size);
	devices_each(agent->devices, count_failing, &failing);
	if (failing > 0)
		snprintf(ret + strlen(ret), size - strlen(ret),
			 "; %s %u device%s could not be connected: see devices",
			 *part ? "and" : "but", failing, failing == 1 ? "" : "s");
	describe_unserved(agent, ret, size);
	advice_own_certificate(&facts->advice, certificate, sizeof(certificate));
	if (*certificate)
		snprintf(ret + strlen(ret), size - strlen(ret), "%s %s",
			 ret[strlen(ret) - 1] == '?' ? "" : ".", certificate);
}

void summary_gather(const struct agent *agent, struct summary_facts *ret)
{
	ret->now_ms = util_now_ms();
	clock_gettime(CLOCK_REALTIME, &ret->clock);
	ble_get_status(agent->ble, &ret->ble);
	uplink_get_status(agent->uplink, &ret->uplink);
	devices_get_counters(agent->devices, &ret->devices);
	ret->advice = (struct advice_uplink_facts){
		.uplink = &ret->uplink,
		.config_file = agent->config_file,
		.late_ms = reporter_late_ms(agent->reporter, ret->now_ms),
		.own_certificate_end = agent->cloud->certificate_end,
		.now_s = ret->clock.tv_sec,
	};
}

bool summary_write(const struct agent *agent, const struct summary_facts *facts, char *ret,
		   size_t size)
{
	char radio[512], cloud[URLS_ERROR + 32 + ADVICE_MAX];

	describe_bluetooth(&facts->ble, radio, sizeof(radio));
	describe_uplink(&facts->advice, cloud, sizeof(cloud));
	if (*radio || *cloud)
		snprintf(ret, size, "Not working: %s%s%s", radio, *radio && *cloud ? "; and " : "",
			 cloud);
	else
		summarise_working(agent, facts, ret, size);
	return !*radio && !*cloud;
}
