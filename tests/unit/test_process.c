/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void reads_the_lines(void **state)
{
	struct process_memory memory;

	(void)state;
	process_parse_memory("Name:\tVmRSS: 7\nVmPeak:\t   17208 kB\nVmHWM:\t    4820 kB\n"
			     "VmRSS:\t    4716 kB\nRssAnon:\t     712 kB\n",
			     &memory);
	assert_int_equal(memory.rss_kb, 4716);
	assert_int_equal(memory.peak_rss_kb, 4820);
	process_parse_memory("", &memory);
	assert_int_equal(memory.rss_kb, 0);
	assert_int_equal(memory.peak_rss_kb, 0);
	process_parse_memory("Name:\tx\nVmRSS:", &memory);
	assert_int_equal(memory.rss_kb, 0);
}

static void knows_its_own(void **state)
{
	struct process_memory memory;

	(void)state;
	process_get_memory(&memory);
	assert_true(memory.rss_kb > 100);
	assert_true(memory.peak_rss_kb >= memory.rss_kb);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_the_lines),
		cmocka_unit_test(knows_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
