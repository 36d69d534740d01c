/* SPDX-License-Identifier: Apache-2.0 */
/* What the status socket answers, as one line of JSON. */
#pragma once

struct status_client;

/* request: "status" or "devices"; anything else is answered with {"error": ...}. Returns a line
 * for the caller to free, or NULL where memory is out. userdata: the agent. */
char *status_answer(void *userdata, struct status_client *client, const char *request);
