/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/agent.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/carry.h"
#include "agent/events.h"
#include "agent/flow.h"
#include "agent/log.h"
#include "agent/loop.h"
#include "agent/probe.h"
#include "agent/status.h"
#include "agent/status_socket.h"
#include "agent/util.h"

#define STOP_DEADLINE_MS 3000 /* for sessions and sightings at the end */
#define STOP_POLL_MS	 20
#define UPLINK_STOP_MS	 1000

_Static_assert(IDENTITY_PUBLIC_LEN == MESSAGE_PUBLIC_KEY_LEN, "the key HELLO carries");
_Static_assert(MESSAGE_RESUME_MAX >= RELAY_SESSIONS_MAX, "a HELLO must list all sessions");
_Static_assert(MESSAGE_CREDITS_MAX == FLOW_CREDITS_MAX, "a window the cloud sets must fit");

struct agent_private {
	struct loop_timer expire_timer;
	struct loop_timer stats_timer;
	struct loop_timer stop_timer;
	uint64_t stop_at_ms;
	int stats_interval_s; /* the timer is set to */
	bool stats_due;
	bool stopping;
};

static void want_write(void *userdata)
{
	struct agent *agent = userdata;

	if (agent->uplink)
		uplink_want_write(agent->uplink);
}

static void expire(void *userdata)
{
	struct agent *agent = userdata;
	uint64_t now_ms = util_now_ms();
	uint64_t next_ms = devices_expire(agent->devices, now_ms);

	if (next_ms != UINT64_MAX)
		loop_timer_start(&agent->private->expire_timer, next_ms - now_ms);
	reporter_changed(agent->reporter);
}

static void log_device(const struct device *device)
{
	char id[UTIL_UUID_TEXT];

	util_uuid_text(device->advert.device_id, id);
	log_event(LOG_LEVEL_INFO, LOG_EVENT_DEVICE,
		  "device https://blecon.dev/%s: first heard, RSSI %d dBm, flags 0x%02x", id,
		  device->rssi.last, device->advert.flags);
}

static void on_advert(void *userdata, const struct ble_advert *advert)
{
	struct agent *agent = userdata;
	struct device *device;

	/* At the end all that was heard is told, so there must be an end to it. */
	if (agent->private->stopping)
		return;
	device = devices_heard(agent->devices, util_now_ms(), advert);
	if (!device)
		return;
	if (device->count == 1)
		log_device(device);
	if (!agent->private->expire_timer.armed)
		expire(agent);
	reporter_changed(agent->reporter);
	relay_heard(agent->relay, device, advert);
}

static void on_ble_status(void *userdata)
{
	struct agent *agent = userdata;
	struct ble_status status;

	if (!agent->ble)
		return;
	ble_get_status(agent->ble, &status);
	log_debug("bluetooth: %s", ble_state_name(status.state));
}

static void on_up(void *userdata, const struct message_settings *settings)
{
	struct agent *agent = userdata;

	reload_reached(agent->reload);
	relay_up(agent->relay, settings);
	reporter_up(agent->reporter, settings->report_ms);
}

static size_t on_hello(void *userdata, struct message_resume *ret)
{
	struct agent *agent = userdata;

	return relay_want(agent->relay, ret);
}

static void on_goaway(void *userdata)
{
	struct agent *agent = userdata;

	relay_drain(agent->relay);
}

static void on_down(void *userdata)
{
	struct agent *agent = userdata;

	relay_down(agent->relay);
	reporter_down(agent->reporter);
}

static void on_message(void *userdata, const struct message *message)
{
	struct agent *agent = userdata;

	if (message->type == MESSAGE_SIGHTINGS_ACK)
		reporter_acknowledged(agent->reporter, message->ack_batch);
	else
		relay_message(agent->relay, message);
}

static size_t encode_stats(struct agent *agent, uint8_t *buf, size_t size)
{
	struct devices_counters devices;
	struct reporter_counters reporter;
	struct relay_counters relay;
	struct uplink_status uplink;

	devices_get_counters(agent->devices, &devices);
	reporter_get_counters(agent->reporter, &reporter);
	relay_get_counters(agent->relay, &relay);
	uplink_get_status(agent->uplink, &uplink);

	const struct message_counter counters[] = {
		{"uptime_s", (util_now_ms() - agent->started_ms) / 1000},
		{"connects", uplink.connects},
		{"adverts", devices.adverts},
		{"devices", devices.known},
		{"kept", devices.kept},
		{"merged", devices.merged},
		{"evicted", devices.evicted},
		{"evicted_adverts", devices.evicted_adverts},
		{"resent", reporter.resent},
		{"resent_sightings", reporter.resent_sightings},
		{"sessions_started", relay.started},
		{"sessions_served", relay.served},
		{"sessions_failed", relay.failed},
		{"sessions_broken", relay.broken},
		{"sessions_resumed", relay.resumed},
		{"frames_up", relay.frames_up},
		{"frames_down", relay.frames_down},
	};

	return message_encode_stats(counters, ARRAY_SIZE(counters), buf, size);
}

/* Device sessions go before everything: a person may be waiting for one. */
static size_t on_writable(void *userdata, uint8_t *buf, size_t size)
{
	struct agent *agent = userdata;
	size_t len = relay_next_message(agent->relay, buf, size);

	if (len == 0)
		len = reporter_next_message(agent->reporter, buf, size);
	if (len == 0 && agent->private->stats_due) {
		agent->private->stats_due = false;
		len = encode_stats(agent, buf, size);
	}
	return len;
}

static void start_stats(struct agent *agent);

static void on_stats_timer(void *userdata)
{
	struct agent *agent = userdata;

	agent->private->stats_due = true;
	want_write(agent);
	start_stats(agent);
}

static struct carry carry_of(struct agent *agent)
{
	return (struct carry){
		.state_dir = agent->settings->state_dir,
		.run = agent->run,
		.devices = agent->devices,
		.reporter = agent->reporter,
		.relay = agent->relay,
	};
}

static void on_uplink_stopped(void *userdata)
{
	struct agent *agent = userdata;
	const struct carry carry = carry_of(agent);

	if (!agent->probe)
		carry_out(&carry);
	events_stop(agent->events);
	loop_quit(agent->loop);
}

static void on_stop_timer(void *userdata)
{
	struct agent *agent = userdata;
	struct uplink_status uplink;

	uplink_get_status(agent->uplink, &uplink);
	if (util_now_ms() < agent->private->stop_at_ms &&
	    !(relay_idle(agent->relay) &&
	      (uplink.state != UPLINK_STATE_UP || reporter_idle(agent->reporter))))
		loop_timer_start(&agent->private->stop_timer, STOP_POLL_MS);
	else
		uplink_stop(agent->uplink, UPLINK_STOP_MS, on_uplink_stopped);
}

void agent_stop(struct agent *agent)
{
	if (agent->private->stopping)
		return;
	agent->private->stopping = true;
	agent->private->stop_at_ms = util_now_ms() + STOP_DEADLINE_MS;
	reload_stop(agent->reload);
	relay_stop(agent->relay);
	reporter_flush(agent->reporter);
	on_stop_timer(agent);
}

static int sign(void *userdata, const uint8_t *data, size_t len, uint8_t *ret_signature)
{
	return identity_sign(userdata, data, len, ret_signature);
}

static int start_ble(struct agent *agent)
{
	static const struct ble_handler handler = {
		.on_status = on_ble_status,
		.on_advert = on_advert,
	};
	const struct settings *s = agent->settings;
	const struct ble_config config = {
		.adapters = (const char *const *)s->bluetooth.adapters.items,
		.n_adapters = s->bluetooth.adapters.n,
		.silence_ms = (uint32_t)s->bluetooth.silence_s * 1000,
		.duplicate_data = s->bluetooth.duplicate_data,
		.max_devices = (unsigned)s->devices.max,
	};

	return ble_new(agent->loop, &config, &handler, agent, &agent->ble);
}

static enum ble_bearers bearers_of(const char *name)
{
	if (strcmp(name, "l2cap") == 0)
		return BLE_BEARERS_L2CAP;
	return strcmp(name, "gatt") == 0 ? BLE_BEARERS_GATT : BLE_BEARERS_AUTO;
}

static void relay_settings(const struct settings *s, struct relay_config *ret)
{
	*ret = (struct relay_config){
		.scheduler.max_links = (unsigned)s->relay.max_links,
		.scheduler.max_links_per_adapter = (unsigned)s->relay.max_links_per_adapter,
		.scheduler.rssi_floor_dbm = s->relay.rssi_floor_dbm,
		.scheduler.holdoff_ms = (uint32_t)s->relay.holdoff_ms,
		.bearers = bearers_of(s->relay.bearer),
		.resume_max_ms = (uint64_t)s->relay.resume_max_s * 1000,
		.retry_min_ms = (uint32_t)s->relay.retry_min_s * 1000,
		.retry_max_ms = (uint32_t)s->relay.retry_max_s * 1000,
		.session.idle_ms = (uint64_t)s->relay.idle_timeout_s * 1000,
		.session.duration_ms = (uint64_t)s->relay.max_duration_s * 1000,
	};
}

static int start_relay(struct agent *agent)
{
	struct relay_config config;

	relay_settings(agent->settings, &config);
	return relay_new(agent->loop, agent->ble, agent->devices, &config, want_write, agent,
			 &agent->relay);
}

static int start_uplink(struct agent *agent)
{
	static const struct uplink_handler handler = {
		.on_hello = on_hello,
		.on_up = on_up,
		.on_goaway = on_goaway,
		.on_down = on_down,
		.on_message = on_message,
		.on_writable = on_writable,
	};
	struct uplink_identity *identity = &agent->uplink_identity;
	int r;

	memcpy(identity->hotspot_id, agent->identity->hotspot_id, sizeof(identity->hotspot_id));
	memcpy(identity->public_key, agent->identity->public_key, sizeof(identity->public_key));
	identity->sign = sign;
	identity->userdata = (void *)agent->identity;
	r = cloud_new(agent->settings, agent->run, &agent->cloud);
	if (r < 0)
		return r;
	return uplink_new(agent->loop, &agent->cloud->config, identity, &handler, agent,
			  &agent->uplink);
}

static void reporter_settings(const struct settings *s, struct reporter_config *ret)
{
	*ret = (struct reporter_config){
		.interval_ms = (uint64_t)s->uplink.report_interval_s * 1000,
		.bytes_per_day = (uint64_t)s->uplink.sightings_kb_per_day * 1000,
	};
}

static int start_reporter(struct agent *agent)
{
	struct reporter_config config;

	reporter_settings(agent->settings, &config);
	return reporter_new(agent->loop, agent->devices, &config, want_write, agent,
			    &agent->reporter);
}

static int start(struct agent *agent)
{
	const struct settings *s = agent->settings;
	int r = status_socket_new(agent->loop, s->status_socket, status_answer, agent,
				  &agent->status_socket);

	if (r < 0) {
		log_error("status socket %s: %s", s->status_socket,
			  r == -EADDRINUSE ? "another blecon-hotspotd answers there"
					   : strerror(-r));
		return r;
	}
	/* Now it is sure that no other agent writes it. */
	r = events_new(agent->loop, agent->status_socket, s->probe ? NULL : s->status_socket,
		       s->probe ? NULL : s->state_dir, &agent->events);
	if (r == 0)
		r = devices_new((size_t)s->devices.max, (uint64_t)s->devices.lost_after_s * 1000,
				&agent->devices);
	if (r == 0)
		r = start_reporter(agent);
	if (r == 0)
		r = start_ble(agent);
	if (r == 0)
		r = start_relay(agent);
	if (r == 0)
		r = start_uplink(agent);
	if (r == 0)
		r = reload_new(agent, &agent->reload);
	if (r == 0 && s->probe)
		r = probe_new(agent, &agent->probe);
	if (r < 0) {
		log_error("cannot start: %s", strerror(-r));
		return r;
	}

	const struct carry carry = carry_of(agent);

	/* What was left is gone from the disk after this, so nothing may fail any more. */
	if (agent->probe)
		util_random(agent->run, sizeof(agent->run));
	else
		carry_in(&carry);
	return 0;
}

static void start_stats(struct agent *agent)
{
	int interval_s = agent->settings->uplink.stats_interval_s;

	agent->private->stats_interval_s = interval_s;
	if (interval_s > 0)
		loop_timer_start(&agent->private->stats_timer, (uint64_t)interval_s * 1000);
	else
		loop_timer_stop(&agent->private->stats_timer);
}

void agent_apply(struct agent *agent)
{
	const struct settings *s = agent->settings;
	struct relay_config relay;
	struct reporter_config reporter;

	relay_settings(s, &relay);
	relay_configure(agent->relay, &relay);
	reporter_settings(s, &reporter);
	reporter_configure(agent->reporter, &reporter);
	devices_configure(agent->devices, (uint64_t)s->devices.lost_after_s * 1000);
	expire(agent);
	/* Else frequent reloads would put them off for ever. */
	if (s->uplink.stats_interval_s != agent->private->stats_interval_s)
		start_stats(agent);
}

static int take_settings(struct agent *agent, struct settings *settings)
{
	agent->settings = malloc(sizeof(*agent->settings));
	if (!agent->settings)
		return -ENOMEM;
	*agent->settings = *settings;
	memset(settings, 0, sizeof(*settings));
	return 0;
}

int agent_new(struct loop *loop, struct settings *settings, const char *config_file,
	      const struct identity *identity, struct agent **ret)
{
	struct agent *agent = calloc(1, sizeof(*agent));
	int r;

	if (!agent)
		return -ENOMEM;
	agent->private = calloc(1, sizeof(*agent->private));
	if (!agent->private || take_settings(agent, settings) < 0) {
		free(agent->private);
		free(agent);
		return -ENOMEM;
	}
	agent->loop = loop;
	agent->config_file = config_file;
	agent->identity = identity;
	agent->started_ms = util_now_ms();
	loop_timer_init(loop, &agent->private->expire_timer, expire, agent);
	loop_timer_init(loop, &agent->private->stats_timer, on_stats_timer, agent);
	loop_timer_init(loop, &agent->private->stop_timer, on_stop_timer, agent);
	r = start(agent);
	if (r < 0) {
		agent_free(agent);
		return r;
	}
	start_stats(agent);
	*ret = agent;
	return 0;
}

void agent_free(struct agent *agent)
{
	if (!agent)
		return;
	loop_timer_stop(&agent->private->expire_timer);
	loop_timer_stop(&agent->private->stats_timer);
	loop_timer_stop(&agent->private->stop_timer);
	events_free(agent->events);
	status_socket_free(agent->status_socket);
	probe_free(agent->probe);
	reload_free(agent->reload);
	uplink_free(agent->uplink);
	cloud_free(agent->cloud);
	ble_free(agent->ble);
	relay_free(agent->relay);
	reporter_free(agent->reporter);
	devices_free(agent->devices);
	free(agent->private);
	settings_done(agent->settings);
	free(agent->settings);
	free(agent);
}
