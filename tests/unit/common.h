/* SPDX-License-Identifier: Apache-2.0 */
/* What several unit tests need. It is linked to each of them; a failure fails the test. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "agent/flow.h"

/* Bytes of a hexadecimal text, in memory of exactly their length, so that ASan sees an overrun. The
 * caller frees them. */
uint8_t *unhex(const char *hex, size_t *ret_len);

/* A directory of this program alone. Group setup and teardown; each test leaves it empty. */
extern char directory[sizeof("/tmp/unit-test.XXXXXX")];
int make_directory(void **state);
int remove_directory(void **state);

/* Frame `number`: its length from 0 to FLOW_FRAME_MAX, its channel and its bytes follow from that.
 * Returns the length. */
size_t make_frame(uint64_t number, uint8_t ret[FLOW_FRAME_MAX]);
unsigned channel_of(uint64_t number);
/* The frame is that one. */
void check_frame(uint64_t number, unsigned channel, const uint8_t *data, size_t len);
/* The frame goes into the queue; from the cloud its number is its seq. */
int push_up(struct flow *flow, uint64_t number);
int push_down(struct flow *flow, uint64_t seq);
/* Bytes it takes there. */
#define FRAME_HEAD 4
size_t room_of(uint64_t number);

/* Of this process, the same number more each time. */
unsigned open_descriptors(void);
