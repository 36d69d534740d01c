/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a connection cannot be made. libwebsockets says little of it, and each TLS library something
 * else, so after a failure this goes the same way once more, with mbedTLS whatever libwebsockets is
 * on: TCP, the proxy's tunnel, TLS.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uplink/websocket.h"

struct diagnosis;
struct loop;

#define DIAGNOSIS_TEXT WEBSOCKET_REASON /* bytes of a text, NUL included */

/* config, target: of the connection that failed; copied. on_done comes once, from the loop and never
 * from in here, within timeout_ms, with what is wrong in words, empty where it works now; not after
 * diagnosis_cancel. Returns 0 or -errno. */
int diagnosis_start(struct loop *loop, const struct websocket_config *config,
		    const struct websocket_target *target, uint32_t timeout_ms,
		    void (*on_done)(void *userdata, const char *text), void *userdata,
		    struct diagnosis **ret);
/* The cause of what on_done tells, and the step that it reached: WEBSOCKET_STEP_TCP or, with TCP
 * connected, WEBSOCKET_STEP_TLS. From within on_done. */
enum failure_cause diagnosis_cause(const struct diagnosis *diagnosis);
enum websocket_step diagnosis_step(const struct diagnosis *diagnosis);
/* Also after on_done, and fine from within it. NULL is fine. */
void diagnosis_cancel(struct diagnosis *diagnosis);
