/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/supervisor.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"

#define SILENCE_MS 90000
#define START_MS   5000000 /* the clock never starts at 0 */

/* The supervisor of an adapter that scans since START_MS. */
static struct supervisor watching(uint32_t silence_ms)
{
	struct supervisor s;

	supervisor_init(&s, silence_ms);
	supervisor_scanning(&s, true, START_MS);
	return s;
}

static struct ble_supervisor_status status_at(const struct supervisor *s, uint64_t now_ms)
{
	struct ble_supervisor_status status;

	supervisor_get_status(s, now_ms, &status);
	return status;
}

/* Nothing a moment before, and then just this. */
static void expect_at(struct supervisor *s, uint64_t due_ms, enum supervisor_action action)
{
	assert_int_equal(supervisor_next_ms(s), due_ms);
	assert_int_equal(supervisor_due(s, due_ms - 1, false), SUPERVISOR_NONE);
	assert_int_equal(supervisor_due(s, due_ms, false), action);
	assert_int_equal(supervisor_due(s, due_ms, false), SUPERVISOR_NONE);
}

static void expect_heard(struct supervisor *s, uint64_t now_ms, const char *expected)
{
	char text[SUPERVISOR_TEXT] = "";

	assert_int_equal(supervisor_heard(s, now_ms, text), *expected != '\0');
	assert_string_equal(text, expected);
	assert_int_equal(status_at(s, now_ms).step, BLE_SUPERVISOR_WATCHING);
	assert_string_equal(status_at(s, now_ms).cause, "");
}

static void climbs_the_ladder(void **state)
{
	struct supervisor s = watching(SILENCE_MS);
	struct ble_supervisor_status status;

	(void)state;
	status = status_at(&s, START_MS);
	assert_int_equal(status.silence_ms, SILENCE_MS);
	assert_int_equal(status.step, BLE_SUPERVISOR_WATCHING);
	assert_int_equal(status.step_ms, 0);
	assert_int_equal(status.next_ms, START_MS + SILENCE_MS);
	assert_string_equal(status.cause, "");

	expect_at(&s, START_MS + SILENCE_MS, SUPERVISOR_RESTART);
	status = status_at(&s, START_MS + SILENCE_MS);
	assert_int_equal(status.step, BLE_SUPERVISOR_RESTARTED);
	assert_int_equal(status.step_ms, START_MS + SILENCE_MS);
	assert_int_equal(status.restarts, 1);
	assert_string_equal(status.cause, "no advert for 90 s: discovery was restarted");

	expect_at(&s, START_MS + 2 * SILENCE_MS, SUPERVISOR_CYCLE);
	status = status_at(&s, START_MS + 2 * SILENCE_MS);
	assert_int_equal(status.step, BLE_SUPERVISOR_CYCLED);
	assert_int_equal(status.power_cycles, 1);
	assert_string_equal(status.cause, "no advert for 180 s: it was switched off and on");
	assert_false(status.reported);

	expect_at(&s, START_MS + 3 * SILENCE_MS, SUPERVISOR_REPORT);
	status = status_at(&s, START_MS + 3 * SILENCE_MS + 5000);
	assert_int_equal(status.step, BLE_SUPERVISOR_REPORTED);
	assert_int_equal(status.step_ms, START_MS + 3 * SILENCE_MS);
	assert_int_equal(status.next_ms, START_MS + 5 * SILENCE_MS);
	assert_int_equal(status.reports, 1);
	assert_true(status.reported);
	assert_string_equal(status.cause, "no advert for 275 s: the radio may be deaf, or no "
					  "device is near");

	/* The next round is slower, and the report stands meanwhile. */
	expect_at(&s, START_MS + 5 * SILENCE_MS, SUPERVISOR_RESTART);
	expect_at(&s, START_MS + 7 * SILENCE_MS, SUPERVISOR_CYCLE);
	assert_true(status_at(&s, START_MS + 7 * SILENCE_MS).reported);
	expect_at(&s, START_MS + 9 * SILENCE_MS, SUPERVISOR_REPORT);
	assert_int_equal(supervisor_next_ms(&s), START_MS + 13 * SILENCE_MS);
}

/* Asked at every moment, as it were: no two steps are closer than the cool-down, which doubles from
 * report to report up to an hour. */
static void cools_down(void **state)
{
	struct supervisor s = watching(SILENCE_MS);
	uint64_t last_ms = START_MS, cool_down_ms = SILENCE_MS;
	unsigned n = 0;

	(void)state;
	for (uint64_t now_ms = START_MS; n < 36; now_ms += 1000) {
		static const enum supervisor_action actions[] = {
			SUPERVISOR_RESTART, SUPERVISOR_CYCLE, SUPERVISOR_REPORT};
		enum supervisor_action action = supervisor_due(&s, now_ms, false);

		if (action == SUPERVISOR_NONE)
			continue;
		assert_int_equal(action, actions[n++ % 3]);
		assert_int_equal(now_ms - last_ms, cool_down_ms);
		last_ms = now_ms;
		if (action == SUPERVISOR_REPORT)
			cool_down_ms = MIN(2 * cool_down_ms, 3600000);
	}
	assert_int_equal(cool_down_ms, 3600000);
	assert_int_equal(status_at(&s, last_ms).reports, 12);
	expect_heard(&s, last_ms + 7000, "adverts again, 7 s after their lack was reported");
	expect_at(&s, last_ms + 7000 + SILENCE_MS, SUPERVISOR_RESTART);
}

/* A silence that is longer than the longest cool-down is not cut short by it. */
static void a_long_silence_stays(void **state)
{
	static const uint32_t silences[] = {3600000, 3600001, 86400000};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(silences); i++) {
		struct supervisor s = watching(silences[i]);
		uint64_t now_ms = START_MS;

		for (unsigned n = 0; n < 9; n++) {
			assert_int_equal(supervisor_next_ms(&s), now_ms + silences[i]);
			now_ms += silences[i];
			assert_int_not_equal(supervisor_due(&s, now_ms, false), SUPERVISOR_NONE);
		}
	}
}

static void waits_for_links(void **state)
{
	struct supervisor s = watching(SILENCE_MS);
	uint64_t now_ms = START_MS + SILENCE_MS;

	(void)state;
	/* A restart breaks no link. */
	assert_int_equal(supervisor_due(&s, now_ms, true), SUPERVISOR_RESTART);
	for (unsigned i = 0; i < 1000; i++) {
		/* It is told once, when another wait is over. */
		enum supervisor_action expected =
			i * 1000 == SILENCE_MS ? SUPERVISOR_REPORT : SUPERVISOR_NONE;

		now_ms = START_MS + 2 * SILENCE_MS + i * UINT64_C(1000);
		assert_int_equal(supervisor_due(&s, now_ms, true), expected);
		assert_true(supervisor_next_ms(&s) <= now_ms);
	}
	assert_true(status_at(&s, now_ms).reported);
	assert_int_equal(status_at(&s, now_ms).step, BLE_SUPERVISOR_RESTARTED);
	assert_int_equal(status_at(&s, now_ms).power_cycles, 0);
	assert_string_equal(
		status_at(&s, now_ms).cause,
		"no advert for 1179 s: to be switched off and on when no device is connected");
	now_ms += 100;
	assert_int_equal(supervisor_due(&s, now_ms, false), SUPERVISOR_CYCLE);
	/* What comes next has its own wait, and links are not in its way. */
	assert_int_equal(supervisor_due(&s, now_ms + SILENCE_MS - 1, true), SUPERVISOR_NONE);
	assert_int_equal(supervisor_due(&s, now_ms + SILENCE_MS, true), SUPERVISOR_REPORT);
}

static void life_ends_the_wait_for_links(void **state)
{
	struct supervisor s = watching(SILENCE_MS);

	(void)state;
	supervisor_due(&s, START_MS + SILENCE_MS, true);
	supervisor_due(&s, START_MS + 2 * SILENCE_MS, true);
	expect_heard(&s, START_MS + 200000, "adverts again, 110 s after discovery was restarted");
	expect_at(&s, START_MS + 200000 + SILENCE_MS, SUPERVISOR_RESTART);
	assert_string_equal(status_at(&s, START_MS + 200000 + SILENCE_MS).cause,
			    "no advert for 90 s: discovery was restarted");
}

/* At each rung: back to watching, with the first cool-down, and which step it was is told. */
static void life_at_each_step(void **state)
{
	static const char *const texts[] = {
		"",
		"adverts again, 2 s after discovery was restarted",
		"adverts again, 2 s after it was switched off and on",
		"adverts again, 2 s after their lack was reported",
		"adverts again, 2 s after discovery was restarted",
	};

	(void)state;
	for (unsigned steps = 0; steps < ARRAY_SIZE(texts); steps++) {
		struct supervisor s = watching(SILENCE_MS);
		uint64_t now_ms = START_MS;

		for (unsigned i = 0; i < steps; i++) {
			now_ms = supervisor_next_ms(&s);
			assert_int_not_equal(supervisor_due(&s, now_ms, false), SUPERVISOR_NONE);
		}
		expect_heard(&s, now_ms + 2500, texts[steps]);
		expect_heard(&s, now_ms + 2600, "");
		assert_false(status_at(&s, now_ms + 2600).reported);
		/* When the last step was is still known. */
		assert_int_equal(status_at(&s, now_ms + 2600).step_ms, steps > 0 ? now_ms : 0);
		expect_at(&s, now_ms + 2600 + SILENCE_MS, SUPERVISOR_RESTART);
		expect_at(&s, now_ms + 2600 + 2 * SILENCE_MS, SUPERVISOR_CYCLE);
	}
}

static void life_puts_it_off(void **state)
{
	struct supervisor s = watching(SILENCE_MS);

	(void)state;
	for (uint64_t now_ms = START_MS; now_ms < START_MS + 100 * SILENCE_MS; now_ms += 80000) {
		assert_int_equal(supervisor_due(&s, now_ms, false), SUPERVISOR_NONE);
		expect_heard(&s, now_ms, "");
		assert_int_equal(supervisor_next_ms(&s), now_ms + SILENCE_MS);
	}
	assert_int_equal(status_at(&s, START_MS).restarts, 0);
}

/* An adapter that does not scan cannot hear, and what it missed meanwhile is no silence. */
static void counts_while_scanning(void **state)
{
	struct supervisor s;

	(void)state;
	supervisor_init(&s, SILENCE_MS);
	assert_int_equal(supervisor_next_ms(&s), 0);
	assert_int_equal(supervisor_due(&s, START_MS, false), SUPERVISOR_NONE);
	supervisor_scanning(&s, true, START_MS);
	supervisor_scanning(&s, false, START_MS + 60000);
	assert_int_equal(supervisor_next_ms(&s), 0);
	assert_int_equal(supervisor_due(&s, START_MS + 10 * SILENCE_MS, false), SUPERVISOR_NONE);
	supervisor_scanning(&s, true, START_MS + 1000000);
	supervisor_scanning(&s, true, START_MS + 1000500); /* as before */
	expect_at(&s, START_MS + 1000000 + SILENCE_MS, SUPERVISOR_RESTART);
	assert_string_equal(status_at(&s, START_MS + 1000000 + SILENCE_MS).cause,
			    "no advert for 150 s: discovery was restarted");

	/* The step itself interrupts scanning: the next one's wait begins after it, and the ladder
	 * goes on where it was. */
	supervisor_scanning(&s, false, START_MS + 1000000 + SILENCE_MS);
	supervisor_scanning(&s, true, START_MS + 1004000 + SILENCE_MS);
	expect_at(&s, START_MS + 1004000 + 2 * SILENCE_MS, SUPERVISOR_CYCLE);
	/* Also where the adapter was gone for a while. */
	supervisor_scanning(&s, false, START_MS + 1004000 + 2 * SILENCE_MS);
	supervisor_scanning(&s, true, START_MS + 2000000);
	expect_at(&s, START_MS + 2000000 + SILENCE_MS, SUPERVISOR_REPORT);
	assert_string_equal(status_at(&s, START_MS + 2000000 + SILENCE_MS).cause,
			    "no advert for 330 s: the radio may be deaf, or no device is near");
}

static void can_be_switched_off(void **state)
{
	struct supervisor s = watching(0);

	(void)state;
	assert_int_equal(status_at(&s, START_MS).silence_ms, 0);
	assert_int_equal(supervisor_next_ms(&s), 0);
	assert_int_equal(supervisor_due(&s, START_MS, false), SUPERVISOR_NONE);
	assert_int_equal(supervisor_due(&s, UINT64_MAX, false), SUPERVISOR_NONE);
	expect_heard(&s, START_MS + 5, "");
	assert_int_equal(supervisor_due(&s, UINT64_MAX, false), SUPERVISOR_NONE);
	assert_int_equal(status_at(&s, START_MS).next_ms, 0);
}

/* Those for another reason are counted, and are no step. */
static void counts_other_power_cycles(void **state)
{
	struct supervisor s = watching(SILENCE_MS);

	(void)state;
	supervisor_cycled(&s);
	assert_int_equal(status_at(&s, START_MS).power_cycles, 1);
	assert_int_equal(status_at(&s, START_MS).step, BLE_SUPERVISOR_WATCHING);
	expect_at(&s, START_MS + SILENCE_MS, SUPERVISOR_RESTART);
	expect_at(&s, START_MS + 2 * SILENCE_MS, SUPERVISOR_CYCLE);
	assert_int_equal(status_at(&s, START_MS).power_cycles, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(climbs_the_ladder),
		cmocka_unit_test(cools_down),
		cmocka_unit_test(a_long_silence_stays),
		cmocka_unit_test(waits_for_links),
		cmocka_unit_test(life_ends_the_wait_for_links),
		cmocka_unit_test(life_at_each_step),
		cmocka_unit_test(life_puts_it_off),
		cmocka_unit_test(counts_while_scanning),
		cmocka_unit_test(can_be_switched_off),
		cmocka_unit_test(counts_other_power_cycles),
	};

	return cmocka_run_group_tests_name("supervisor", tests, NULL, NULL);
}
