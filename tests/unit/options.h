/* SPDX-License-Identifier: Apache-2.0 */
/* Settings compared. */
#pragma once

#include "agent/settings.h"

/* Fails the test where any option differs. */
void expect_equal(const struct settings *a, const struct settings *b);
