/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal's two copies: one in memory, in the status socket's directory, written at each change
 * so that it outlives a crash; and one in the state directory, which outlives the hub's power and is
 * written seldom, as that is flash.
 */
#pragma once

#include "agent/journal.h"

#define JOURNAL_FILE "journal.cbor"
#define JOURNAL_FILE_COPY_MS                                                                       \
	1000 /* the least time from one write of the copy in memory to the next */
#define JOURNAL_FILE_START_MS 10000 /* flash: after a start, so that it is known of at the next */
#define JOURNAL_FILE_FLASH_MS                                                                      \
	3600000 /* flash: the least time between writes; a stop does not wait */

struct loop;
struct journal_file;

/* Reads the newer of the two into journal, which is all zero without one; logs what is no good, and
 * puts a good one into its place later. A directory that is NULL has no copy; they are not owned and
 * need not outlive the call, but journal must. Returns 0 or -ENOMEM. */
int journal_file_new(struct loop *loop, struct journal *journal, const char *memory_dir,
		     const char *state_dir, struct journal_file **ret);
/* The journal has changed. Logs nothing itself; a write that fails is told later, once. */
void journal_file_changed(struct journal_file *file);
/* Writes both, now, where there is something new. */
void journal_file_flush(struct journal_file *file);
/* Writes nothing. NULL is fine. */
void journal_file_free(struct journal_file *file);
