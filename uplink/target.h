/* SPDX-License-Identifier: Apache-2.0 */
/* A WebSocket's target, kept for as long as the connection is being made. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "uplink/websocket.h"

/* Returns 0 and a deep copy for target_done, or -ENOMEM; to must be all zero. */
int target_copy(const struct websocket_target *from, struct websocket_target *to);
/* Wipes the secrets, frees, and sets all to zero. */
void target_done(struct websocket_target *target);
/* Its host into ret, cut to size, an IPv6 address without brackets. Returns whether it is an
 * address. */
bool target_address(const struct websocket_target *target, char *ret, size_t size);
/* Splits its authority: the host, an IPv6 address in brackets, into ret, cut to size; returns the
 * port. */
uint16_t target_host(const struct websocket_target *target, char *ret, size_t size);
