/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 for a terminal: what it would act on, and how wide the rest is. Pure. */
#pragma once

#include <stddef.h>

/* Replaces what is no UTF-8, and what a terminal would act on or hide (control characters, those that
 * turn the direction of writing), by one '?' a byte. */
void ctl_utf8_clean(char *text);
/* Bytes of whole characters of text that fit into so many columns. A combining character takes none,
 * an East Asian one or an emoji two. */
size_t ctl_utf8_fit(const char *text, size_t columns);
