/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_radio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/util.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_random.h"

#define ASKING_INTERVAL_MS 500
#define GIVES_UP_MS	   180000 /* asking */

/* --- Devices --- */

static void fill_advert(const struct sim_device *device, struct advert *ret)
{
	ret->flags = device->asking ? ADVERT_FLAG_ASKS : 0;
	if (device->generation % 16 == 15)
		ret->flags |= ADVERT_FLAG_ANNOUNCES;
	ret->tx_power_dbm = 4;
	memcpy(ret->device_id, device->id, sizeof(ret->device_id));
	memset(ret->data, 0, sizeof(ret->data));
	ret->data[0] = ret->flags;
	ret->data[1] = 4;
	memcpy(ret->data + 2, device->id, sizeof(device->id));
}

static void tell(struct sim_device *device, unsigned adapter)
{
	struct ble *ble = device->radio->ble;
	struct advert advert;
	const struct ble_advert heard = {
		.advert = &advert,
		.address = {.bytes = {(uint8_t)(device->index >> 8), (uint8_t)device->index,
				      device->generation},
			    .random = true},
		.rssi_dbm = sim_chance(10) ? BLE_RSSI_NONE : (int8_t)-sim_between(40, 92),
		.adapter = adapter,
	};

	fill_advert(device, &advert);
	device->heard++;
	device->radio->adverts++;
	ble->handler.on_advert(ble->userdata, &heard);
}

static void advertise_later(struct sim_device *device)
{
	uint32_t interval_ms = device->asking
				       ? MIN(device->interval_ms, (uint32_t)ASKING_INTERVAL_MS)
				       : device->interval_ms;

	loop_timer_start(&device->advert_timer, interval_ms + sim_between(0, 10));
}

static void on_advert_timer(void *userdata)
{
	struct sim_device *device = userdata;
	struct sim_radio *radio = device->radio;

	advertise_later(device);
	for (unsigned i = 0; i < radio->n_adapters; i++) {
		if (radio->ble && !radio->off && !device->link && sim_chance(radio->hears))
			tell(device, i);
	}
}

/* What it says, so its address too, changes. */
static void set_asking(struct sim_device *device, bool asking)
{
	device->asking = asking;
	device->generation++;
	if (device->present)
		advertise_later(device);
}

static struct sim_plan choose_plan(void)
{
	static const enum sim_end ends[] = {SIM_END_CLOUD,  SIM_END_CLOUD,  SIM_END_CLOUD,
					    SIM_END_CLOUD,  SIM_END_DEVICE, SIM_END_DEVICE,
					    SIM_END_DEVICE, SIM_END_NOBODY};

	struct sim_plan plan = {.end = SIM_END_NEVER, .gap_ms = 20000};

	if (sim_chance(15))
		return plan;
	/* One after the other: in an initialiser their order is the compiler's. */
	plan.frames = sim_chance(50) ? sim_between(200, 600) : sim_between(1, 60);
	plan.gap_ms = sim_chance(300) ? 5000 : 100;
	plan.end = ends[sim_between(0, ARRAY_SIZE(ends) - 1)];
	return plan;
}

void sim_device_ask(struct sim_device *device)
{
	if (!device->fixed_plan)
		device->plan = choose_plan();
	device->asked++;
	set_asking(device, true);
	loop_timer_start(&device->ask_timer, GIVES_UP_MS);
}

static void ask_later(struct sim_device *device)
{
	if (device->asks_ms > 0)
		loop_timer_start(&device->ask_timer, sim_wait(device->asks_ms));
}

static void on_ask_timer(void *userdata)
{
	struct sim_device *device = userdata;

	if (device->asking)
		set_asking(device, false);
	else if (device->present && !device->link)
		sim_device_ask(device);
	if (!device->asking)
		ask_later(device);
}

void sim_device_released(struct sim_device *device, bool served)
{
	device->link = NULL;
	if (!served || !device->asking)
		return;
	set_asking(device, false);
	ask_later(device);
}

static void on_presence_timer(void *userdata)
{
	struct sim_device *device = userdata;

	device->present = !device->present;
	if (device->present) {
		advertise_later(device);
	} else {
		loop_timer_stop(&device->advert_timer);
		if (device->link)
			sim_link_lose(device->link, "the device went out of reach");
	}
	loop_timer_start(&device->presence_timer,
			 sim_wait(device->present ? device->present_ms : device->absent_ms));
}

void sim_device_start(struct sim_device *device)
{
	struct loop *loop = device->radio->loop;

	device->present = true;
	loop_timer_init(loop, &device->advert_timer, on_advert_timer, device);
	loop_timer_init(loop, &device->presence_timer, on_presence_timer, device);
	loop_timer_init(loop, &device->ask_timer, on_ask_timer, device);
	loop_timer_start(&device->advert_timer, sim_between(0, device->interval_ms));
	if (device->present_ms > 0)
		loop_timer_start(&device->presence_timer, sim_wait(device->present_ms));
	ask_later(device);
}

void sim_device_stop(struct sim_device *device)
{
	device->present = device->asking = false;
	loop_timer_stop(&device->advert_timer);
	loop_timer_stop(&device->presence_timer);
	loop_timer_stop(&device->ask_timer);
	device->asks_ms = 0;
	if (device->link)
		sim_link_lose(device->link, "the device has been switched off");
}

/* --- The radio --- */

void sim_radio_init(struct sim_radio *radio, struct loop *loop)
{
	*radio = (struct sim_radio){
		.loop = loop, .n_adapters = 1, .hears = 900, .fails = 80, .goes_away = 40};
	loop->radio = radio;
}

void sim_radio_done(struct sim_radio *radio)
{
	for (unsigned i = 0; i < radio->n_devices; i++)
		sim_device_stop(&radio->devices[i]);
}

struct sim_device *sim_radio_add(struct sim_radio *radio, uint64_t id, uint32_t interval_ms)
{
	struct sim_device *device = &radio->devices[radio->n_devices];

	if (radio->n_devices == SIM_DEVICES_MAX)
		abort();
	*device = (struct sim_device){
		.radio = radio, .index = radio->n_devices++, .interval_ms = interval_ms};
	memcpy(device->id, &id, sizeof(id));
	device->id[15] = 0x99;
	return device;
}

struct sim_device *sim_radio_find(struct sim_radio *radio, const uint8_t id[16])
{
	for (unsigned i = 0; i < radio->n_devices; i++) {
		if (memcmp(radio->devices[i].id, id, 16) == 0)
			return &radio->devices[i];
	}
	return NULL;
}

void sim_radio_switch(struct sim_radio *radio, bool on)
{
	radio->off = !on;
	if (!radio->ble)
		return;
	if (!on) {
		radio->switched_off++;
		sim_links_drop(radio->ble, BLE_DOWN_RADIO, "bluetoothd has gone");
	}
	radio->ble->handler.on_status(radio->ble->userdata);
}

/* --- ble/ble.h --- */

int ble_new(struct loop *loop, const struct ble_config *config, const struct ble_handler *handler,
	    void *userdata, struct ble **ret)
{
	struct ble *ble = calloc(1, sizeof(*ble));

	(void)config;
	if (!ble)
		return -ENOMEM;
	ble->radio = loop->radio;
	ble->handler = *handler;
	ble->userdata = userdata;
	list_init(&ble->links);
	loop->radio->ble = ble;
	*ret = ble;
	return 0;
}

void ble_free(struct ble *ble)
{
	if (!ble)
		return;
	sim_links_free(ble);
	ble->radio->ble = NULL;
	free(ble);
}

void ble_get_status(const struct ble *ble, struct ble_status *ret)
{
	*ret = (struct ble_status){
		.state = ble->radio->off ? BLE_STATE_NO_BLUETOOTHD : BLE_STATE_SCANNING,
		.generation = 1,
		.n_adapters = ble->radio->n_adapters,
	};
	for (unsigned i = 0; i < ret->n_adapters; i++) {
		ret->adapters[i].index = i;
		ret->adapters[i].used = true;
		ret->adapters[i].state = BLE_ADAPTER_SCANNING;
	}
}

const char *ble_state_name(enum ble_state state)
{
	return state == BLE_STATE_SCANNING ? "scanning" : "no-bluetoothd";
}

const char *ble_adapter_state_name(enum ble_adapter_state state)
{
	return state == BLE_ADAPTER_SCANNING ? "scanning" : "off";
}

const char *ble_supervisor_step_name(enum ble_supervisor_step step)
{
	(void)step;
	return "watching";
}

const char *ble_bearer_name(enum ble_bearer bearer)
{
	return bearer == BLE_BEARER_GATT ? "GATT" : "L2CAP";
}

const char *ble_down_name(enum ble_down why)
{
	static const char *const names[] = {
		[BLE_DOWN_LOCAL] = "local",	      [BLE_DOWN_PEER] = "peer",
		[BLE_DOWN_CONNECT] = "not connected", [BLE_DOWN_NOT_SERVED] = "not served",
		[BLE_DOWN_TIMEOUT] = "timeout",	      [BLE_DOWN_RADIO] = "radio",
	};

	return names[why];
}
