/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/flow.h"
#include "agent/log.h"
#include "agent/loop.h"
#include "agent/util.h"
#include "uplink/backoff.h"

/* For an adapter that still gives up an attempt we know nothing of any more. */
#define BUSY_RETRY_MS 200

struct relay {
	struct loop *loop; /* not owned */
	struct ble *ble; /* not owned */
	struct devices *devices; /* not owned */
	struct relay_config config;
	void (*want_write)(void *userdata);
	void *userdata; /* not owned */
	struct session_owner owner;
	struct scheduler scheduler;
	struct session
		*sessions[RELAY_SESSIONS_MAX]; /* the first n; whose turn it is comes first */
	unsigned n;
	uint32_t next_id;
	uint32_t credits; /* of each side of a new session */
	uint64_t resume_ms; /* how long the cloud keeps sessions without the uplink */
	bool up;
	bool closed; /* no session is to be started */
	bool stopping;
	struct loop_timer run_timer;
	struct loop_timer reap_timer;
	struct relay_counters counters;
	struct past past;
};

static void on_want_write(void *userdata)
{
	struct relay *relay = userdata;

	relay->want_write(relay->userdata);
}

/* Not at once: whoever tells us is in the middle of something. */
static void on_connected(void *userdata, const uint8_t device_id[16], bool connected)
{
	struct relay *relay = userdata;
	struct device *device = devices_find(relay->devices, device_id);

	if (device)
		devices_connected(relay->devices, device, util_now_ms(), connected);
	loop_timer_start(&relay->run_timer, 0);
}

static void on_ended(void *userdata)
{
	struct relay *relay = userdata;

	loop_timer_start(&relay->reap_timer, 0);
}

static void retry_later(struct relay *relay, struct device *device, const char *reason)
{
	struct backoff backoff;
	uint32_t random, wait_ms;

	backoff_init(&backoff, relay->config.retry_min_ms, relay->config.retry_max_ms);
	for (unsigned i = 0; i < MIN(device->failures, 31u); i++)
		backoff_next(&backoff, 0);
	util_random(&random, sizeof(random));
	wait_ms = relay->config.retry_min_ms / 2 + backoff_next(&backoff, random);
	device_failed(device, util_now_ms(), wait_ms, reason);
	log_debug("relay: this device not again for %u ms", wait_ms);
}

/* What is learned from a session for the device's next one. */
static void remember(struct relay *relay, struct device *device, const struct session_status *s)
{
	/* Where L2CAP did not come about and GATT did, it is not tried again until GATT fails. */
	if (s->was_up)
		device->bearers =
			s->bearer == BLE_BEARER_GATT ? BLE_BEARERS_GATT : BLE_BEARERS_AUTO;
	else if (s->failed)
		device->bearers = BLE_BEARERS_AUTO;
	if (s->failed)
		retry_later(relay, device, s->reason);
	else
		device->failures = 0;
}

static void account(struct relay *relay, const struct session_status *s)
{
	struct device *device = devices_find(relay->devices, s->device_id);

	relay->counters.frames_up += s->frames_up;
	relay->counters.frames_down += s->frames_down;
	relay->counters.bytes_up += s->bytes_up;
	relay->counters.bytes_down += s->bytes_down;
	relay->counters.resumed += s->resumed;
	switch (session_get_result(s)) {
	case SESSION_RESULT_SERVED:
		relay->counters.served++;
		break;
	case SESSION_RESULT_BROKEN:
		relay->counters.broken++;
		break;
	case SESSION_RESULT_FAILED:
		relay->counters.failed++;
		break;
	case SESSION_RESULT_GIVEN_UP:
		break;
	}
	past_add(&relay->past, s);
	if (device)
		remember(relay, device, s);
}

static void run(void *userdata);

static void on_reap(void *userdata)
{
	struct relay *relay = userdata;
	unsigned kept = 0;

	for (unsigned i = 0; i < relay->n; i++) {
		struct session *session = relay->sessions[i];
		struct session_status status;

		session_get_status(session, &status);
		if (status.state != SESSION_STATE_ENDED) {
			relay->sessions[kept++] = session;
			continue;
		}
		account(relay, &status);
		session_free(session);
	}
	relay->n = kept;
	run(relay);
}

int relay_new(struct loop *loop, struct ble *ble, struct devices *devices,
	      const struct relay_config *config, void (*want_write)(void *userdata), void *userdata,
	      struct relay **ret)
{
	struct relay *relay = calloc(1, sizeof(*relay));

	if (!relay)
		return -ENOMEM;
	relay->loop = loop;
	relay->ble = ble;
	relay->devices = devices;
	relay->config = *config;
	scheduler_init(&relay->scheduler, &config->scheduler);
	relay->want_write = want_write;
	relay->userdata = userdata;
	relay->next_id = 1;
	relay->owner = (struct session_owner){
		.want_write = on_want_write,
		.on_connected = on_connected,
		.on_ended = on_ended,
		.userdata = relay,
	};
	loop_timer_init(loop, &relay->reap_timer, on_reap, relay);
	loop_timer_init(loop, &relay->run_timer, run, relay);
	*ret = relay;
	return 0;
}

void relay_free(struct relay *relay)
{
	if (!relay)
		return;
	loop_timer_stop(&relay->reap_timer);
	loop_timer_stop(&relay->run_timer);
	scheduler_done(&relay->scheduler);
	for (unsigned i = 0; i < relay->n; i++)
		session_free(relay->sessions[i]);
	free(relay);
}

uint32_t relay_next_session(const struct relay *relay)
{
	return relay->next_id;
}

void relay_set_next_session(struct relay *relay, uint32_t number)
{
	relay->next_id = number;
}

static bool in_session(const struct relay *relay, const struct device *device)
{
	for (unsigned i = 0; i < relay->n; i++) {
		struct session_status status;

		session_get_status(relay->sessions[i], &status);
		if (memcmp(status.device_id, device->advert.device_id, 16) == 0)
			return true;
	}
	return false;
}

/* --- Who is connected next --- */

static void add_load(struct scheduler_load *load, const struct session_status *s)
{
	unsigned i = 0;

	while (i < load->n_adapters && load->adapters[i].adapter != s->adapter)
		i++;
	if (i == ARRAY_SIZE(load->adapters))
		return;
	if (i == load->n_adapters)
		load->adapters[load->n_adapters++].adapter = s->adapter;
	load->links++;
	load->adapters[i].links++;
	if (!s->was_connected)
		load->adapters[i].attempting = true;
}

void relay_get_load(const struct relay *relay, struct scheduler_load *ret)
{
	*ret = (struct scheduler_load){.closed = !relay->up || relay->closed ||
						 relay->n >= RELAY_SESSIONS_MAX};
	for (unsigned i = 0; i < relay->n; i++) {
		struct session_status status;

		session_get_status(relay->sessions[i], &status);
		if (status.has_link)
			add_load(ret, &status);
	}
}

static enum ble_bearers bearers_of(const struct relay *relay, const uint8_t device_id[16])
{
	const struct device *device = devices_find(relay->devices, device_id);

	if (relay->config.bearers != BLE_BEARERS_AUTO || !device)
		return relay->config.bearers;
	return device->bearers;
}

static int start_session(struct relay *relay, const struct scheduler_asker *asker,
			 const struct scheduler_hearing *on)
{
	struct session_target target = {
		.adapter = on->adapter,
		.address = on->address,
		.rssi_dbm = on->rssi_dbm,
		.bearers = bearers_of(relay, asker->device_id),
	};
	struct session *session;
	int r;

	memcpy(target.device_id, asker->device_id, sizeof(target.device_id));
	memcpy(target.service_data, asker->service_data, sizeof(target.service_data));
	r = session_new(relay->loop, relay->ble, relay->next_id, &target, relay->credits,
			&relay->config.session, &relay->owner, &session);
	if (r < 0)
		return r;
	relay->next_id++;
	relay->counters.started++;
	relay->sessions[relay->n++] = session;
	return 0;
}

static void run(void *userdata)
{
	struct relay *relay = userdata;
	struct scheduler_hearing *on;
	struct scheduler_asker *asker;
	struct scheduler_load load;
	uint64_t now_ms = util_now_ms(), wake_ms;
	int r;

	if (relay->scheduler.n == 0)
		return;
	for (;;) {
		relay_get_load(relay, &load);
		asker = scheduler_next(&relay->scheduler, now_ms, &load, &on, &wake_ms);
		if (!asker)
			break;
		r = start_session(relay, asker, on);
		if (r == -EBUSY || r == -ENOMEM) {
			wake_ms = now_ms + BUSY_RETRY_MS;
			break;
		}
		if (r == -ENODEV)
			on->used = false; /* the adapter is gone, and with it what it heard */
		else
			scheduler_remove(&relay->scheduler, asker);
	}
	if (wake_ms != UINT64_MAX)
		loop_timer_start(&relay->run_timer, wake_ms - MIN(wake_ms, now_ms));
}

void relay_configure(struct relay *relay, const struct relay_config *config)
{
	relay->config = *config;
	relay->scheduler.config = config->scheduler;
	loop_timer_start(&relay->run_timer, 0);
}

void relay_heard(struct relay *relay, const struct device *device, const struct ble_advert *advert)
{
	bool asks = advert->advert->flags & ADVERT_FLAG_ASKS;

	/* Of a device just connected there may still be adverts on the way. */
	if (relay->config.scheduler.max_links == 0 || (asks && in_session(relay, device)))
		return;
	scheduler_heard(&relay->scheduler, util_now_ms(), advert, device->retry_ms);
	if (asks)
		run(relay);
}

/* --- The uplink --- */

size_t relay_want(struct relay *relay, struct message_resume *ret)
{
	size_t n = 0;

	for (unsigned i = 0; i < relay->n; i++) {
		if (session_want(relay->sessions[i], &ret[n]))
			n++;
	}
	return n;
}

void relay_up(struct relay *relay, const struct message_settings *settings)
{
	relay->up = true;
	relay->closed = relay->stopping;
	relay->credits = settings->credits ? settings->credits : FLOW_CREDITS_DEFAULT;
	relay->resume_ms = settings->resume_ms;
	for (unsigned i = 0; i < relay->n; i++) {
		struct session_status status;
		struct message_resume wanted;
		bool found;

		session_get_status(relay->sessions[i], &status);
		found = message_find_resume(&settings->resume, status.id, &wanted);
		session_resume(relay->sessions[i], found ? &wanted : NULL, &relay->next_id,
			       relay->credits);
	}
	run(relay);
}

void relay_drain(struct relay *relay)
{
	relay->closed = true;
}

void relay_down(struct relay *relay)
{
	uint64_t resume_ms = MIN(relay->resume_ms, relay->config.resume_max_ms);

	relay->up = false;
	for (unsigned i = 0; i < relay->n; i++)
		session_suspend(relay->sessions[i], resume_ms);
}

static uint32_t session_of(const struct message *message)
{
	if (message->type == MESSAGE_DATA)
		return message->data.session;
	if (message->type == MESSAGE_CREDIT)
		return message->credit.session;
	return message->type == MESSAGE_CLOSE ? message->close.session : message->accept_session;
}

void relay_message(struct relay *relay, const struct message *message)
{
	for (unsigned i = 0; i < relay->n; i++) {
		if (session_get_id(relay->sessions[i]) != session_of(message))
			continue;
		session_message(relay->sessions[i], message);
		return;
	}
	log_debug("relay: a message for session %u, which is over", session_of(message));
}

/* The session whose message went is the last to have another turn. */
static void rotate(struct relay *relay, unsigned i)
{
	struct session *session = relay->sessions[i];

	memmove(&relay->sessions[i], &relay->sessions[i + 1],
		(relay->n - i - 1) * sizeof(relay->sessions[0]));
	relay->sessions[relay->n - 1] = session;
}

size_t relay_next_message(struct relay *relay, uint8_t *buf, size_t size)
{
	for (unsigned i = 0; i < relay->n; i++) {
		size_t len = session_next_message(relay->sessions[i], buf, size);

		if (len == 0)
			continue;
		rotate(relay, i);
		return len;
	}
	return 0;
}

void relay_stop(struct relay *relay)
{
	relay->stopping = relay->closed = true;
	for (unsigned i = 0; i < relay->n; i++) {
		session_end(relay->sessions[i], MESSAGE_CLOSE_STOPPING, "hotspot stopping");
		if (!relay->up)
			session_suspend(relay->sessions[i], 0);
	}
}

bool relay_idle(const struct relay *relay)
{
	return relay->n == 0;
}

const struct scheduler *relay_scheduler(const struct relay *relay)
{
	return &relay->scheduler;
}

void relay_each(const struct relay *relay,
		void (*each)(void *userdata, const struct session_status *status), void *userdata)
{
	for (unsigned i = 0; i < relay->n; i++) {
		struct session_status status;

		session_get_status(relay->sessions[i], &status);
		each(userdata, &status);
	}
}

const struct past *relay_past(const struct relay *relay)
{
	return &relay->past;
}

void relay_get_counters(const struct relay *relay, struct relay_counters *ret)
{
	*ret = relay->counters;
	ret->turned_away = relay->scheduler.turned_away;
}
