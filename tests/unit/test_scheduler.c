/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/asker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

#define NONE	     (-1) /* nobody's turn */
#define NEVER	     UINT64_MAX
#define ASKS	     ADVERT_FLAG_ASKS
#define ANNOUNCES    (ADVERT_FLAG_ASKS | ADVERT_FLAG_ANNOUNCES)
#define UNHEARD_MS   3050 /* a device heard once is silent after it */
#define HOLDOFF_MS   900
#define FORGOTTEN_MS 30000

static const struct scheduler_config no_holdoff = {
	.max_links = 16,
	.max_links_per_adapter = 4,
	.rssi_floor_dbm = -90,
};
static const struct scheduler_config with_holdoff = {
	.max_links = 16,
	.max_links_per_adapter = 4,
	.rssi_floor_dbm = -128,
	.holdoff_ms = HOLDOFF_MS,
};
static const struct scheduler_load idle = {0};

static void hear(struct scheduler *scheduler, uint64_t now_ms, unsigned number, uint8_t flags)
{
	hear_as(scheduler, now_ms, number, &(struct heard){0, -60, flags, 0});
}

static void hear_on(struct scheduler *scheduler, uint64_t now_ms, unsigned number, unsigned adapter,
		    int8_t rssi_dbm)
{
	hear_as(scheduler, now_ms, number, &(struct heard){adapter, rssi_dbm, ASKS, 0});
}

/* Whose turn it is; wake: when to ask again, by the scheduler. */
static int next_to_wake(struct scheduler *scheduler, uint64_t now_ms,
			const struct scheduler_load *load, uint64_t *ret_wake_ms)
{
	struct scheduler_hearing *on = NULL;
	struct scheduler_asker *asker = scheduler_next(scheduler, now_ms, load, &on, ret_wake_ms);

	if (!asker)
		return NONE;
	assert_non_null(on);
	assert_true(on->used);
	assert_int_equal(on->address.bytes[0], number_of_asker(asker) & 0xff);
	assert_int_equal(on->address.bytes[1], on->adapter);
	return number_of_asker(asker);
}

static int next_number(struct scheduler *scheduler, uint64_t now_ms)
{
	uint64_t wake_ms;

	return next_to_wake(scheduler, now_ms, &idle, &wake_ms);
}

static int take(struct scheduler *scheduler, uint64_t now_ms)
{
	int number = next_number(scheduler, now_ms);

	if (number != NONE)
		scheduler_remove(scheduler, asker_of(scheduler, number));
	return number;
}

/* The adapter the device would be connected from, or NONE. */
static int adapter_of_next(struct scheduler *scheduler, uint64_t now_ms,
			   const struct scheduler_load *load)
{
	struct scheduler_hearing *on;
	uint64_t wake_ms;

	return scheduler_next(scheduler, now_ms, load, &on, &wake_ms) ? (int)on->adapter : NONE;
}

static void who_asks_first_goes_first(void **state)
{
	struct scheduler scheduler;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	assert_int_equal(next_number(&scheduler, 900), NONE);
	for (unsigned i = 0; i < 5; i++)
		hear(&scheduler, 1000 + i, 7 - i, ASKS);
	hear(&scheduler, 1010, 5, ASKS); /* asking again is neither good nor bad */
	assert_int_equal(scheduler.n, 5);
	for (int i = 7; i > 2; i--) {
		assert_int_equal(next_number(&scheduler, 1050), i); /* and stays in the queue */
		assert_int_equal(take(&scheduler, 1050), i);
	}
	assert_int_equal(take(&scheduler, 1050), NONE);
	assert_int_equal(scheduler.n, 0);
	/* One that was taken lines up behind the others. */
	hear(&scheduler, 1200, 1, ASKS);
	hear(&scheduler, 1201, 7, ASKS);
	assert_int_equal(take(&scheduler, 1300), 1);
	scheduler_done(&scheduler);
}

static void who_announces_itself_goes_before_others(void **state)
{
	struct scheduler scheduler;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	hear(&scheduler, 1000, 1, ASKS);
	hear(&scheduler, 1001, 2, ASKS);
	hear(&scheduler, 1002, 3, ANNOUNCES);
	hear(&scheduler, 1003, 4, ANNOUNCES);
	hear(&scheduler, 1004, 5, ADVERT_FLAG_ANNOUNCES); /* does not ask */
	assert_int_equal(next_number(&scheduler, 1100), 3);
	hear(&scheduler, 1105, 2, ANNOUNCES); /* it asked before them */
	assert_int_equal(next_number(&scheduler, 1110), 2);
	assert_int_equal(asker_of(&scheduler, 2)->service_data[0], ANNOUNCES);
	hear(&scheduler, 1120, 2, ASKS); /* the person has let go */
	assert_int_equal(asker_of(&scheduler, 2)->service_data[0], ASKS);
	assert_int_equal(take(&scheduler, 1130), 3);
	assert_int_equal(take(&scheduler, 1130), 4);
	assert_int_equal(take(&scheduler, 1130), 1);
	assert_int_equal(take(&scheduler, 1130), 2);
	scheduler_done(&scheduler);
}

static void who_asks_no_more_is_out(void **state)
{
	struct scheduler scheduler;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	hear(&scheduler, 1000, 1, 0);
	hear(&scheduler, 1000, 2, 0xfe);
	assert_int_equal(scheduler.n, 0);
	hear(&scheduler, 1001, 1, ASKS);
	hear(&scheduler, 1002, 2, 0xff);
	hear(&scheduler, 1003, 3, 0); /* takes out nobody else */
	assert_int_equal(scheduler.n, 2);
	hear(&scheduler, 1004, 1, 0xfe);
	assert_int_equal(scheduler.n, 1);
	assert_int_equal(next_number(&scheduler, 1010), 2);
	hear(&scheduler, 1020, 1, ASKS);
	hear(&scheduler, 1021, 2, 0);
	assert_int_equal(take(&scheduler, 1030), 1);
	assert_int_equal(take(&scheduler, 1030), NONE);
	scheduler_done(&scheduler);
}

static void holds_off_until_it_is_over(void **state)
{
	struct scheduler scheduler;
	uint64_t ready_ms, wake_ms;

	(void)state;
	scheduler_init(&scheduler, &with_holdoff);
	hear_on(&scheduler, 1000, 1, 0, -95);
	ready_ms = asker_of(&scheduler, 1)->ready_ms;
	assert_int_equal(next_to_wake(&scheduler, 1000, &idle, &wake_ms), NONE);
	assert_int_equal(wake_ms, ready_ms);
	hear_on(&scheduler, 1100, 1, 0, -94); /* further adverts change nothing */
	hear_on(&scheduler, ready_ms - 1, 1, 1, -20);
	assert_int_equal(next_to_wake(&scheduler, ready_ms - 1, &idle, &wake_ms), NONE);
	assert_int_equal(wake_ms, ready_ms);
	assert_int_equal(next_to_wake(&scheduler, ready_ms, &idle, &wake_ms), 1);
	/* The place in the queue is that of the first advert, not that of the end of the hold-off. */
	hear_on(&scheduler, 1001, 2, 0, 0);
	assert_int_equal(next_number(&scheduler, ready_ms), 1);
	scheduler_done(&scheduler);
	/* There may be none at all. */
	scheduler_init(&scheduler, &no_holdoff);
	hear_on(&scheduler, 1000, 1, 0, -90);
	assert_int_equal(next_number(&scheduler, 1000), 1);
	scheduler_done(&scheduler);
}

static void does_not_connect_below_the_floor(void **state)
{
	struct scheduler scheduler;
	uint64_t wake_ms;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	hear_on(&scheduler, 1000, 1, 0, -91);
	assert_int_equal(next_to_wake(&scheduler, 1000, &idle, &wake_ms), NONE);
	assert_int_equal(wake_ms, NEVER); /* an advert is waited for */
	hear_on(&scheduler, 1001, 2, 0, -90);
	assert_int_equal(next_number(&scheduler, 1001), 2);
	hear_on(&scheduler, 1002, 1, 0, BLE_RSSI_NONE); /* it may be near */
	assert_int_equal(next_number(&scheduler, 1002), 1);
	hear_on(&scheduler, 1003, 1, 0, -128);
	assert_int_equal(next_number(&scheduler, 1003), 2);
	/* Strong enough on another adapter. */
	hear_on(&scheduler, 1004, 1, 3, -80);
	assert_int_equal(next_number(&scheduler, 1004), 1);
	assert_int_equal(adapter_of_next(&scheduler, 1004, &idle), 3);
	scheduler_done(&scheduler);
}

/* One that failed waits, and lines up behind those that asked before its wait was over. */
static void backs_off_and_lines_up_again(void **state)
{
	static const struct heard failed = {0, -60, ASKS, 3000}, before = {0, -60, ASKS, 900};
	struct scheduler scheduler;
	uint64_t wake_ms;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	hear_as(&scheduler, 1000, 1, &failed);
	assert_int_equal(next_to_wake(&scheduler, 1000, &idle, &wake_ms), NONE);
	assert_int_equal(wake_ms, 3000);
	hear_as(&scheduler, 2999, 1, &failed);
	assert_int_equal(next_to_wake(&scheduler, 2999, &idle, &wake_ms), NONE);
	assert_int_equal(wake_ms, 3000);
	assert_int_equal(next_number(&scheduler, 3000), 1);
	hear(&scheduler, 2999, 2, ASKS);
	hear(&scheduler, 3001, 3, ASKS);
	hear_as(&scheduler, 3002, 4, &before); /* a wait that is over gives no better place */
	assert_int_equal(take(&scheduler, 3010), 2);
	assert_int_equal(take(&scheduler, 3010), 1);
	assert_int_equal(take(&scheduler, 3010), 3);
	assert_int_equal(take(&scheduler, 3010), 4);
	scheduler_done(&scheduler);
}

static void slots_are_counted_in_all(void **state)
{
	struct scheduler_load load = {.links = 15};
	struct scheduler scheduler;
	uint64_t wake_ms;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	hear(&scheduler, 1000, 1, ASKS);
	assert_int_equal(next_to_wake(&scheduler, 1000, &load, &wake_ms), 1);
	load.links = 16;
	assert_int_equal(next_to_wake(&scheduler, 1000, &load, &wake_ms), NONE);
	assert_int_equal(wake_ms, NEVER);
	load.links = 17;
	assert_int_equal(next_to_wake(&scheduler, 1000, &load, &wake_ms), NONE);
	load = (struct scheduler_load){.closed = true};
	assert_int_equal(next_to_wake(&scheduler, 1000, &load, &wake_ms), NONE);
	assert_int_equal(wake_ms, NEVER);
	scheduler_done(&scheduler);
}

static void adapters_have_slots_and_one_attempt(void **state)
{
	struct scheduler_load load = {.n_adapters = 1, .adapters = {{.adapter = 5, .links = 3}}};
	struct scheduler scheduler;
	uint64_t wake_ms;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	hear_on(&scheduler, 1000, 1, 5, -60);
	assert_int_equal(next_to_wake(&scheduler, 1000, &load, &wake_ms), 1);
	load.adapters[0].links = 4;
	assert_int_equal(next_to_wake(&scheduler, 1000, &load, &wake_ms), NONE);
	assert_int_equal(wake_ms, NEVER);
	load.adapters[0].links = 0;
	load.adapters[0].attempting = true;
	assert_int_equal(next_to_wake(&scheduler, 1000, &load, &wake_ms), NONE);
	assert_int_equal(wake_ms, NEVER);
	/* The next in the queue need not wait for the same adapter. */
	hear_on(&scheduler, 1001, 2, 6, -60);
	assert_int_equal(next_to_wake(&scheduler, 1001, &load, &wake_ms), 2);
	load.adapters[0].adapter = 7; /* the load of another */
	assert_int_equal(next_to_wake(&scheduler, 1001, &load, &wake_ms), 1);
	scheduler_done(&scheduler);
}

static void takes_the_best_adapter_that_can(void **state)
{
	struct scheduler_load load = {.n_adapters = 3,
				      .adapters = {[1] = {.adapter = 1}, {.adapter = 2}}};
	struct scheduler scheduler;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	hear_on(&scheduler, 1000, 1, 2, BLE_RSSI_NONE);
	assert_int_equal(adapter_of_next(&scheduler, 1000, &load), 2);
	hear_on(&scheduler, 1000, 1, 0, -70);
	hear_on(&scheduler, 1000, 1, 1, -69);
	assert_int_equal(adapter_of_next(&scheduler, 1000, &load), 1);
	load.adapters[1].links = 4;
	assert_int_equal(adapter_of_next(&scheduler, 1000, &load), 0);
	load.adapters[0].attempting = true;
	assert_int_equal(adapter_of_next(&scheduler, 1000, &load), 2);
	load.adapters[2].attempting = true;
	assert_int_equal(adapter_of_next(&scheduler, 1000, &load), NONE);
	load.adapters[1].links = 3;
	assert_int_equal(adapter_of_next(&scheduler, 1000, &load), 1);
	/* Not known comes after all that is known, in whichever order they were heard. */
	hear_on(&scheduler, 1050, 1, 1, BLE_RSSI_NONE);
	assert_int_equal(adapter_of_next(&scheduler, 1050, &idle), 0);
	/* What counts is how it is heard now. */
	load = idle;
	hear_on(&scheduler, 1100, 1, 0, -68);
	assert_int_equal(adapter_of_next(&scheduler, 1100, &load), 0);
	/* Not what an adapter heard long ago, however strong it was. */
	hear_on(&scheduler, 1100 + UNHEARD_MS, 1, 2, -85);
	assert_int_equal(adapter_of_next(&scheduler, 1100 + UNHEARD_MS, &load), 2);
	scheduler_done(&scheduler);
}

/* An adapter that is gone, as the relay says by `used`, and more adapters than are remembered. */
static void forgets_adapters(void **state)
{
	struct scheduler scheduler;
	struct scheduler_asker *asker;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	for (unsigned i = 0; i <= SCHEDULER_HEARINGS; i++)
		hear_on(&scheduler, 1000 + i, 1, i, (int8_t)(-50 - (int)i));
	/* Of adapter 0, the best, it was heard least recently. */
	assert_int_equal(adapter_of_next(&scheduler, 1010, &idle), 1);
	asker = asker_of(&scheduler, 1);
	for (unsigned i = 0; i < SCHEDULER_HEARINGS; i++)
		asker->heard[i].used = asker->heard[i].adapter == 3;
	assert_int_equal(adapter_of_next(&scheduler, 1010, &idle), 3);
	for (unsigned i = 0; i < SCHEDULER_HEARINGS; i++)
		asker->heard[i].used = false;
	assert_int_equal(adapter_of_next(&scheduler, 1010, &idle), NONE);
	assert_int_equal(adapter_of_next(&scheduler, 1000 + SCHEDULER_HEARINGS + 30000, &idle),
			 NONE);
	assert_int_equal(scheduler.n, 0);
	scheduler_done(&scheduler);
}

/* A device that missed an advert is not connected before its next one. */
static void waits_for_silent_devices(void **state)
{
	static const uint64_t intervals[][2] = {
		/* between adverts, and heard for how long after the last one */
		{1, 51},
		{100, 200},
		{1000, 1550},
		{2000, UNHEARD_MS},
		{2001, UNHEARD_MS},
		{9000, UNHEARD_MS},
	};
	struct scheduler scheduler;
	uint64_t now_ms = 1000, wake_ms;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	hear(&scheduler, now_ms, 1, ASKS);
	assert_int_equal(next_number(&scheduler, now_ms + UNHEARD_MS), 1);
	assert_int_equal(next_number(&scheduler, now_ms + UNHEARD_MS + 1), NONE);
	for (size_t i = 0; i < ARRAY_SIZE(intervals); i++) {
		now_ms += 20000;
		hear(&scheduler, now_ms, 1, ASKS);
		now_ms += intervals[i][0];
		hear(&scheduler, now_ms, 1, ASKS);
		assert_int_equal(next_number(&scheduler, now_ms + intervals[i][1]), 1);
		assert_int_equal(
			next_to_wake(&scheduler, now_ms + intervals[i][1] + 1, &idle, &wake_ms),
			NONE);
		assert_int_equal(wake_ms, NEVER);
	}
	/* It keeps its place, but the others do not wait for it. */
	hear(&scheduler, now_ms + 20000, 2, ASKS);
	assert_int_equal(next_number(&scheduler, now_ms + 20000), 2);
	hear(&scheduler, now_ms + 20001, 1, ASKS);
	assert_int_equal(next_number(&scheduler, now_ms + 20001), 1);
	scheduler_done(&scheduler);
}

static void forgets_devices_that_stay_silent(void **state)
{
	struct scheduler scheduler;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	hear(&scheduler, 1000, 1, ASKS);
	hear(&scheduler, 1000, 2, ASKS);
	hear_on(&scheduler, 5000, 2, 1, -70); /* any adapter will do */
	next_number(&scheduler, 1000 + FORGOTTEN_MS - 1);
	assert_int_equal(scheduler.n, 2);
	next_number(&scheduler, 1000 + FORGOTTEN_MS);
	assert_int_equal(scheduler.n, 1);
	assert_non_null(asker_of(&scheduler, 2));
	next_number(&scheduler, 5000 + FORGOTTEN_MS - 1);
	assert_int_equal(scheduler.n, 1);
	next_number(&scheduler, 5000 + FORGOTTEN_MS);
	assert_int_equal(scheduler.n, 0);
	assert_true(list_empty(&scheduler.queue));
	/* It has lost its place. */
	hear(&scheduler, 50000, 3, ASKS);
	hear(&scheduler, 50001, 1, ASKS);
	assert_int_equal(take(&scheduler, 50010), 3);
	scheduler_done(&scheduler);
}

static void turns_away_when_full(void **state)
{
	struct scheduler scheduler;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	for (unsigned i = 0; i < SCHEDULER_MAX; i++)
		hear(&scheduler, 1000 + i, i, ASKS);
	assert_int_equal(scheduler.n, SCHEDULER_MAX);
	assert_int_equal(scheduler.turned_away, 0);
	hear(&scheduler, 2000, SCHEDULER_MAX, ASKS);
	assert_int_equal(scheduler.n, SCHEDULER_MAX);
	assert_int_equal(scheduler.turned_away, 1);
	assert_null(asker_of(&scheduler, SCHEDULER_MAX));
	hear(&scheduler, 2000, SCHEDULER_MAX + 1, 0); /* does not ask */
	hear(&scheduler, 2000, 7, ASKS); /* is in it */
	assert_int_equal(scheduler.turned_away, 1);
	assert_int_equal(take(&scheduler, 2000), 0);
	hear(&scheduler, 2001, SCHEDULER_MAX, ASKS);
	assert_int_equal(scheduler.turned_away, 1);
	for (int i = 1; i <= SCHEDULER_MAX; i++)
		assert_int_equal(take(&scheduler, 2010), i);
	assert_int_equal(scheduler.n, 0);
	scheduler_done(&scheduler);
}

/* The first of all ends of hold-offs and back-offs, of those that nothing else keeps waiting. */
static void wakes_up_for_the_first(void **state)
{
	struct scheduler scheduler;
	uint64_t wake_ms;

	(void)state;
	scheduler_init(&scheduler, &with_holdoff);
	scheduler.config.rssi_floor_dbm = -95;
	assert_int_equal(next_to_wake(&scheduler, 1000, &idle, &wake_ms), NONE);
	assert_int_equal(wake_ms, NEVER);
	hear_as(&scheduler, 1000, 1, &(struct heard){0, -60, ASKS, 4000});
	hear_as(&scheduler, 1000, 2, &(struct heard){0, -60, ASKS, 3500});
	hear_as(&scheduler, 1000, 6, &(struct heard){0, -60, ASKS, 3700});
	hear_on(&scheduler, 1000, 3, 0, -96); /* too weak for its hold-off to matter */
	assert_int_equal(next_to_wake(&scheduler, 1000, &idle, &wake_ms), NONE);
	assert_int_equal(wake_ms, 3500);
	hear_on(&scheduler, 1000, 4, 0, -80);
	assert_int_equal(next_to_wake(&scheduler, 1000, &idle, &wake_ms), NONE);
	assert_int_equal(wake_ms, asker_of(&scheduler, 4)->ready_ms);
	/* Also where it is somebody's turn: the others wait on. */
	scheduler.config.holdoff_ms = 0;
	hear_on(&scheduler, 1001, 5, 0, -80);
	assert_int_equal(next_to_wake(&scheduler, 1001, &idle, &wake_ms), 5);
	assert_int_equal(wake_ms, asker_of(&scheduler, 4)->ready_ms);
	hear_on(&scheduler, 3400, 4, 0, -80); /* no other hub has taken it */
	assert_int_equal(next_to_wake(&scheduler, 3499, &idle, &wake_ms), 4);
	assert_int_equal(wake_ms, 3500);
	scheduler_done(&scheduler);
}

struct listing {
	unsigned n;
	int numbers[16], adapters[16];
	enum scheduler_wait waits[16];
};

static void list(void *userdata, const struct scheduler_asker *asker, enum scheduler_wait wait,
		 const struct scheduler_hearing *on)
{
	struct listing *listing = userdata;

	assert_true(listing->n < ARRAY_SIZE(listing->numbers));
	listing->numbers[listing->n] = number_of_asker(asker);
	listing->adapters[listing->n] = on ? (int)on->adapter : NONE;
	listing->waits[listing->n++] = wait;
}

static struct listing list_all(const struct scheduler *scheduler, uint64_t now_ms,
			       const struct scheduler_load *load)
{
	struct listing listing = {0};

	scheduler_each(scheduler, now_ms, load, list, &listing);
	assert_int_equal(listing.n, scheduler->n);
	return listing;
}

/* Each in its place, with why it waits and from where it would be connected. */
static void lists_the_queue_with_reasons(void **state)
{
	static const int numbers[] = {8, 1, 2, 3, 4, 5, 6, 7};
	static const enum scheduler_wait waits[] = {
		SCHEDULER_READY,   SCHEDULER_SILENT, SCHEDULER_WEAK,	SCHEDULER_NO_SLOT,
		SCHEDULER_ATTEMPT, SCHEDULER_READY,  SCHEDULER_HOLDOFF, SCHEDULER_BACKOFF,
	};
	static const int adapters[] = {0, 0, 1, 2, 3, 0, 0, 0};
	struct scheduler_load load = {
		.n_adapters = 2,
		.adapters = {{.adapter = 2, .links = 4}, {.adapter = 3, .attempting = true}},
	};
	struct scheduler scheduler;
	struct listing listing;

	(void)state;
	scheduler_init(&scheduler, &no_holdoff);
	assert_int_equal(list_all(&scheduler, 1000, &load).n, 0);
	hear_as(&scheduler, 5000, 7, &(struct heard){0, -60, ASKS, 9000}); /* so it is the last */
	hear_on(&scheduler, 1000, 1, 0, -60);
	hear_on(&scheduler, 5002, 2, 1, -91);
	hear_on(&scheduler, 5003, 3, 1, -91); /* which counts less than where it is strong */
	hear_on(&scheduler, 5003, 3, 2, -80);
	hear_on(&scheduler, 5004, 4, 2, -50); /* full, which lasts longer than an attempt */
	hear_on(&scheduler, 5004, 4, 3, -80);
	hear_on(&scheduler, 5005, 5, 3, -50);
	hear_on(&scheduler, 5005, 5, 0, -80);
	scheduler.config.holdoff_ms = 1000;
	hear_on(&scheduler, 5006, 6, 0, -80);
	scheduler.config.holdoff_ms = 0;
	hear(&scheduler, 5007, 8, ANNOUNCES);
	listing = list_all(&scheduler, 5010, &load);
	assert_memory_equal(listing.numbers, numbers, sizeof(numbers));
	assert_memory_equal(listing.waits, waits, sizeof(waits));
	assert_memory_equal(listing.adapters, adapters, sizeof(adapters));

	/* No uplink and no slot are told of those alone that could go. */
	load.closed = true;
	load.links = 16;
	listing = list_all(&scheduler, 5010, &load);
	for (unsigned i = 0; i < listing.n; i++) {
		bool could = i == 0 || (i >= 3 && i <= 5);

		assert_int_equal(listing.waits[i], could ? SCHEDULER_CLOSED : waits[i]);
	}
	load.closed = false;
	listing = list_all(&scheduler, 5010, &load);
	for (unsigned i = 0; i < listing.n; i++) {
		bool could = i == 0 || (i >= 3 && i <= 5);

		assert_int_equal(listing.waits[i], could ? SCHEDULER_NO_SLOT : waits[i]);
	}
	scheduler_done(&scheduler);
}

static void names_reasons(void **state)
{
	static const char *const names[] = {"ready",	"back-off",  "silent",	"weak",
					    "hold-off", "no-uplink", "no-slot", "attempt"};

	(void)state;
	for (unsigned i = 0; i <= SCHEDULER_ATTEMPT; i++)
		assert_string_equal(scheduler_wait_name(i), names[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_asks_first_goes_first),
		cmocka_unit_test(who_announces_itself_goes_before_others),
		cmocka_unit_test(who_asks_no_more_is_out),
		cmocka_unit_test(holds_off_until_it_is_over),
		cmocka_unit_test(does_not_connect_below_the_floor),
		cmocka_unit_test(backs_off_and_lines_up_again),
		cmocka_unit_test(slots_are_counted_in_all),
		cmocka_unit_test(adapters_have_slots_and_one_attempt),
		cmocka_unit_test(takes_the_best_adapter_that_can),
		cmocka_unit_test(forgets_adapters),
		cmocka_unit_test(waits_for_silent_devices),
		cmocka_unit_test(forgets_devices_that_stay_silent),
		cmocka_unit_test(turns_away_when_full),
		cmocka_unit_test(wakes_up_for_the_first),
		cmocka_unit_test(lists_the_queue_with_reasons),
		cmocka_unit_test(names_reasons),
	};

	return cmocka_run_group_tests_name("scheduler", tests, NULL, NULL);
}
