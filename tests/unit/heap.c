/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/heap.h"

#include <stdlib.h>

#ifdef __GLIBC__ /* which any header of the library says */
#include <malloc.h>

size_t heap_used(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}
#else
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

/* Here musl: it gives memory back soon. */
size_t heap_used(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	size_t pages;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*u %*u %*u %*u %*u %zu", &pages), 1);
	fclose(file);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}
#endif
