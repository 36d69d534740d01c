/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides when an adapter that scans and hears nothing is helped, and how. Pure: it gets the clock
 * (monotonic ms), and the adapter does what it says.
 *
 *     heard, or scanning again
 *        |<-- silence_ms -->|<-- silence_ms -->|<-- silence_ms -->|<-- 2 * silence_ms -->| ...
 *                        RESTART             CYCLE              REPORT                RESTART
 *
 * From report to report the waits double, up to an hour. A step's wait counts from when the adapter
 * scans again, so nothing is done to an adapter that has not had the time to hear something.
 */
#pragma once

#include "ble/ble.h"

#define SUPERVISOR_COOL_DOWN_MAX_MS 3600000 /* or silence_ms, where that is longer */
#define SUPERVISOR_TEXT		    96 /* bytes for a text, NUL included */

enum supervisor_action {
	SUPERVISOR_NONE,
	SUPERVISOR_RESTART, /* end discovery and start it again */
	SUPERVISOR_CYCLE, /* switch the adapter off and on */
	SUPERVISOR_REPORT, /* tell a person */
};

struct supervisor {
	uint32_t silence_ms; /* 0: off */
	uint32_t cool_down_ms; /* until the next step */
	bool scanning;
	bool waits; /* the power cycle is due, and links are in its way */
	uint64_t counted_ms; /* when the cool-down began */
	uint64_t silent_ms; /* scanned without hearing anything, in the scans before this one */
	uint64_t silent_from_ms; /* and in this one since */
	enum ble_supervisor_step step;
	bool reported; /* since something was heard */
	uint64_t step_ms; /* when; 0 for never */
	uint64_t restarts, power_cycles, reports;
};

/* silence_ms 0: nothing is ever done. */
void supervisor_init(struct supervisor *supervisor, uint32_t silence_ms);
/* The adapter scans, or does so no longer, for whatever reason; its absence is one. */
void supervisor_scanning(struct supervisor *supervisor, bool scanning, uint64_t now_ms);
/* An advert was heard. Returns whether it ended a silence that something was done about; ret_text
 * then says what it was. */
bool supervisor_heard(struct supervisor *supervisor, uint64_t now_ms,
		      char ret_text[SUPERVISOR_TEXT]);
/* What to do now; it counts as done. has_links: a power cycle would break some, so it waits. */
enum supervisor_action supervisor_due(struct supervisor *supervisor, uint64_t now_ms,
				      bool has_links);
/* When supervisor_due is to be asked again if nothing is heard; past while a step waits, 0 for not
 * before something changes. */
uint64_t supervisor_next_ms(const struct supervisor *supervisor);
/* The adapter was switched off and on for another reason. */
void supervisor_cycled(struct supervisor *supervisor);
void supervisor_get_status(const struct supervisor *supervisor, uint64_t now_ms,
			   struct ble_supervisor_status *ret);
