/* SPDX-License-Identifier: Apache-2.0 */
/* Settings as text for people: all options as they are in effect, without what is secret. */
#pragma once

#include <stdio.h>

#include "agent/settings.h"

/* As a configuration file. Errors are out's own. */
void settings_write(FILE *out, const struct settings *settings);
