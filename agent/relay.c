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

#define MAX_LINKS 16

struct relay {
	struct loop *loop; /* not owned */
	struct ble *ble; /* not owned */
	struct devices *devices; /* not owned */
	struct relay_config config;
	void (*want_write)(void *userdata);
	void *userdata; /* not owned */
	struct session_owner owner;
	struct session *sessions[MAX_LINKS]; /* the first n; whose turn it is comes first */
	unsigned n;
	uint32_t next_id;
	uint32_t credits; /* 0 while the uplink is down */
	bool stopping;
	struct loop_timer reap_timer;
	struct relay_counters counters;
};

static void on_want_write(void *userdata)
{
	struct relay *relay = userdata;

	relay->want_write(relay->userdata);
}

static void on_ended(void *userdata)
{
	struct relay *relay = userdata;

	/* Not here: the session is still in the middle of something. */
	loop_timer_start(&relay->reap_timer, 0);
}

static void retry_later(struct relay *relay, struct device *device)
{
	struct backoff backoff;
	uint32_t random, wait_ms;

	backoff_init(&backoff, relay->config.retry_min_ms, relay->config.retry_max_ms);
	for (unsigned i = 0; i < MIN(device->failures, 31u); i++)
		backoff_next(&backoff, 0);
	util_random(&random, sizeof(random));
	wait_ms = relay->config.retry_min_ms / 2 + backoff_next(&backoff, random);
	device->failures++;
	device->retry_ms = util_now_ms() + wait_ms;
	log_debug("relay: this device not again for %u ms", wait_ms);
}

static void account(struct relay *relay, const struct session_status *s)
{
	struct device *device = devices_find(relay->devices, s->device_id);

	relay->counters.frames_up += s->frames_up;
	relay->counters.frames_down += s->frames_down;
	relay->counters.bytes_up += s->bytes_up;
	relay->counters.bytes_down += s->bytes_down;
	if (s->failed)
		relay->counters.failed++;
	else if (s->was_up)
		relay->counters.served++;
	if (device && s->failed)
		retry_later(relay, device);
	else if (device)
		device->failures = 0;
}

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
	relay->config.max_links = MIN(config->max_links, (unsigned)MAX_LINKS);
	relay->want_write = want_write;
	relay->userdata = userdata;
	relay->next_id = 1;
	relay->owner = (struct session_owner){
		.want_write = on_want_write,
		.on_ended = on_ended,
		.userdata = relay,
	};
	loop_timer_init(loop, &relay->reap_timer, on_reap, relay);
	*ret = relay;
	return 0;
}

void relay_free(struct relay *relay)
{
	if (!relay)
		return;
	loop_timer_stop(&relay->reap_timer);
	for (unsigned i = 0; i < relay->n; i++)
		session_free(relay->sessions[i]);
	free(relay);
}

static bool in_session(const struct relay *relay, const uint8_t device_id[16])
{
	for (unsigned i = 0; i < relay->n; i++) {
		struct session_status status;

		session_get_status(relay->sessions[i], &status);
		if (memcmp(status.device_id, device_id, 16) == 0)
			return true;
	}
	return false;
}

void relay_heard(struct relay *relay, struct device *device, int rssi_dbm)
{
	struct session *session;
	int r;

	if (!(device->advert.flags & ADVERT_FLAG_ASKS) || relay->credits == 0 || relay->stopping ||
	    relay->n >= relay->config.max_links || device->retry_ms > util_now_ms() ||
	    (rssi_dbm != BLE_RSSI_NONE && rssi_dbm < relay->config.rssi_floor_dbm) ||
	    in_session(relay, device->advert.device_id))
		return;
	r = session_new(relay->loop, relay->ble, relay->next_id, device, relay->credits,
			&relay->config.session, &relay->owner, &session);
	if (r == -EBUSY || r == -ENODEV)
		return;
	if (r < 0) {
		log_warning("relay: cannot start a session: %s", strerror(-r));
		return;
	}
	relay->next_id++;
	relay->counters.started++;
	relay->sessions[relay->n++] = session;
}

void relay_up(struct relay *relay, uint32_t credits)
{
	relay->credits = credits ? credits : FLOW_CREDITS_DEFAULT;
}

void relay_down(struct relay *relay)
{
	relay->credits = 0;
	for (unsigned i = 0; i < relay->n; i++)
		session_lose_cloud(relay->sessions[i]);
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
		struct session_status status;

		session_get_status(relay->sessions[i], &status);
		if (status.id != session_of(message))
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
	relay->stopping = true;
	for (unsigned i = 0; i < relay->n; i++)
		session_end(relay->sessions[i], MESSAGE_CLOSE_STOPPING, "hotspot stopping");
}

bool relay_idle(const struct relay *relay)
{
	return relay->n == 0;
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

void relay_get_counters(const struct relay *relay, struct relay_counters *ret)
{
	*ret = relay->counters;
}
