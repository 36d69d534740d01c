/* SPDX-License-Identifier: Apache-2.0 */
/* The sessions that ended last, for whoever asks later what became of them. Pure. */
#pragma once

#include <stdint.h>

#include "agent/session.h"

#define PAST_MAX 32 /* sessions; each further one takes the place of the oldest */

/* All zero: none. */
struct past {
	uint64_t n; /* that were ever added */
	struct past_session {
		struct session_status status; /* its reason is not used */
		char reason[MESSAGE_REASON_MAX + 1];
	} sessions[PAST_MAX];
};

/* status is copied, with its reason. */
void past_add(struct past *past, const struct session_status *status);
/* Newest first. status is valid during the call. */
void past_each(const struct past *past,
	       void (*each)(void *userdata, const struct session_status *status), void *userdata);
