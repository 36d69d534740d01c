/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether rfkill keeps an adapter off, as the kernel says in sysfs. bluetoothd 5.66 tells it only
 * with -E (PowerState), and its error is a plain "Failed" on Linux 6.1.
 */
#pragma once

#include <stdbool.h>

#define RFKILL_SYSFS "/sys/class/bluetooth"

/* By a program or by a switch. index: N of hciN. False where sysfs does not say. */
bool rfkill_blocks(const char *sysfs, unsigned index);
