/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the bearers share. Each has x_open(), x_send(), x_drain(), x_flush() and x_close(), and its
 * struct is embedded in the link; after x_close nothing is told any more. A channel is a packet
 * socket: one packet, one frame.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ble/ble.h"

#define BEARER_CHANNELS 2
/* For channel 1 to open beside channel 0: it does without it after that. */
#define BEARER_SECOND_MS 2000

struct bearer_handler {
	/* Channel 0 is open both ways, with channels 2 also channel 1. max_frame: bytes towards the
	 * device. */
	void (*on_open)(void *userdata, size_t max_frame, unsigned channels);
	/* May close the bearer. */
	void (*on_frame)(void *userdata, unsigned channel, const uint8_t *data, size_t len);
	/* After a send returned -EAGAIN. May close the bearer. */
	void (*on_writable)(void *userdata);
	/* After x_flush. May close the bearer. */
	void (*on_flushed)(void *userdata);
	/* It did not open or has ended; it is to be closed. text is valid during the callback. */
	void (*on_fail)(void *userdata, enum ble_down why, const char *text);
};

/* Receives one frame into buf, which has BLE_FRAME_MAX bytes. Returns 1 with *ret_len; 0 where there
 * is none now; -EMSGSIZE for a longer one; -EPIPE or another -errno where there won't be any. */
int bearer_receive(int fd, uint8_t *buf, size_t *ret_len);
/* Returns 0, -EAGAIN, or -ENOTCONN where the socket is broken: its watch tells why. */
int bearer_send(int fd, const uint8_t *data, size_t len);
/* Bytes that wait in the socket, in whatever way the kernel counts them for this kind of socket. */
int bearer_outq(int fd);
