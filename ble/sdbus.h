/* SPDX-License-Identifier: Apache-2.0 */
/* sd-bus, from libsystemd or from basu: the same API, of which nothing of sd-event is used. */
#pragma once

#ifdef BLE_BASU
#include <basu/sd-bus.h>
#else
#include <systemd/sd-bus.h>
#endif
