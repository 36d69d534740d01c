/* SPDX-License-Identifier: Apache-2.0 */
/* The reporter without regular reports, with a budget, and after a restart or a reload. */
#include "agent/reporter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "tests/unit/reports.h"
#include "uplink/message.h"

static void no_regular_reports(void **state)
{
	struct reports *f = reports_setup(0);
	const struct report *sent;
	struct loop_timer timer;

	(void)state;
	reports_hear(f, 1, 0, -70);
	reports_hear(f, 2, 0, -70);
	reporter_up(f->reporter, 1); /* the cloud cannot switch them on */
	assert_int_equal(reports_next(f)->n, 2);
	reporter_acknowledged(f->reporter, 1);
	reports_hear(f, 1, 0, -70);
	reports_hear(f, 2, 0, -70);
	f->wanted = 0;
	loop_timer_init(f->loop, &timer, reports_quit, f);
	loop_timer_start(&timer, 50);
	assert_int_equal(loop_run(f->loop), 0);
	assert_int_equal(f->wanted, 0);
	reports_none(f);
	reporter_down(f->reporter);
	reports_hear(f, 1, ADVERT_FLAG_ASKS, -70);
	reporter_up(f->reporter, 0);
	sent = reports_next(f);
	assert_int_equal(sent->n, 2);
	assert_int_equal(sent->sightings[0].count, 2);
	reporter_acknowledged(f->reporter, 2);
	reports_hear(f, 1, ADVERT_FLAG_ASKS, -70);
	reporter_flush(f->reporter); /* at the stop */
	assert_int_equal(reports_next(f)->n, 1);
	reports_free(f);
}

static void no_regular_reports_but_news(void **state)
{
	struct reports *f = reports_setup(0);
	const struct report *sent;

	(void)state;
	reports_hear(f, 1, 0, -70);
	reports_hear(f, 2, 0, -70);
	reporter_up(f->reporter, 0);
	reports_next(f);
	reporter_acknowledged(f->reporter, 1);
	for (unsigned i = 0; i < 5; i++) {
		reports_hear(f, 1, 0, -70);
		reports_hear(f, 2, 0, -70);
	}
	reports_hear(f, 1, ADVERT_FLAG_ASKS, -70);
	reports_run(f);
	sent = reports_next(f);
	assert_int_equal(sent->n, 1);
	assert_int_equal(sent->sightings[0].number, 1);
	assert_int_equal(sent->sightings[0].count, 6);
	reports_free(f);
}

static struct reports *setup_budget(uint64_t bytes_per_day)
{
	return reports_with(&(struct reporter_config){.interval_ms = INTERVAL_MS,
						      .bytes_per_day = bytes_per_day});
}

static struct reporter_budget budget_of(struct reports *f)
{
	struct reporter_budget ret;

	reporter_get_budget(f->reporter, &ret);
	return ret;
}

static void a_budget_is_optional(void **state)
{
	struct reports *f = reports_setup(INTERVAL_MS);

	(void)state;
	assert_int_equal(budget_of(f).per_day, 0);
	assert_int_equal(budget_of(f).left, 0);
	assert_int_equal(budget_of(f).until_ms, 0);
	reports_free(f);
}

/* More than there ever is for at once: as many as there is for, and the rest waits. */
static void a_budget_makes_batches_smaller(void **state)
{
	struct reports *f = setup_budget(10000);
	uint64_t left = budget_of(f).left, now_ms;

	(void)state;
	assert_int_equal(left, 10000 / 24);
	for (unsigned i = 0; i < 10; i++)
		reports_hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(reports_next(f)->n, 4);
	assert_true(budget_of(f).left < left - 4 * 50);
	assert_int_equal(budget_of(f).until_ms, 0);
	assert_false(reporter_idle(f->reporter)); /* an acknowledgement is to come */
	reporter_acknowledged(f->reporter, 1);
	reports_none(f);
	now_ms = util_now_ms();
	assert_in_range(budget_of(f).until_ms, now_ms + 60000, now_ms + 3600000);
	assert_true(reporter_idle(f->reporter)); /* the end does not wait for it */
	/* Nor does it wait while there is no connection. */
	reporter_down(f->reporter);
	assert_int_equal(budget_of(f).until_ms, 0);
	assert_false(reporter_idle(f->reporter));
	reports_free(f);
}

/* What is sent again is paid for again. */
static void a_budget_holds_back_what_goes_again(void **state)
{
	struct reports *f = setup_budget(10000);

	(void)state;
	for (unsigned i = 0; i < 4; i++)
		reports_hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(reports_next(f)->n, 4);
	reporter_down(f->reporter);
	reporter_up(f->reporter, 0);
	reports_none(f);
	assert_true(budget_of(f).until_ms > 0);
	assert_int_equal(reports_counters(f).resent, 0);
	assert_true(reporter_idle(f->reporter));
	reports_free(f);
}

/* News alone may be paid for where all that is due may not. */
static void a_budget_prefers_news(void **state)
{
	struct reports *f = setup_budget(24000);
	const struct report *sent;

	(void)state;
	for (unsigned i = 0; i < 8; i++)
		reports_hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(reports_next(f)->n, 8);
	reporter_acknowledged(f->reporter, 1);
	for (unsigned i = 0; i < 8; i++)
		reports_hear(f, i, 0, -70);
	reporter_flush(f->reporter);
	reports_none(f);
	reports_hear(f, 9, 0, -70);
	reports_run(f);
	sent = reports_next(f);
	assert_int_equal(sent->n, 1);
	assert_int_equal(sent->sightings[0].number, 9);
	assert_int_equal(budget_of(f).until_ms, 0);
	reporter_acknowledged(f->reporter, 2);
	reports_none(f);
	assert_true(budget_of(f).until_ms > 0);
	reports_free(f);
}

/* A report that waited goes as soon as there is enough for it, and what was heard meanwhile too. */
static void a_budget_fills_again(void **state)
{
	struct reports *f = setup_budget(10000000);
	uint64_t batch = 1, until_ms;

	(void)state;
	reports_hear(f, 1, 0, -70);
	for (reporter_up(f->reporter, 0);; batch++) {
		reporter_flush(f->reporter);
		if (reporter_next_message(f->reporter, f->message, sizeof(f->message)) == 0)
			break;
		reporter_acknowledged(f->reporter, batch);
		reports_hear(f, 1, 0, -70);
		assert_true(batch < 10000);
	}
	assert_true(batch > 1000);
	until_ms = budget_of(f).until_ms;
	assert_true(until_ms > 0);
	reports_hear(f, 1, 0, -70);
	f->wanted = 0;
	reports_run(f);
	assert_true(util_now_ms() >= until_ms);
	assert_int_equal(reports_next(f)->sightings[0].count, 2);
	reports_free(f);
}

/* Another interval and another budget count from then on. */
static void is_configured_anew(void **state)
{
	struct reports *f = setup_budget(10000);

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		reports_hear(f, i, 0, -70);
	reporter_up(f->reporter, 0);
	assert_int_equal(reports_next(f)->n, 4);
	reporter_acknowledged(f->reporter, 1);
	reports_none(f);
	f->wanted = 0;
	reporter_configure(f->reporter, &(struct reporter_config){.interval_ms = 20});
	assert_int_equal(f->wanted, 1);
	assert_int_equal(budget_of(f).per_day, 0);
	assert_int_equal(reports_next(f)->n, 6);
	reporter_acknowledged(f->reporter, 2);
	reports_hear(f, 1, 0, -70);
	reports_none(f);
	reports_run(f);
	assert_int_equal(reports_next(f)->sightings[0].state, MESSAGE_PRESENT);
	reports_free(f);
}

/* A batch that an earlier agent left goes first, with its number, and costs what it costs. */
static void goes_on_with_a_batch(void **state)
{
	struct reports *f = setup_budget(10000);
	const struct report *sent;

	(void)state;
	for (unsigned i = 1; i <= 20; i++) {
		struct device_span span = {
			.count = i,
			.first_ms = util_now_ms() - 2000,
			.last_ms = util_now_ms() - 1000,
			.state = DEVICE_STATE_PRESENT,
		};

		span.data[2] = 0x77;
		span.data[17] = (uint8_t)i;
		devices_restore(f->devices, &span, i <= 15);
	}
	reporter_restore(f->reporter, UINT64_C(1) << 40);
	assert_true(reporter_batch(f->reporter) == UINT64_C(1) << 40);
	assert_false(reporter_idle(f->reporter));
	reporter_acknowledged(f->reporter, UINT64_C(1) << 40); /* not before it is sent */
	assert_int_equal(reports_counters(f).batches, 0);
	reporter_up(f->reporter, 0);
	sent = reports_next(f);
	assert_true(sent->batch == UINT64_C(1) << 40);
	assert_int_equal(sent->n, 15);
	assert_int_equal(sent->sightings[14].count, 15);
	assert_in_range(sent->sightings[14].first_age_ms, 2000, 10000);
	assert_int_equal(reports_counters(f).resent, 1);
	assert_int_equal(reports_counters(f).resent_sightings, 15);
	reporter_acknowledged(f->reporter, UINT64_C(1) << 40);
	assert_int_equal(reports_counters(f).adverts, 120);
	/* More than the budget has at once, so the next waits for longer. */
	reports_none(f);
	assert_true(budget_of(f).until_ms > util_now_ms() + 3600000);
	reports_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_regular_reports),
		cmocka_unit_test(no_regular_reports_but_news),
		cmocka_unit_test(a_budget_is_optional),
		cmocka_unit_test(a_budget_makes_batches_smaller),
		cmocka_unit_test(a_budget_holds_back_what_goes_again),
		cmocka_unit_test(a_budget_prefers_news),
		cmocka_unit_test(a_budget_fills_again),
		cmocka_unit_test(is_configured_anew),
		cmocka_unit_test(goes_on_with_a_batch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
