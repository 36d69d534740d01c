/* SPDX-License-Identifier: Apache-2.0 */
/* How connections end, in words and in what follows from it. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "uplink/failure.h"
#include "uplink/route.h"
#include "uplink/websocket.h"

/* Why the connection over this route ended, or did not come about. */
void describe_end(const struct route *route, const struct websocket_end *end, char *ret,
		  size_t size);
/* Where that was, and why as far as it is known. was_up: it was welcomed; silent: it was ended as no
 * answer came. */
struct failure describe_failure(const struct route *route, const struct websocket_end *end,
				bool was_up, bool silent);
/* What has not come when the deadline of a step passes. */
const char *describe_missing(const struct route *route, enum websocket_step step);
/* Nothing but a person changes it: it makes no sense to try soon. */
bool describe_hopeless(const struct websocket_end *end);
