/* SPDX-License-Identifier: Apache-2.0 */
/* Settings written, loaded and compared. */
#pragma once

#include "agent/settings.h"
#include "tests/unit/common.h"

/* The file that load and refuse write. */
extern char conf[sizeof(directory) + 16];
/* One that it may include. */
extern char included[sizeof(directory) + 16];

/* Group setup and teardown: makes both names. */
int options_setup(void **state);
int options_teardown(void **state);
void write_file(const char *path, const char *text);
/* Loads what must be good. */
struct settings load(const char *text);
/* Loads what must be refused with -EINVAL; the message starts with the file (path, or another) and
 * the line, and goes on with what. Without a line where it is 0. */
void refuse_at(const char *file, unsigned line, const char *what, const char *text);
void refuse(unsigned line, const char *what, const char *text);
/* Fails the test where any option differs. */
void expect_equal(const struct settings *a, const struct settings *b);
