/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reporter.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/log.h"
#include "agent/loop.h"
#include "uplink/message.h"

/* Urgent changes that come together go together. */
#define URGENT_DELAY_MS 100

struct reporter {
	struct devices *devices; /* not owned */
	void (*want_write)(void *userdata);
	void *userdata; /* not owned */
	uint64_t configured_ms, interval_ms;
	bool up;
	size_t all_due; /* devices of a regular report that have not gone yet */
	bool urgent_due; /* the same for urgent changes alone */
	bool batch_out; /* begun and not acknowledged */
	bool batch_sent; /* on this connection */
	uint64_t batch; /* its number, counts from 1 */
	size_t n;
	uint64_t n_adverts;
	struct loop_timer interval_timer;
	struct loop_timer urgent_timer;
	struct reporter_counters counters;
};

static void go(struct reporter *reporter)
{
	if (reporter->up && !reporter->batch_out)
		reporter->want_write(reporter->userdata);
}

static void on_interval(void *userdata)
{
	struct reporter *reporter = userdata;

	reporter_flush(reporter);
	loop_timer_start(&reporter->interval_timer, reporter->interval_ms);
}

static void on_urgent(void *userdata)
{
	struct reporter *reporter = userdata;

	reporter->urgent_due = true;
	go(reporter);
}

int reporter_new(struct loop *loop, struct devices *devices, uint64_t interval_ms,
		 void (*want_write)(void *userdata), void *userdata, struct reporter **ret)
{
	struct reporter *reporter = calloc(1, sizeof(*reporter));

	if (!reporter)
		return -ENOMEM;
	reporter->devices = devices;
	reporter->configured_ms = reporter->interval_ms = interval_ms;
	reporter->want_write = want_write;
	reporter->userdata = userdata;
	reporter->batch = 1;
	loop_timer_init(loop, &reporter->interval_timer, on_interval, reporter);
	loop_timer_init(loop, &reporter->urgent_timer, on_urgent, reporter);
	*ret = reporter;
	return 0;
}

void reporter_free(struct reporter *reporter)
{
	if (!reporter)
		return;
	loop_timer_stop(&reporter->interval_timer);
	loop_timer_stop(&reporter->urgent_timer);
	free(reporter);
}

void reporter_up(struct reporter *reporter, uint64_t interval_ms)
{
	reporter->up = true;
	reporter->batch_sent = false;
	reporter->interval_ms = CLAMP(interval_ms, reporter->configured_ms, UINT64_C(86400000));
	on_interval(reporter);
	reporter->want_write(reporter->userdata);
}

void reporter_down(struct reporter *reporter)
{
	reporter->up = false;
	loop_timer_stop(&reporter->interval_timer);
}

void reporter_changed(struct reporter *reporter)
{
	if (reporter->up && !reporter->urgent_due && !reporter->urgent_timer.armed &&
	    devices_urgent(reporter->devices))
		loop_timer_start(&reporter->urgent_timer, URGENT_DELAY_MS);
}

void reporter_acknowledged(struct reporter *reporter, uint64_t batch)
{
	if (!reporter->batch_out || !reporter->batch_sent || batch != reporter->batch) {
		log_debug("reporter: an acknowledgement of batch %llu, which is not out",
			  (unsigned long long)batch);
		return;
	}
	devices_batch_done(reporter->devices);
	reporter->counters.batches++;
	reporter->counters.sightings += reporter->n;
	reporter->counters.adverts += reporter->n_adverts;
	reporter->counters.unacknowledged_ms = 0;
	reporter->batch_out = false;
	reporter->batch++;
	if (reporter->all_due > 0 || reporter->urgent_due)
		go(reporter);
	else
		reporter_changed(reporter);
}

/* Begins a batch of what is due. */
static void begin(struct reporter *reporter)
{
	bool all = reporter->all_due > 0;
	size_t max = all ? MIN(reporter->all_due, MESSAGE_SIGHTINGS_MAX) : MESSAGE_SIGHTINGS_MAX;

	reporter->n = devices_batch_begin(reporter->devices, max, !all);
	/* What is heard from now on is for the next report, or this one might never end. */
	if (all)
		reporter->all_due = reporter->n < max ? 0 : reporter->all_due - reporter->n;
	if (reporter->all_due == 0 && reporter->n < MESSAGE_SIGHTINGS_MAX)
		reporter->urgent_due = false;
	reporter->batch_out = reporter->n > 0;
	reporter->batch_sent = false;
}

struct encoding {
	struct message_sighting sightings[MESSAGE_SIGHTINGS_MAX];
	size_t n;
	uint64_t n_adverts;
	uint64_t now_ms;
};

static void add_sighting(void *userdata, const struct device *device)
{
	static const enum message_sighting_state states[] = {
		[DEVICE_STATE_APPEARED] = MESSAGE_APPEARED,
		[DEVICE_STATE_PRESENT] = MESSAGE_PRESENT,
		[DEVICE_STATE_LOST] = MESSAGE_LOST,
	};
	struct encoding *encoding = userdata;
	const struct device_span *span = &device->sent;

	encoding->sightings[encoding->n++] = (struct message_sighting){
		.device_id = device->advert.device_id,
		.service_data = span->data,
		.service_data_len = ADVERT_LEN,
		.first_age_ms = encoding->now_ms - span->first_ms,
		.last_age_ms = encoding->now_ms - span->last_ms,
		.count = span->count,
		.rssi_last = span->rssi.last,
		.rssi_min = span->rssi.min,
		.rssi_max = span->rssi.max,
		.state = states[span->state],
		.adapter = span->adapter,
	};
	encoding->n_adverts += span->count;
}

size_t reporter_next_message(struct reporter *reporter, uint8_t *buf, size_t size)
{
	struct encoding encoding = {.now_ms = util_now_ms()};

	if (!reporter->batch_out && (reporter->all_due > 0 || reporter->urgent_due))
		begin(reporter);
	if (!reporter->batch_out || reporter->batch_sent)
		return 0;
	devices_batch_each(reporter->devices, add_sighting, &encoding);
	reporter->n = encoding.n;
	reporter->n_adverts = encoding.n_adverts;
	if (reporter->counters.unacknowledged_ms != 0)
		reporter->counters.resent++;
	else
		reporter->counters.unacknowledged_ms = encoding.now_ms;
	reporter->batch_sent = true;
	return message_encode_sightings(reporter->batch, encoding.sightings, encoding.n, buf, size);
}

void reporter_flush(struct reporter *reporter)
{
	struct devices_counters counters;

	devices_get_counters(reporter->devices, &counters);
	reporter->all_due = counters.dirty;
	go(reporter);
}

bool reporter_idle(const struct reporter *reporter)
{
	struct devices_counters counters;

	devices_get_counters(reporter->devices, &counters);
	return !reporter->batch_out && counters.dirty == 0;
}

void reporter_get_counters(const struct reporter *reporter, struct reporter_counters *ret)
{
	*ret = reporter->counters;
}
