/* SPDX-License-Identifier: Apache-2.0 */
/* Which fault an error is, of those that a person can do something about. Pure. */
#pragma once

#include "ble/ble.h"

/* name: of a D-Bus error. BLE_FAULT_FAILED for all that have no advice of their own. */
enum ble_fault fault_of_error(const char *name);
/* error: why there is no connection to D-Bus, negative errno. answered: there was one before, over
 * which something was answered. */
enum ble_fault fault_of_bus(int error, bool answered);
