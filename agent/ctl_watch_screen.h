/* SPDX-License-Identifier: Apache-2.0 */
/* What `watch` shows, for a terminal of any size. */
#pragma once

#include <stdint.h>
#include <stdio.h>

#include <json-c/json.h>

#include "agent/ctl.h"
#include "agent/ctl_client.h"

/* All zero at first. */
struct ctl_watch_screen {
	enum ctl_sort sort;
	struct json_object *status, *devices; /* owned; NULL before the first answer */
	char error[CTL_CLIENT_ERROR]; /* why there is no newer answer; empty where there is */
	/* Between the last two answers. */
	uint64_t taken_ms; /* monotonic */
	int64_t radio_bytes[2], cloud_bytes[2]; /* up and down, in all; */
	double radio_rate[2], cloud_rate[2]; /* and per second */
};

/* Takes over an answer to `status` and to `devices`. */
void ctl_watch_screen_take(struct ctl_watch_screen *screen, struct json_object *status,
			   struct json_object *devices, uint64_t now_ms);
/* Prints at most so many rows. */
void ctl_watch_screen_print(const struct ctl_watch_screen *screen, FILE *out, size_t columns,
			    size_t rows);
void ctl_watch_screen_done(struct ctl_watch_screen *screen);
