/* SPDX-License-Identifier: Apache-2.0 */
/* Where the hotspot is mounted, as HELLO tells it: PROTOCOL.md, "Info". Pure. */
#pragma once

#include "agent/settings.h"
#include "uplink/message.h"

/* What the settings say of it. Returns ret, whose texts are the settings', or NULL where they say
 * nothing. A position takes both latitude and longitude. */
const struct message_location *location_of(const struct settings *settings,
					   struct message_location *ret);
