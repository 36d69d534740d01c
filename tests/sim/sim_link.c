/* SPDX-License-Identifier: Apache-2.0 */
/* The links of the simulated radio, and the devices at their other end. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/util.h"
#include "tests/sim/sim_cloud.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_radio.h"
#include "tests/sim/sim_random.h"

#define QUEUE_MAX	    8 /* frames the radio holds for a device */
#define CONNECT_GIVES_UP_MS 5000
#define OVER_AIR_MS	    30 /* at most, for one frame to the device */

enum state { STATE_CONNECTING, STATE_OPENING, STATE_UP, STATE_CLOSING };

struct frame {
	uint8_t channel;
	uint16_t len;
	uint8_t data[BLE_FRAME_MAX];
};

struct ble_link {
	struct list in_ble;
	struct ble *ble; /* not owned */
	struct sim_device *device; /* not owned; NULL where nobody has the address */
	struct ble_link_handler handler;
	void *userdata; /* not owned */
	unsigned adapter;
	uint32_t number;
	enum state state;
	enum ble_bearer bearer;
	size_t max_frame;
	unsigned channels;
	bool held, wants_writable, flushing;
	enum ble_down why;
	const char *text; /* a constant */
	struct frame queue[QUEUE_MAX];
	unsigned n_queue;
	struct loop_timer step_timer; /* up to STATE_UP, then its going away; or its end */
	struct loop_timer air_timer; /* of the first frame in the queue */
	struct loop_timer speak_timer;
	uint32_t sent, back; /* frames of the device, and those that came back */
	uint32_t next[2]; /* number of the next that is to come back on each channel */
};

/* --- Frames: all in one follows from the link's number and the frame's --- */

static uint32_t hash_of(const struct ble_link *link, uint32_t number)
{
	return (uint32_t)(((uint64_t)link->number << 32 | number) * UINT64_C(0x9e3779b97f4a7c15) >>
			  32);
}

static unsigned channel_of(const struct ble_link *link, uint32_t number)
{
	return link->channels == 2 ? hash_of(link, number) >> 31 : 0;
}

static void make_frame(const struct ble_link *link, uint32_t number, struct frame *ret)
{
	const struct sim_plan *plan = &link->device->plan;
	uint32_t hash = hash_of(link, number);

	ret->channel = (uint8_t)channel_of(link, number);
	ret->len = (uint16_t)(12 + hash % (link->max_frame - 12 + 1));
	memset(ret->data, (int)(hash & 0xff), ret->len);
	memcpy(ret->data, &number, sizeof(number));
	ret->data[4] = 0;
	if (plan->end == SIM_END_CLOUD && number + 1 == plan->frames)
		ret->data[4] = SIM_FRAME_LAST;
	memcpy(ret->data + 5, &link->number, sizeof(link->number));
}

/* --- The end --- */

static void next_step(struct ble_link *link, void (*step)(void *userdata), uint64_t after_ms)
{
	loop_timer_stop(&link->step_timer);
	loop_timer_init(link->ble->radio->loop, &link->step_timer, step, link);
	loop_timer_start(&link->step_timer, after_ms);
}

static void stop(struct ble_link *link)
{
	loop_timer_stop(&link->step_timer);
	loop_timer_stop(&link->air_timer);
	loop_timer_stop(&link->speak_timer);
	list_remove(&link->in_ble);
}

static void on_gone(void *userdata)
{
	struct ble_link *link = userdata;

	stop(link);
	if (link->device)
		sim_device_released(link->device, link->max_frame > 0);
	link->handler.on_down(link->userdata, link->why, link->text);
	free(link);
}

/* on_down follows after that time, unless it was on its way before. */
static void end(struct ble_link *link, enum ble_down why, const char *text, uint32_t after_ms)
{
	if (link->state == STATE_CLOSING)
		return;
	link->state = STATE_CLOSING;
	link->why = why;
	link->text = text;
	loop_timer_stop(&link->air_timer);
	loop_timer_stop(&link->speak_timer);
	next_step(link, on_gone, after_ms);
}

void sim_link_lose(struct ble_link *link, const char *text)
{
	end(link, link->state == STATE_UP ? BLE_DOWN_PEER : BLE_DOWN_CONNECT, text, 0);
}

void sim_links_drop(struct ble *ble, enum ble_down why, const char *text)
{
	LIST_FOREACH (l, &ble->links) {
		end(LIST_ENTRY(l, struct ble_link, in_ble), why, text, 0);
	}
}

void sim_links_free(struct ble *ble)
{
	LIST_FOREACH_SAFE (l, &ble->links) {
		struct ble_link *link = LIST_ENTRY(l, struct ble_link, in_ble);

		stop(link);
		if (link->device)
			sim_device_released(link->device, false);
		free(link);
	}
}

/* --- The device --- */

static bool is_due(const struct ble_link *link)
{
	const struct sim_plan *plan = &link->device->plan;

	return plan->end == SIM_END_NEVER || link->sent < plan->frames;
}

static void speak(void *userdata)
{
	struct ble_link *link = userdata;
	struct frame frame;

	if (!is_due(link))
		return;
	loop_timer_start(&link->speak_timer, sim_between(1, link->device->plan.gap_ms));
	if (link->held)
		return;
	make_frame(link, link->sent++, &frame);
	link->ble->radio->frames_up++;
	link->handler.on_frame(link->userdata, frame.channel, frame.data, frame.len);
}

static void all_back(struct ble_link *link)
{
	link->device->complete++;
	if (link->device->plan.end == SIM_END_DEVICE)
		end(link, BLE_DOWN_PEER, "the device disconnected", 5);
}

static void hear(struct ble_link *link, const struct frame *frame)
{
	uint32_t *next = &link->next[frame->channel];
	struct frame expected;

	link->ble->radio->frames_down++;
	while (channel_of(link, *next) != frame->channel)
		++*next;
	make_frame(link, *next, &expected);
	if (*next >= link->sent || frame->len != expected.len ||
	    memcmp(frame->data, expected.data, frame->len) != 0) {
		link->device->wrong++;
		return;
	}
	++*next;
	link->back++;
	if (link->device->plan.end != SIM_END_NEVER && link->back == link->device->plan.frames)
		all_back(link);
}

static void on_air(void *userdata)
{
	struct ble_link *link = userdata;
	struct frame frame = link->queue[0];

	link->n_queue--;
	memmove(link->queue, link->queue + 1, link->n_queue * sizeof(link->queue[0]));
	if (link->n_queue > 0)
		loop_timer_start(&link->air_timer, sim_between(1, OVER_AIR_MS));
	hear(link, &frame);
	if (link->state == STATE_UP && link->wants_writable && link->n_queue < QUEUE_MAX / 2) {
		link->wants_writable = false;
		link->handler.on_writable(link->userdata);
	}
	if (link->state == STATE_UP && link->flushing && link->n_queue == 0) {
		link->flushing = false;
		link->handler.on_flushed(link->userdata);
	}
}

/* --- Steps --- */

static void on_away(void *userdata)
{
	sim_link_lose(userdata, "the device went away");
}

static void on_opened(void *userdata)
{
	struct ble_link *link = userdata;
	struct sim_radio *radio = link->ble->radio;
	bool fair = link->device->fair;

	if (!fair && sim_chance(radio->fails / 2)) {
		if (sim_chance(500))
			end(link, BLE_DOWN_NOT_SERVED, "no such service", 0);
		else
			end(link, BLE_DOWN_TIMEOUT, "no answer to a request", 0);
		return;
	}
	link->max_frame = fair ? 244 : sim_between(20, BLE_FRAME_MAX);
	link->channels = sim_between(1, 2);
	/* Now and then it has spoken before we know. */
	if (sim_chance(300))
		speak(link);
	if (link->state == STATE_CLOSING)
		return;
	link->state = STATE_UP;
	if (!fair && sim_chance(radio->goes_away))
		next_step(link, on_away, sim_wait(5000));
	link->handler.on_up(link->userdata, link->bearer, link->max_frame, link->channels);
	if (link->state == STATE_UP && !link->speak_timer.armed)
		loop_timer_start(&link->speak_timer, sim_between(0, 50));
}

static void on_connected(void *userdata)
{
	struct ble_link *link = userdata;
	struct sim_device *device = link->device;

	if (!device || !device->present || (!device->fair && sim_chance(link->ble->radio->fails))) {
		end(link, BLE_DOWN_CONNECT, "no connection", CONNECT_GIVES_UP_MS);
		return;
	}
	link->state = STATE_OPENING;
	next_step(link, on_opened, sim_between(20, 800));
	link->handler.on_connected(link->userdata);
}

/* --- ble/ble.h --- */

static struct sim_device *find(struct sim_radio *radio, const struct ble_address *address)
{
	unsigned index = (unsigned)address->bytes[0] << 8 | address->bytes[1];
	struct sim_device *device = index < radio->n_devices ? &radio->devices[index] : NULL;

	return device && device->generation == address->bytes[2] && !device->link ? device : NULL;
}

static bool is_attempting(const struct ble *ble, unsigned adapter)
{
	LIST_FOREACH (l, &ble->links) {
		const struct ble_link *link = LIST_ENTRY(l, struct ble_link, in_ble);

		if (link->adapter == adapter && link->state == STATE_CONNECTING)
			return true;
	}
	return false;
}

int ble_link_open(struct ble *ble, unsigned adapter, const struct ble_address *address,
		  enum ble_bearers bearers, const struct ble_link_handler *handler, void *userdata,
		  struct ble_link **ret)
{
	struct ble_link *link;

	if (ble->radio->off || adapter >= ble->radio->n_adapters)
		return -ENODEV;
	if (is_attempting(ble, adapter))
		return -EBUSY;
	link = calloc(1, sizeof(*link));
	if (!link)
		return -ENOMEM;
	link->ble = ble;
	link->device = find(ble->radio, address);
	if (link->device)
		link->device->link = link;
	link->handler = *handler;
	link->userdata = userdata;
	link->adapter = adapter;
	link->number = ++ble->radio->links;
	link->bearer =
		bearers == BLE_BEARERS_GATT || sim_chance(300) ? BLE_BEARER_GATT : BLE_BEARER_L2CAP;
	list_append(&ble->links, &link->in_ble);
	loop_timer_init(ble->radio->loop, &link->air_timer, on_air, link);
	loop_timer_init(ble->radio->loop, &link->speak_timer, speak, link);
	next_step(link, on_connected, sim_between(20, 600));
	*ret = link;
	return 0;
}

int ble_link_send(struct ble_link *link, unsigned channel, const uint8_t *data, size_t len)
{
	struct frame *frame;

	if (link->state != STATE_UP)
		return -ENOTCONN;
	if (len > link->max_frame)
		return -EMSGSIZE;
	if (channel >= link->channels)
		return -EINVAL;
	if (link->n_queue == QUEUE_MAX) {
		link->wants_writable = true;
		return -EAGAIN;
	}
	frame = &link->queue[link->n_queue++];
	frame->channel = (uint8_t)channel;
	frame->len = (uint16_t)len;
	memcpy(frame->data, data, len);
	if (!link->air_timer.armed)
		loop_timer_start(&link->air_timer, sim_between(1, OVER_AIR_MS));
	link->flushing = false;
	return 0;
}

void ble_link_hold(struct ble_link *link, bool hold)
{
	link->held = hold && link->bearer == BLE_BEARER_L2CAP;
}

static void on_flushed_at_once(void *userdata)
{
	struct ble_link *link = userdata;

	if (link->n_queue > 0 || !link->flushing)
		return;
	link->flushing = false;
	link->handler.on_flushed(link->userdata);
}

void ble_link_flush(struct ble_link *link)
{
	link->flushing = true;
	if (link->n_queue > 0 || link->state != STATE_UP)
		return;
	/* It has said what it had to say: the timer is free. */
	next_step(link, on_flushed_at_once, 0);
}

void ble_link_close(struct ble_link *link)
{
	end(link, BLE_DOWN_LOCAL, "let go", sim_between(5, 100));
}
