/* SPDX-License-Identifier: Apache-2.0 */
/* When a session got how far. Pure: whoever sees it happen sets the time. */
#pragma once

#include <stdint.h>

/* Monotonic milliseconds; 0 where it has not come to that. */
struct timing {
	uint64_t begun_ms; /* the attempt to connect */
	uint64_t connected_ms; /* the device is */
	uint64_t open_ms; /* its channels are */
	uint64_t first_frame_ms; /* of the device, which need not wait for its second channel */
	uint64_t first_answer_ms; /* DATA of the cloud */
	uint64_t ended_ms;
};

/* Calls each with the times that are over, under the names the status socket gives them:
 * "connect_ms", then "discover_ms" from there until the channels were open; and from the beginning
 * "first_frame_ms", "first_answer_ms" and "total_ms". */
void timing_each(const struct timing *timing,
		 void (*each)(void *userdata, const char *name, uint64_t ms), void *userdata);
