/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reporter.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/budget.h"
#include "agent/log.h"
#include "agent/loop.h"
#include "uplink/message.h"

/* Urgent changes that come together go together. */
#define URGENT_DELAY_MS 100
/* The longest, whatever the cloud asks for. */
#define INTERVAL_MAX_MS UINT64_C(86400000)

/* Heads of the WebSocket frames of a batch and of its acknowledgement (RFC 6455, section 5.2). */
#define FRAME_HEAD     8 /* masked, of up to 65,535 bytes */
#define FRAME_HEAD_ACK 2
/* Bytes of a batch and of its acknowledgement besides its sightings, at most. */
#define BATCH_BYTES (FRAME_HEAD + FRAME_HEAD_ACK + 2 * MESSAGE_BATCH_BYTES)
#define LEAST_BURST (BATCH_BYTES + MESSAGE_SIGHTING_BYTES)

_Static_assert(BATCH_BYTES + MESSAGE_SIGHTINGS_MAX * MESSAGE_SIGHTING_BYTES <= UINT16_MAX,
	       "the frame's head is that of a short frame");

struct reporter {
	struct devices *devices; /* not owned */
	void (*want_write)(void *userdata);
	void *userdata; /* not owned */
	struct reporter_config config;
	uint64_t asked_ms; /* the interval the cloud asks for, 0 for none */
	struct budget budget;
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
	struct loop_timer budget_timer; /* until what is due can be paid for */
	struct reporter_counters counters;
};

static void go(struct reporter *reporter)
{
	if (reporter->up && !reporter->batch_out)
		reporter->want_write(reporter->userdata);
}

static void start_interval(struct reporter *reporter)
{
	uint64_t least_ms = reporter->config.interval_ms;

	if (least_ms > 0)
		loop_timer_start(&reporter->interval_timer,
				 CLAMP(reporter->asked_ms, least_ms, INTERVAL_MAX_MS));
	else
		loop_timer_stop(&reporter->interval_timer);
}

static void on_interval(void *userdata)
{
	struct reporter *reporter = userdata;

	reporter_flush(reporter);
	start_interval(reporter);
}

static void on_urgent(void *userdata)
{
	struct reporter *reporter = userdata;

	reporter->urgent_due = true;
	go(reporter);
}

static void on_budget(void *userdata)
{
	struct reporter *reporter = userdata;

	reporter->want_write(reporter->userdata);
}

int reporter_new(struct loop *loop, struct devices *devices, const struct reporter_config *config,
		 void (*want_write)(void *userdata), void *userdata, struct reporter **ret)
{
	struct reporter *reporter = calloc(1, sizeof(*reporter));

	if (!reporter)
		return -ENOMEM;
	reporter->devices = devices;
	reporter->config = *config;
	budget_init(&reporter->budget, config->bytes_per_day, LEAST_BURST, util_now_ms());
	reporter->want_write = want_write;
	reporter->userdata = userdata;
	reporter->batch = 1;
	loop_timer_init(loop, &reporter->interval_timer, on_interval, reporter);
	loop_timer_init(loop, &reporter->urgent_timer, on_urgent, reporter);
	loop_timer_init(loop, &reporter->budget_timer, on_budget, reporter);
	*ret = reporter;
	return 0;
}

void reporter_configure(struct reporter *reporter, const struct reporter_config *config)
{
	bool new_interval = config->interval_ms != reporter->config.interval_ms;

	reporter->config = *config;
	budget_change(&reporter->budget, config->bytes_per_day, LEAST_BURST, util_now_ms());
	if (!reporter->up)
		return;
	/* Else frequent reloads would put the next report off for ever. */
	if (new_interval)
		start_interval(reporter);
	reporter->want_write(reporter->userdata);
}

void reporter_free(struct reporter *reporter)
{
	if (!reporter)
		return;
	loop_timer_stop(&reporter->interval_timer);
	loop_timer_stop(&reporter->urgent_timer);
	loop_timer_stop(&reporter->budget_timer);
	free(reporter);
}

uint64_t reporter_batch(const struct reporter *reporter)
{
	return reporter->batch;
}

static void count_one(void *userdata, const struct device *device)
{
	(void)device;
	++*(size_t *)userdata;
}

void reporter_restore(struct reporter *reporter, uint64_t batch)
{
	reporter->batch = batch;
	reporter->n = 0;
	devices_batch_each(reporter->devices, count_one, &reporter->n);
	reporter->batch_out = reporter->n > 0;
	if (reporter->batch_out)
		reporter->counters.unacknowledged_ms = util_now_ms();
}

void reporter_up(struct reporter *reporter, uint64_t interval_ms)
{
	reporter->up = true;
	reporter->batch_sent = false;
	reporter->asked_ms = interval_ms;
	on_interval(reporter);
	reporter->want_write(reporter->userdata);
}

void reporter_down(struct reporter *reporter)
{
	reporter->up = false;
	reporter->counters.awaited_ms = 0;
	loop_timer_stop(&reporter->interval_timer);
	loop_timer_stop(&reporter->budget_timer);
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
	reporter->counters.unacknowledged_ms = reporter->counters.awaited_ms = 0;
	reporter->counters.acknowledged_ms = util_now_ms();
	reporter->batch_out = false;
	reporter->batch++;
	if (reporter->all_due > 0 || reporter->urgent_due)
		go(reporter);
	else
		reporter_changed(reporter);
}

/* Bytes of a batch of n sightings with all that belongs to it, at most. */
static uint64_t cost_of(size_t n)
{
	return BATCH_BYTES + n * MESSAGE_SIGHTING_BYTES;
}

/* How many of n due devices the budget has enough for now. None before there is enough for all of
 * them, or as much as there ever is: what waits is merged, and few large batches take fewer bytes
 * than many small ones. Where there is none, *wait_ms becomes no more than the time until then. */
static size_t affordable(const struct reporter *reporter, size_t n, uint64_t now_ms,
			 uint64_t *wait_ms)
{
	const struct budget *budget = &reporter->budget;
	size_t max = MIN(n, (size_t)MESSAGE_SIGHTINGS_MAX);
	uint64_t needed_ms;

	if (n == 0)
		return 0;
	needed_ms = budget_wait_ms(budget, now_ms, cost_of(max));
	if (needed_ms > 0) {
		*wait_ms = MIN(*wait_ms, needed_ms);
		return 0;
	}
	return MIN(max, (budget_left(budget, now_ms) - BATCH_BYTES) / MESSAGE_SIGHTING_BYTES);
}

static void begin(struct reporter *reporter, size_t max, bool all)
{
	reporter->n = devices_batch_begin(reporter->devices, max, !all);
	/* What is heard from now on is for the next report, or this one might never end. */
	if (all)
		reporter->all_due = reporter->n < max ? 0 : reporter->all_due - reporter->n;
	if (devices_urgent(reporter->devices) == 0)
		reporter->urgent_due = false;
	reporter->batch_out = reporter->n > 0;
	reporter->batch_sent = false;
}

/* Begins a batch of what is due, news alone where there is not enough left for all. Returns 0, or
 * how long to wait for the budget. */
static uint64_t begin_due(struct reporter *reporter, uint64_t now_ms)
{
	size_t urgent = devices_urgent(reporter->devices);
	uint64_t wait_ms = UINT64_MAX;
	size_t max = affordable(reporter, reporter->all_due, now_ms, &wait_ms);
	bool all = max > 0;

	/* They may have gone with the others, or made room. */
	if (urgent == 0)
		reporter->urgent_due = false;
	if (!all && reporter->urgent_due)
		max = affordable(reporter, urgent, now_ms, &wait_ms);
	if (max == 0)
		return wait_ms == UINT64_MAX ? 0 : wait_ms;
	begin(reporter, max, all);
	return 0;
}

/* Makes sure that there is a batch, if one is due, that may go now. */
static bool prepare(struct reporter *reporter, uint64_t now_ms)
{
	uint64_t wait_ms;

	if (reporter->batch_out && reporter->batch_sent)
		return false;
	if (reporter->batch_out)
		wait_ms = budget_wait_ms(&reporter->budget, now_ms, cost_of(reporter->n));
	else
		wait_ms = begin_due(reporter, now_ms);
	if (wait_ms > 0)
		loop_timer_start(&reporter->budget_timer, wait_ms);
	else
		loop_timer_stop(&reporter->budget_timer);
	return wait_ms == 0 && reporter->batch_out;
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

static void count_sent(struct reporter *reporter, uint64_t now_ms)
{
	if (reporter->counters.unacknowledged_ms == 0) {
		reporter->counters.unacknowledged_ms = now_ms;
		return;
	}
	reporter->counters.resent++;
	reporter->counters.resent_sightings += reporter->n;
}

/* What a batch takes: its frame, and that of its acknowledgement. */
static uint64_t bytes_of(size_t len, uint64_t batch)
{
	size_t number = batch < 24 ? 1 : batch <= UINT8_MAX ? 2 : batch <= UINT16_MAX ? 3 : 5;

	if (batch > UINT32_MAX)
		number = 9;
	return len + (len < 126 ? FRAME_HEAD - 2 : FRAME_HEAD) + FRAME_HEAD_ACK + 2 + number;
}

size_t reporter_next_message(struct reporter *reporter, uint8_t *buf, size_t size)
{
	struct encoding encoding = {.now_ms = util_now_ms()};
	size_t len;

	if (!prepare(reporter, encoding.now_ms))
		return 0;
	devices_batch_each(reporter->devices, add_sighting, &encoding);
	reporter->n = encoding.n;
	reporter->n_adverts = encoding.n_adverts;
	count_sent(reporter, encoding.now_ms);
	reporter->batch_sent = true;
	reporter->counters.awaited_ms = encoding.now_ms;
	len = message_encode_sightings(reporter->batch, encoding.sightings, encoding.n, buf, size);
	budget_spend(&reporter->budget, encoding.now_ms, bytes_of(len, reporter->batch));
	return len;
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
	if (reporter->budget_timer.armed)
		return true;
	return !reporter->batch_out && counters.dirty == 0;
}

uint64_t reporter_late_ms(const struct reporter *reporter, uint64_t now_ms)
{
	uint64_t since_ms = reporter->counters.awaited_ms;

	return since_ms != 0 && now_ms - since_ms >= REPORTER_LATE_MS ? now_ms - since_ms : 0;
}

void reporter_get_counters(const struct reporter *reporter, struct reporter_counters *ret)
{
	*ret = reporter->counters;
}

void reporter_get_budget(const struct reporter *reporter, struct reporter_budget *ret)
{
	const struct loop_timer *timer = &reporter->budget_timer;

	*ret = (struct reporter_budget){.per_day = reporter->budget.per_day};
	if (ret->per_day == 0)
		return;
	ret->left = budget_left(&reporter->budget, util_now_ms());
	if (timer->armed)
		ret->until_ms = timer->due_us / 1000;
}
