/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every bearer tells the link it belongs to. A bearer has x_open(), x_send(), x_drain() and
 * x_close() and its struct is embedded in the link; after x_close nothing is told any more.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ble/ble.h"

struct bearer_handler {
	/* Channel 0 is open both ways. max_frame: bytes towards the device. */
	void (*on_open)(void *userdata, size_t max_frame);
	/* May close the bearer. */
	void (*on_frame)(void *userdata, unsigned channel, const uint8_t *data, size_t len);
	/* After a send returned -EAGAIN. May close the bearer. */
	void (*on_writable)(void *userdata);
	/* It did not open or has ended; it is to be closed. text is valid during the callback. */
	void (*on_fail)(void *userdata, enum ble_down why, const char *text);
};
