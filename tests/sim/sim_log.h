/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's log in a simulation: none, or with SIM_LOG=debug (info, ...) in virtual time. */
#pragma once

void sim_log_init(void);
