/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/past.h"

#include <stdio.h>

#include "agent/util.h"

void past_add(struct past *past, const struct session_status *status)
{
	struct past_session *session = &past->sessions[past->n++ % PAST_MAX];

	session->status = *status;
	session->status.reason = NULL;
	snprintf(session->reason, sizeof(session->reason), "%s", status->reason);
}

void past_each(const struct past *past,
	       void (*each)(void *userdata, const struct session_status *status), void *userdata)
{
	for (uint64_t i = 1; i <= MIN(past->n, (uint64_t)PAST_MAX); i++) {
		const struct past_session *session = &past->sessions[(past->n - i) % PAST_MAX];
		struct session_status status = session->status;

		status.reason = session->reason;
		each(userdata, &status);
	}
}
