/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/scheduler.h"

#include <stdlib.h>
#include <string.h>

/* A device is heard no more after a missed advert and some slack. The kernel may hold single adverts
 * back for long: more than INTERVAL_MAX_MS is not taken for a device's interval. */
#define INTERVAL_MAX_MS 2000
#define SLACK_MS	50
#define FORGET_MS	30000 /* without an advert: out of the queue */

/* Hold-off grows between these from none to all, and has some jitter on top. */
#define NEAR_DBM	    (-50)
#define FAR_DBM		    (-95)
#define HOLDOFF_JITTER_PART 6

static const char *const wait_names[] = {
	[SCHEDULER_READY] = "ready",	  [SCHEDULER_BACKOFF] = "back-off",
	[SCHEDULER_SILENT] = "silent",	  [SCHEDULER_WEAK] = "weak",
	[SCHEDULER_HOLDOFF] = "hold-off", [SCHEDULER_CLOSED] = "no-uplink",
	[SCHEDULER_NO_SLOT] = "no-slot",  [SCHEDULER_ATTEMPT] = "attempt",
};

const char *scheduler_wait_name(enum scheduler_wait wait)
{
	return wait_names[wait];
}

static struct scheduler_asker *entry(struct list *l)
{
	return LIST_ENTRY(l, struct scheduler_asker, in_queue);
}

void scheduler_init(struct scheduler *scheduler, const struct scheduler_config *config)
{
	*scheduler = (struct scheduler){.config = *config};
	list_init(&scheduler->queue);
}

void scheduler_remove(struct scheduler *scheduler, struct scheduler_asker *asker)
{
	list_remove(&asker->in_queue);
	scheduler->n--;
	free(asker);
}

void scheduler_done(struct scheduler *scheduler)
{
	LIST_FOREACH_SAFE (l, &scheduler->queue)
		scheduler_remove(scheduler, entry(l));
}

/* --- The queue --- */

static struct scheduler_asker *find(struct scheduler *scheduler, const uint8_t device_id[16])
{
	LIST_FOREACH (l, &scheduler->queue) {
		if (memcmp(entry(l)->device_id, device_id, 16) == 0)
			return entry(l);
	}
	return NULL;
}

static uint32_t holdoff_of(const struct scheduler *scheduler, int rssi_dbm)
{
	uint32_t most = scheduler->config.holdoff_ms;
	/* In the middle where it is not known. */
	int dbm = rssi_dbm == BLE_RSSI_NONE ? (NEAR_DBM + FAR_DBM) / 2
					    : CLAMP(rssi_dbm, FAR_DBM, NEAR_DBM);

	return most * (uint32_t)(NEAR_DBM - dbm) / (NEAR_DBM - FAR_DBM);
}

static struct scheduler_asker *add(struct scheduler *scheduler, uint64_t now_ms,
				   const struct ble_advert *advert, uint64_t retry_ms)
{
	struct scheduler_asker *asker = NULL;

	if (scheduler->n < SCHEDULER_MAX)
		asker = calloc(1, sizeof(*asker));
	if (!asker) {
		scheduler->turned_away++;
		return NULL;
	}
	memcpy(asker->device_id, advert->advert->device_id, sizeof(asker->device_id));
	/* A device that failed lines up again once it may be tried again. */
	asker->since_ms = MAX(now_ms, retry_ms);
	asker->fresh_ms = now_ms + holdoff_of(scheduler, advert->rssi_dbm);
	asker->ready_ms = asker->fresh_ms +
			  util_random_below(scheduler->config.holdoff_ms / HOLDOFF_JITTER_PART);
	asker->retry_ms = retry_ms;
	asker->number = scheduler->added++;
	list_append(&scheduler->queue, &asker->in_queue);
	scheduler->n++;
	return asker;
}

/* The one of that adapter, or the one that was silent for longest. */
static struct scheduler_hearing *hearing_of(struct scheduler_asker *asker, unsigned adapter)
{
	struct scheduler_hearing *oldest = &asker->heard[0];

	for (unsigned i = 0; i < SCHEDULER_HEARINGS; i++) {
		struct scheduler_hearing *h = &asker->heard[i];

		if (h->used && h->adapter == adapter)
			return h;
		if (h->last_ms < oldest->last_ms)
			oldest = h;
	}
	*oldest = (struct scheduler_hearing){.adapter = adapter};
	return oldest;
}

static void hear(struct scheduler_asker *asker, uint64_t now_ms, const struct ble_advert *advert)
{
	struct scheduler_hearing *h = hearing_of(asker, advert->adapter);

	if (h->used)
		h->interval_ms = (uint32_t)CLAMP(now_ms - h->last_ms, (uint64_t)1,
						 (uint64_t)INTERVAL_MAX_MS);
	h->used = true;
	h->address = advert->address;
	h->rssi_dbm = advert->rssi_dbm;
	h->last_ms = asker->last_ms = now_ms;
	asker->announces = advert->advert->flags & ADVERT_FLAG_ANNOUNCES;
	memcpy(asker->service_data, advert->advert->data, sizeof(asker->service_data));
}

void scheduler_heard(struct scheduler *scheduler, uint64_t now_ms, const struct ble_advert *advert,
		     uint64_t retry_ms)
{
	bool asks = advert->advert->flags & ADVERT_FLAG_ASKS;
	struct scheduler_asker *asker = NULL;

	if (scheduler->n > 0)
		asker = find(scheduler, advert->advert->device_id);
	if (!asks && asker)
		scheduler_remove(scheduler, asker);
	if (!asks)
		return;
	if (!asker)
		asker = add(scheduler, now_ms, advert, retry_ms);
	if (asker)
		hear(asker, now_ms, advert);
}

/* --- Whose turn it is --- */

static bool is_within(const struct scheduler_hearing *h, uint64_t now_ms, unsigned half_intervals)
{
	uint32_t interval_ms = h->interval_ms ? h->interval_ms : INTERVAL_MAX_MS;

	return h->used && now_ms - h->last_ms <= interval_ms * half_intervals / 2 + SLACK_MS;
}

/* Whether it is still there, and asks: no advert of it is missing. */
static bool is_recent(const struct scheduler_asker *asker, uint64_t now_ms)
{
	for (unsigned i = 0; i < SCHEDULER_HEARINGS; i++) {
		if (is_within(&asker->heard[i], now_ms, 3))
			return true;
	}
	return false;
}

/* Whether that adapter hears it as well: it may have missed an advert, or tell it a moment later. */
static bool is_in_reach(const struct scheduler_hearing *h, uint64_t now_ms)
{
	return is_within(h, now_ms, 6);
}

static bool is_strong(const struct scheduler *scheduler, const struct scheduler_hearing *h)
{
	return h->rssi_dbm == BLE_RSSI_NONE || h->rssi_dbm >= scheduler->config.rssi_floor_dbm;
}

/* What the adapter's load lets a device that it hears do. */
static enum scheduler_wait wait_for_adapter(const struct scheduler *scheduler,
					    const struct scheduler_load *load, unsigned adapter)
{
	for (unsigned i = 0; i < load->n_adapters; i++) {
		if (load->adapters[i].adapter != adapter)
			continue;
		if (load->adapters[i].links >= scheduler->config.max_links_per_adapter)
			return SCHEDULER_NO_SLOT;
		return load->adapters[i].attempting ? SCHEDULER_ATTEMPT : SCHEDULER_READY;
	}
	return SCHEDULER_READY;
}

/* RSSI that is not available comes last. */
static bool is_better(const struct scheduler_hearing *a, const struct scheduler_hearing *b)
{
	int a_dbm = a->rssi_dbm == BLE_RSSI_NONE ? INT8_MIN : a->rssi_dbm;
	int b_dbm = b->rssi_dbm == BLE_RSSI_NONE ? INT8_MIN : b->rssi_dbm;

	return a_dbm > b_dbm;
}

/* The best of those that are the furthest on the way to READY. */
static enum scheduler_wait best_hearing(const struct scheduler *scheduler,
					struct scheduler_asker *asker, uint64_t now_ms,
					const struct scheduler_load *load,
					struct scheduler_hearing **ret)
{
	static const enum scheduler_wait order[] = {SCHEDULER_READY, SCHEDULER_ATTEMPT,
						    SCHEDULER_NO_SLOT, SCHEDULER_WEAK,
						    SCHEDULER_SILENT};
	struct scheduler_hearing *best[SCHEDULER_ATTEMPT + 1] = {NULL};

	for (unsigned i = 0; i < SCHEDULER_HEARINGS; i++) {
		struct scheduler_hearing *h = &asker->heard[i];
		enum scheduler_wait wait = SCHEDULER_SILENT;

		if (!h->used)
			continue;
		if (is_in_reach(h, now_ms))
			wait = is_strong(scheduler, h)
				       ? wait_for_adapter(scheduler, load, h->adapter)
				       : SCHEDULER_WEAK;
		if (!best[wait] || is_better(h, best[wait]))
			best[wait] = h;
	}
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		*ret = best[order[i]];
		if (*ret)
			return order[i];
	}
	return SCHEDULER_SILENT;
}

static enum scheduler_wait wait_of(const struct scheduler *scheduler, struct scheduler_asker *asker,
				   uint64_t now_ms, const struct scheduler_load *load,
				   struct scheduler_hearing **ret_on)
{
	enum scheduler_wait wait = best_hearing(scheduler, asker, now_ms, load, ret_on);

	if (now_ms < asker->retry_ms)
		return SCHEDULER_BACKOFF;
	if (!is_recent(asker, now_ms))
		return SCHEDULER_SILENT;
	if (wait == SCHEDULER_WEAK)
		return wait;
	if (now_ms < asker->ready_ms)
		return SCHEDULER_HOLDOFF;
	if (asker->last_ms < asker->fresh_ms)
		return SCHEDULER_SILENT;
	if (load->closed)
		return SCHEDULER_CLOSED;
	return load->links >= scheduler->config.max_links ? SCHEDULER_NO_SLOT : wait;
}

static bool goes_before(const struct scheduler_asker *a, const struct scheduler_asker *b)
{
	if (a->announces != b->announces)
		return a->announces;
	if (a->since_ms != b->since_ms)
		return a->since_ms < b->since_ms;
	return a->number < b->number;
}

struct scheduler_asker *scheduler_next(struct scheduler *scheduler, uint64_t now_ms,
				       const struct scheduler_load *load,
				       struct scheduler_hearing **ret_on, uint64_t *ret_wake_ms)
{
	struct scheduler_asker *next = NULL;

	*ret_wake_ms = UINT64_MAX;
	LIST_FOREACH_SAFE (l, &scheduler->queue) {
		struct scheduler_asker *asker = entry(l);
		struct scheduler_hearing *on;
		enum scheduler_wait wait;

		if (now_ms - asker->last_ms >= FORGET_MS) {
			scheduler_remove(scheduler, asker);
			continue;
		}
		wait = wait_of(scheduler, asker, now_ms, load, &on);
		if (wait == SCHEDULER_BACKOFF)
			*ret_wake_ms = MIN(*ret_wake_ms, asker->retry_ms);
		if (wait == SCHEDULER_HOLDOFF)
			*ret_wake_ms = MIN(*ret_wake_ms, asker->ready_ms);
		if (wait != SCHEDULER_READY || (next && !goes_before(asker, next)))
			continue;
		next = asker;
		*ret_on = on;
	}
	return next;
}

static int compare(const void *a, const void *b)
{
	struct scheduler_asker *const *x = a, *const *y = b;

	return goes_before(*x, *y) ? -1 : goes_before(*y, *x);
}

void scheduler_each(const struct scheduler *scheduler, uint64_t now_ms,
		    const struct scheduler_load *load,
		    void (*each)(void *userdata, const struct scheduler_asker *asker,
				 enum scheduler_wait wait, const struct scheduler_hearing *on),
		    void *userdata)
{
	struct scheduler_asker *askers[SCHEDULER_MAX] = {NULL};
	size_t n = 0;

	LIST_FOREACH (l, &scheduler->queue)
		askers[n++] = entry(l);
	qsort(askers, n, sizeof(askers[0]), compare);
	for (size_t i = 0; i < n; i++) {
		struct scheduler_hearing *on;
		enum scheduler_wait wait = wait_of(scheduler, askers[i], now_ms, load, &on);

		each(userdata, askers[i], wait, on);
	}
}
