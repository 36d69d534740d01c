/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's answers for people, in 80 columns where there is a terminal. */
#pragma once

#include "agent/ctl.h"

struct json_object;

void ctl_screens_status(struct json_object *answer);
void ctl_screens_devices(struct json_object *answer);
/* Why there is no answer, NULL where there is one. Safe for a terminal; the answer's own. */
const char *ctl_screens_error(struct json_object *answer);
/* What the daemon says of itself. */
enum exit_code ctl_screens_code(struct json_object *answer);
