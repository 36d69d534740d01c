/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a person should do next, in one sentence to follow "what is wrong: ". Pure. The reasons in
 * the status say what is wrong, and only these what to do about it.
 */
#pragma once

#include <stddef.h>

#include "ble/ble.h"

#define ADVICE_MAX 200 /* bytes of one, NUL included */

/* About the radio; of several things the one that matters most. "" where there is nothing to do, as
 * while it starts. */
void advice_bluetooth(const struct ble_status *s, char *ret, size_t size);
