/* SPDX-License-Identifier: Apache-2.0 */
/* The journal as the status socket gives it, and blecon-hotspotctl without a daemon. */
#pragma once

#include <json-c/json.h>

#include "agent/journal.h"

/* The caller owns what is returned. */
struct json_object *journal_json(const struct journal *journal);
