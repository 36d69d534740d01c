/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that no server sends. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SIM_CHAOS_MAX 70000 /* bytes of a message, over MESSAGE_MAX */

/* Changes one byte of data, anywhere. */
void sim_chaos_flip(uint8_t *data, size_t len);
/* A random message: CBOR of any kind, mostly well-formed, sometimes with the shape of the
 * protocol's own messages; or bytes. session: the highest number a session may have now.
 * Returns its length. */
size_t sim_chaos_message(uint32_t session, uint8_t buf[SIM_CHAOS_MAX]);
