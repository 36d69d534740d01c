/* SPDX-License-Identifier: Apache-2.0 */
/* libwebsockets' log: its errors and warnings go to ours, at debug level, as what matters of them is
 * said again by who uses it. Global to the process. */
#pragma once

void lws_log_init(void);
