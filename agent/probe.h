/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent as blecon-hotspotctl doctor starts it where no daemon runs: it scans and connects to the
 * cloud as the daemon would, says so on a status socket of its own, connects no device, writes
 * nothing into the state directory (without a key there it has one of its own beside the socket),
 * and ends with its standard input.
 */
#pragma once

struct agent;
struct probe;
struct settings;

/* Changes what a probe does otherwise than the file says. Returns 0; -EINVAL where socket is no
 * absolute path, or -ENOMEM. */
int probe_configure(struct settings *settings, const char *socket);
/* From now on the end of standard input, which must be one to wait for (a pipe, a terminal), ends
 * the agent, and no reload changes it. agent must outlive it. Returns 0 or -errno. */
int probe_new(struct agent *agent, struct probe **ret);
/* NULL is fine. */
void probe_free(struct probe *probe);
