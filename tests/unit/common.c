/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/common.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

uint8_t *unhex(const char *hex, size_t *ret_len)
{
	size_t len = strlen(hex) / 2;
	uint8_t *data = malloc(len ? len : 1);

	assert_non_null(data);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(sscanf(hex + 2 * i, "%2hhx", &data[i]), 1);
	*ret_len = len;
	return data;
}

char directory[] = "/tmp/unit-test.XXXXXX";

int make_directory(void **state)
{
	(void)state;
	return mkdtemp(directory) ? 0 : -1;
}

int remove_directory(void **state)
{
	(void)state;
	return rmdir(directory);
}

static uint32_t hash_of(uint64_t number)
{
	return (uint32_t)((number + 1) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

size_t make_frame(uint64_t number, uint8_t ret[FLOW_FRAME_MAX])
{
	uint32_t hash = hash_of(number);
	size_t len = (hash >> 8) % (FLOW_FRAME_MAX + 1);

	for (size_t i = 0; i < len; i++)
		ret[i] = (uint8_t)(hash + i);
	return len;
}

unsigned channel_of(uint64_t number)
{
	return hash_of(number) >> 31;
}

void check_frame(uint64_t number, unsigned channel, const uint8_t *data, size_t len)
{
	uint8_t expected[FLOW_FRAME_MAX];

	assert_int_equal(len, make_frame(number, expected));
	assert_int_equal(channel, channel_of(number));
	if (len > 0)
		assert_memory_equal(data, expected, len);
}

int push_up(struct flow *flow, uint64_t number)
{
	uint8_t data[FLOW_FRAME_MAX];
	size_t len = make_frame(number, data);

	return flow_push_up(flow, channel_of(number), data, len);
}

int push_down(struct flow *flow, uint64_t seq)
{
	uint8_t data[FLOW_FRAME_MAX];
	size_t len = make_frame(seq, data);

	return flow_push_down(flow, channel_of(seq), seq, data, len);
}

size_t room_of(uint64_t number)
{
	uint8_t data[FLOW_FRAME_MAX];

	return (make_frame(number, data) + FRAME_HEAD) & ~(size_t)1;
}

unsigned open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}
