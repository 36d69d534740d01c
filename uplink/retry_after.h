/* SPDX-License-Identifier: Apache-2.0 */
/* How long an HTTP server asks to be left alone: RFC 9110, section 10.2.3. Pure. */
#pragma once

#include <stdint.h>

#define RETRY_AFTER_MAX_S 3600 /* no server is left alone for longer */

/* value: of Retry-After, seconds or an HTTP date; date: of the answer's Date, against which the
 * former counts, as the hub's own clock may be wrong; NULL for none. Returns seconds, 0 where they
 * cannot be told. */
uint32_t retry_after_parse(const char *value, const char *date);
