/* SPDX-License-Identifier: Apache-2.0 */
/* The journal that a daemon has left. */
#pragma once

#include <json-c/json.h>

#include "agent/ctl.h"

/* As the daemon would give it, out of the newer of its files. Returns NULL after saying why not, or
 * where there is none. */
struct json_object *ctl_journal_left(const struct ctl *ctl);
