/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/supervisor.h"

#include <stdio.h>

#include "agent/util.h"

const char *ble_supervisor_step_name(enum ble_supervisor_step step)
{
	switch (step) {
	case BLE_SUPERVISOR_WATCHING:
		return "watching";
	case BLE_SUPERVISOR_RESTARTED:
		return "restarted";
	case BLE_SUPERVISOR_CYCLED:
		return "cycled";
	case BLE_SUPERVISOR_REPORTED:
		return "reported";
	}
	return "?";
}

void supervisor_init(struct supervisor *supervisor, uint32_t silence_ms)
{
	*supervisor = (struct supervisor){.silence_ms = silence_ms, .cool_down_ms = silence_ms};
}

/* Only scanning counts: an adapter that was off heard nothing for good reason. */
static uint64_t silent_ms(const struct supervisor *s, uint64_t now_ms)
{
	return s->silent_ms + (s->scanning ? now_ms - s->silent_from_ms : 0);
}

void supervisor_scanning(struct supervisor *s, bool scanning, uint64_t now_ms)
{
	if (scanning == s->scanning)
		return;
	s->silent_ms = silent_ms(s, now_ms);
	s->silent_from_ms = now_ms;
	s->counted_ms = now_ms;
	s->scanning = scanning;
}

static const char *step_text(enum ble_supervisor_step step)
{
	switch (step) {
	case BLE_SUPERVISOR_WATCHING:
		break;
	case BLE_SUPERVISOR_RESTARTED:
		return "discovery was restarted";
	case BLE_SUPERVISOR_CYCLED:
		return "it was switched off and on";
	case BLE_SUPERVISOR_REPORTED:
		return "the radio may be deaf, or no device is near";
	}
	return "";
}

bool supervisor_heard(struct supervisor *s, uint64_t now_ms, char ret_text[SUPERVISOR_TEXT])
{
	bool ended = s->step != BLE_SUPERVISOR_WATCHING;

	if (ended)
		snprintf(ret_text, SUPERVISOR_TEXT, "adverts again, %llu s after %s",
			 (unsigned long long)(now_ms - s->step_ms) / 1000,
			 s->step == BLE_SUPERVISOR_REPORTED ? "their lack was reported"
							    : step_text(s->step));
	s->counted_ms = now_ms;
	s->silent_ms = 0;
	s->silent_from_ms = now_ms;
	s->cool_down_ms = s->silence_ms;
	s->step = BLE_SUPERVISOR_WATCHING;
	s->reported = false;
	s->waits = false;
	return ended;
}

static void take_step(struct supervisor *s, enum ble_supervisor_step step, uint64_t now_ms)
{
	s->step = step;
	s->step_ms = now_ms;
	s->counted_ms = now_ms;
	s->waits = false;
}

static enum supervisor_action restart(struct supervisor *s, uint64_t now_ms)
{
	take_step(s, BLE_SUPERVISOR_RESTARTED, now_ms);
	s->restarts++;
	return SUPERVISOR_RESTART;
}

/* A room without devices is silent too: look into it less and less often. */
static enum supervisor_action report(struct supervisor *s, uint64_t now_ms)
{
	uint32_t longest = MAX(s->silence_ms, (uint32_t)SUPERVISOR_COOL_DOWN_MAX_MS);

	take_step(s, BLE_SUPERVISOR_REPORTED, now_ms);
	s->reported = true;
	s->reports++;
	s->cool_down_ms = s->cool_down_ms > longest / 2 ? longest : s->cool_down_ms * 2;
	return SUPERVISOR_REPORT;
}

uint64_t supervisor_next_ms(const struct supervisor *s)
{
	return s->silence_ms > 0 && s->scanning ? s->counted_ms + s->cool_down_ms : 0;
}

/* A session that goes on and on keeps it from being done, but not from being told. */
static enum supervisor_action wait_for_links(struct supervisor *s, uint64_t now_ms)
{
	s->waits = true;
	if (s->reported || now_ms - supervisor_next_ms(s) < s->cool_down_ms)
		return SUPERVISOR_NONE;
	s->reported = true;
	s->reports++;
	return SUPERVISOR_REPORT;
}

static enum supervisor_action cycle(struct supervisor *s, uint64_t now_ms)
{
	take_step(s, BLE_SUPERVISOR_CYCLED, now_ms);
	s->power_cycles++;
	return SUPERVISOR_CYCLE;
}

enum supervisor_action supervisor_due(struct supervisor *s, uint64_t now_ms, bool has_links)
{
	uint64_t next_ms = supervisor_next_ms(s);

	if (next_ms == 0 || now_ms < next_ms)
		return SUPERVISOR_NONE;
	switch (s->step) {
	case BLE_SUPERVISOR_WATCHING:
	case BLE_SUPERVISOR_REPORTED:
		return restart(s, now_ms);
	case BLE_SUPERVISOR_RESTARTED:
		return has_links ? wait_for_links(s, now_ms) : cycle(s, now_ms);
	case BLE_SUPERVISOR_CYCLED:
		return report(s, now_ms);
	}
	return SUPERVISOR_NONE;
}

void supervisor_cycled(struct supervisor *s)
{
	s->power_cycles++;
}

void supervisor_get_status(const struct supervisor *s, uint64_t now_ms,
			   struct ble_supervisor_status *ret)
{
	*ret = (struct ble_supervisor_status){
		.silence_ms = s->silence_ms,
		.step = s->step,
		.reported = s->reported,
		.step_ms = s->step_ms,
		.next_ms = supervisor_next_ms(s),
		.restarts = s->restarts,
		.power_cycles = s->power_cycles,
		.reports = s->reports,
	};
	if (s->step != BLE_SUPERVISOR_WATCHING)
		snprintf(ret->cause, sizeof(ret->cause), "no advert for %llu s: %s",
			 (unsigned long long)silent_ms(s, now_ms) / 1000,
			 s->waits ? "to be switched off and on when no device is connected"
				  : step_text(s->reported ? BLE_SUPERVISOR_REPORTED : s->step));
}
