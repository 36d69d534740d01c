/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

/* Bytes of the heap in use; where the C library does not say, all memory that only this process can
 * write to. 0 with a sanitizer. */
size_t heap_used(void);
