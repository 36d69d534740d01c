/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/bus.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/util.h"

/* Messages taken in one turn of the loop, so that a flood cannot starve links and uplink. */
#define PROCESS_BUDGET 256
/* Pause between reads where signals come closer together than this and nothing is awaited: at a
 * few hundred adverts a second the wake-up costs more than the message. */
#define BATCH_MS     20
#define RETRY_MIN_MS 250
#define RETRY_MAX_MS                                                                               \
	2000 /* a local connect() is cheap, and a restarted bus is worth a prompt one */

static void on_ready(void *userdata, uint32_t revents);

static void bus_drop(struct bus *bus)
{
	int error = bus->error;
	sd_bus *sd = TAKE_PTR(bus->sd);

	bus->error = 0;
	bus->paused = false;
	loop_fd_remove(&bus->watch);
	loop_timer_stop(&bus->timer);
	if (!bus->reported)
		log_event(LOG_LEVEL_WARNING, LOG_EVENT_BLUETOOTH, "D-Bus: no connection: %s",
			  strerror(-error));
	bus->reported = true;
	bus->handler.on_down(bus->userdata, error);
	/* Not flushed: there is nobody to take it. */
	if (sd)
		sd_bus_close(sd);
	sd_bus_unref(sd);
	loop_timer_start(&bus->retry, bus->retry_ms);
	bus->retry_ms = MIN(bus->retry_ms * 2, RETRY_MAX_MS);
}

static int bus_open(struct bus *bus)
{
	int r = sd_bus_open_system(&bus->sd);

	bus->answered = false;
	if (r < 0)
		return r;
	r = sd_bus_set_exit_on_disconnect(bus->sd, 0);
	if (r < 0)
		return r;
	r = sd_bus_get_fd(bus->sd);
	if (r < 0)
		return r;
	return loop_fd_add(bus->loop, &bus->watch, r, EPOLLIN, on_ready, bus);
}

static void on_retry(void *userdata)
{
	struct bus *bus = userdata;
	int r = bus_open(bus);

	if (r < 0) {
		bus->error = r;
		bus_drop(bus);
		return;
	}
	bus->handler.on_up(bus->userdata);
	bus_update(bus);
}

void bus_fail(struct bus *bus, int error)
{
	if (!bus->sd || bus->error < 0)
		return;
	bus->error = error;
	/* The caller may be a callback of sd-bus, or owned by what on_down tears down. */
	loop_timer_start(&bus->timer, 0);
}

/* Whether the next signals may wait a little: where the last ones came close together, by the time
 * since the read before or, during pauses, by there being any. */
static bool may_pause(const struct bus *bus, uint64_t now_us)
{
	bool dense = bus->paused || now_us - bus->last_read_us < BATCH_MS * 1000;

	return dense && bus->n_prompt == 0 && sd_bus_is_ready(bus->sd) > 0;
}

static uint64_t wait_ms(uint64_t until_us)
{
	uint64_t now_us = util_now_us();

	return until_us <= now_us ? 0 : (until_us - now_us + 999) / 1000;
}

void bus_update(struct bus *bus)
{
	uint64_t until_us = UINT64_MAX;
	int events, r;

	if (!bus->sd || bus->processing || bus->error < 0)
		return;
	if (bus->n_prompt > 0)
		bus->paused = false;
	events = sd_bus_get_events(bus->sd);
	r = events < 0 ? events : sd_bus_get_timeout(bus->sd, &until_us);
	if (r < 0) {
		bus_fail(bus, r);
		return;
	}
	/* sd-bus tells it by CLOCK_MONOTONIC itself. */
	if (until_us != UINT64_MAX)
		until_us += UTIL_CLOCK_AHEAD_US;
	if (bus->paused) {
		events &= ~EPOLLIN;
		until_us = MIN(until_us, bus->last_read_us + BATCH_MS * 1000);
	}
	/* sd-bus answers in flags of poll(), which have the values of epoll's. */
	loop_fd_set(&bus->watch, (uint32_t)events);
	if (until_us == UINT64_MAX)
		loop_timer_stop(&bus->timer);
	else
		loop_timer_start(&bus->timer, wait_ms(until_us));
}

static void bus_process(struct bus *bus)
{
	uint64_t now_us = util_now_us();
	unsigned n = 0;
	int r = 0;

	bus->processing = true;
	while (bus->error == 0 && n < PROCESS_BUDGET) {
		r = sd_bus_process(bus->sd, NULL);
		if (r <= 0)
			break;
		n++;
	}
	bus->processing = false;
	if (r < 0 && bus->error == 0)
		bus->error = r;
	if (bus->error < 0) {
		bus_drop(bus);
		return;
	}
	bus->paused = r == 0 && n > 0 && may_pause(bus, now_us);
	if (n > 0)
		bus->last_read_us = now_us;
	bus_update(bus);
}

static void on_ready(void *userdata, uint32_t revents)
{
	(void)revents;
	bus_process(userdata);
}

static void on_timer(void *userdata)
{
	bus_process(userdata);
}

void bus_init(struct bus *bus, struct loop *loop, const struct bus_handler *handler, void *userdata)
{
	*bus = (struct bus){
		.loop = loop,
		.handler = *handler,
		.userdata = userdata,
		.retry_ms = RETRY_MIN_MS,
	};
	loop_timer_init(loop, &bus->timer, on_timer, bus);
	loop_timer_init(loop, &bus->retry, on_retry, bus);
	loop_timer_start(&bus->retry, 0);
}

void bus_done(struct bus *bus)
{
	loop_timer_stop(&bus->timer);
	loop_timer_stop(&bus->retry);
	loop_fd_remove(&bus->watch);
	if (bus->sd)
		sd_bus_close(bus->sd);
	bus->sd = sd_bus_unref(bus->sd);
}

void bus_hold(struct bus *bus)
{
	bus->n_prompt++;
	bus_update(bus);
}

void bus_release(struct bus *bus)
{
	bus->n_prompt--;
}

/* Any reply shows that the connection works. */
static void note_alive(struct bus *bus)
{
	bus->retry_ms = RETRY_MIN_MS;
	if (bus->reported)
		log_event(LOG_LEVEL_INFO, LOG_EVENT_BLUETOOTH, "D-Bus: connected again");
	bus->reported = false;
	bus->answered = true;
}

static int on_call_reply(sd_bus_message *reply, void *userdata, sd_bus_error *error)
{
	struct bus_call *call = userdata;

	(void)error;
	/* Made by sd-bus because the connection ends: on_down follows, and says so better. */
	if (sd_bus_is_open(call->bus->sd) <= 0)
		return 0;
	note_alive(call->bus);
	bus_call_cancel(call);
	call->on_reply(call->userdata, reply);
	return 0;
}

void bus_call(struct bus *bus, struct bus_call *call, sd_bus_message *m, uint64_t timeout_ms,
	      void (*on_reply)(void *userdata, sd_bus_message *reply), void *userdata)
{
	int r;

	if (!m)
		return;
	log_debug("D-Bus: %s %s", sd_bus_message_get_path(m), sd_bus_message_get_member(m));
	*call = (struct bus_call){.bus = bus, .on_reply = on_reply, .userdata = userdata};
	r = sd_bus_call_async(bus->sd, &call->slot, m, on_call_reply, call, timeout_ms * 1000);
	sd_bus_message_unref(m);
	if (r < 0)
		bus_fail(bus, r);
	else
		bus_hold(bus);
}

void bus_call_cancel(struct bus_call *call)
{
	if (!call->slot)
		return;
	call->slot = sd_bus_slot_unref(call->slot);
	bus_release(call->bus);
}

bool bus_call_pending(const struct bus_call *call)
{
	return call->slot != NULL;
}

void bus_send(struct bus *bus, sd_bus_message *m)
{
	int r;

	if (!m)
		return;
	log_debug("D-Bus: %s %s", sd_bus_message_get_path(m), sd_bus_message_get_member(m));
	r = sd_bus_message_set_expect_reply(m, 0);
	if (r >= 0)
		r = sd_bus_send(bus->sd, m, NULL);
	sd_bus_message_unref(m);
	if (r < 0)
		bus_fail(bus, r);
	else
		bus_update(bus);
}

void bus_call_blocking(struct bus *bus, sd_bus_message *m, uint64_t timeout_ms)
{
	if (m)
		sd_bus_call(bus->sd, m, timeout_ms * 1000, NULL, NULL);
	sd_bus_message_unref(m);
}

const char *bus_error_text(sd_bus_message *reply, char ret[BUS_ERROR_TEXT])
{
	const sd_bus_error *error = sd_bus_message_get_error(reply);

	if (!error)
		snprintf(ret, BUS_ERROR_TEXT, "no error");
	else if (strcmp(error->name, SD_BUS_ERROR_ACCESS_DENIED) == 0)
		/* dbus-daemon's own words are hundreds of bytes of rules and names. */
		snprintf(ret, BUS_ERROR_TEXT, "a D-Bus policy denies it to user %u",
			 (unsigned)geteuid());
	else
		snprintf(ret, BUS_ERROR_TEXT, "%s%s%s", error->name,
			 error->message && *error->message ? ": " : "",
			 error->message ? error->message : "");
	return ret;
}
