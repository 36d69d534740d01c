/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the lines of the log go besides the log itself: the last of them are remembered, those that
 * are events go to whoever listens at the status socket, and those worth it into the journal.
 */
#pragma once

#include "agent/journal.h"
#include "agent/recent.h"

struct events;
struct loop;
struct status_socket;

/* Reads the journal that earlier runs left, and observes the log from then on. socket_path: of the
 * status socket, in whose directory one copy is; state_dir: that of the other one; NULL: there is
 * none. socket is not owned and must outlive it. There can be one. Returns 0 or -ENOMEM. */
int events_new(struct loop *loop, struct status_socket *socket, const char *socket_path,
	       const char *state_dir, struct events **ret);
/* At the end of a run in good order: writes the journal. */
void events_stop(struct events *events);
/* NULL is fine. */
void events_free(struct events *events);

const struct journal *events_journal(const struct events *events);
const struct recent *events_recent(const struct events *events);
/* How the run before this one ended; NULL at the very first. */
const char *events_last_end(const struct events *events);
