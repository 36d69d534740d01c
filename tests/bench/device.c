/* SPDX-License-Identifier: Apache-2.0 */
#include "device.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

void device_init(struct device *device, int in, int out, bool whole)
{
	*device = (struct device){.in = in, .out = out, .whole = whole};
}

bool device_is_blocked(const struct device *device)
{
	return device->answer_due || device->sent < device->to_send;
}

/* Returns 1, 0 where there is no room, -errno. */
static int put(struct device *device, const struct frame *frame)
{
	if (send(device->out, frame, FRAME, MSG_NOSIGNAL | MSG_DONTWAIT) == FRAME)
		return 1;
	return errno == EAGAIN ? 0 : -errno;
}

static int send_all(struct device *device)
{
	struct frame frame;
	int r = 1;

	if (device->answer_due) {
		r = put(device, &device->answer);
		device->answer_due = r == 0;
	}
	while (r > 0 && device->sent < device->to_send) {
		frame_set(&frame, FRAME_UP, device->sent, device->to_send);
		r = put(device, &frame);
		device->sent += r > 0;
	}
	return r < 0 ? r : 0;
}

static void take(struct device *device, const struct frame *frame)
{
	switch (frame->kind) {
	case FRAME_ECHO:
		device->answer = *frame;
		device->answer_due = true;
		break;
	case FRAME_DOWN:
		if (frame->number == 0)
			device->counted = 0;
		device->counted += frame_is(frame, FRAME_DOWN, device->counted);
		if (frame->number + 1 == frame->count) {
			frame_set(&device->answer, FRAME_COUNTED, 0, device->counted);
			device->answer_due = true;
		}
		break;
	case FRAME_ASK:
		if (frame->number == 0)
			device->sent = device->to_send = 0;
		device->to_send += frame->count;
		break;
	default:
		fprintf(stderr, "device: a frame of no kind\n");
	}
}

int device_serve(struct device *device)
{
	struct frame frame;

	for (;;) {
		ssize_t n = recv(device->in, device->buf + device->len, FRAME, MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN)
			return send_all(device);
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		if (device->whole && n != FRAME)
			fprintf(stderr, "device: a frame of %zd bytes\n", n);
		device->len += (size_t)n;
		if (device->len < FRAME)
			continue;
		memcpy(&frame, device->buf, FRAME);
		take(device, &frame);
		device->len -= FRAME;
		memmove(device->buf, device->buf + FRAME, device->len);
		if (device->answer_due) {
			int r = send_all(device);

			if (r < 0)
				return r;
		}
	}
}
