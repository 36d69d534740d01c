/* SPDX-License-Identifier: Apache-2.0 */
/* `blecon-hotspotctl identity`: who the hotspot is, whether the daemon runs or not. */
#pragma once

#include <stdbool.h>

#include "agent/ctl.h"

/* Prints the identity of the hotspot with this configuration, or why there is none. csr: a
 * certificate request instead; json: one line, with the request if csr. */
enum exit_code ctl_identity(const char *config, bool csr, bool json);
