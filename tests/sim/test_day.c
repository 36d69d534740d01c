/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 24 hours of a bad link, in seconds: every advert counts once at the cloud, and no session ends
 * without a reason or never.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "tests/sim/sim_log.h"
#include "tests/sim/sim_random.h"
#include "tests/sim/sim_weather.h"
#include "tests/sim/sim_world.h"
#include "tests/unit/heap.h"

#define DAYS	       10 /* with seeds one after the other */
#define HOUR_MS	       UINT64_C(3600000)
#define CALM_MS	       UINT64_C(1800000) /* at the end: longer than any back-off and any session */
#define DEVICES	       200
#define TABLE	       256 /* devices.max */
#define SESSION_MAX_MS 800000 /* relay.max_duration_s, two resume windows, and some */
#define BACK_MS	       400000 /* the longest back-off, dead pings and some */
#define HEAP_MAX       (4 << 20) /* bytes that may come on top after the first hour */

static void add_devices(struct sim_world *world)
{
	for (unsigned i = 0; i < DEVICES; i++) {
		bool often = i % 25 == 0;
		struct sim_device *device =
			sim_radio_add(&world->radio, 1000 + i,
				      often ? sim_between(500, 1500) : sim_between(5000, 60000));

		if (i % 3 == 1) {
			device->present_ms = HOUR_MS / 3;
			device->absent_ms = HOUR_MS;
		}
		if (i % 8 == 2)
			device->asks_ms = HOUR_MS / 4;
		sim_device_start(device);
	}
}

/* When the hub learns what time it is; until then no certificate is valid. */
static uint64_t clock_is_set_ms(void)
{
	return sim_chance(300) ? 12 * HOUR_MS : sim_between(60000, 3 * HOUR_MS);
}

static struct sim_world *begin(void)
{
	struct sim_world *world = sim_world_new();

	world->agent.settings.devices.max = TABLE;
	world->cloud.config.refuses = 20;
	world->cloud.config.breaks_off = 1;
	world->cloud.config.loses_ack = 3;
	world->net.latency_max_ms = 400;
	world->net.clock_unset = true;
	world->radio.n_adapters = 2;
	world->radio.hears = 600;
	add_devices(world);
	sim_agent_start(&world->agent, world->loop);
	return world;
}

static void check_hour(const struct sim_world *world, size_t heap)
{
	struct devices_counters devices;

	devices_get_counters(world->agent.agent->devices, &devices);
	assert_true(devices.known <= TABLE);
	assert_int_equal(devices.evicted, 0);
	assert_true(sim_status_answers());
	assert_true(heap == 0 || heap_used() < heap + HEAP_MAX);
}

/* When there was some trouble, or the uplink came up or was up, last. */
struct well {
	uint64_t ms, connects;
};

/* The uplink is never down for long without trouble. */
static void check_minute(const struct sim_world *world, const struct sim_weather *weather,
			 struct well *well)
{
	uint64_t connects = world->cloud.counters.connects;

	if (world->net.clock_unset || weather->n_on > 0 || sim_world_is_up(world) ||
	    connects > well->connects)
		well->ms = sim_now_ms();
	well->ms = MAX(well->ms, weather->ended_ms);
	well->connects = connects;
	assert_true(sim_now_ms() < well->ms + BACK_MS);
	assert_true(sim_oldest_session_ms() < SESSION_MAX_MS);
}

static void run_day(struct sim_world *world, uint64_t set_ms)
{
	uint64_t began_ms = sim_now_ms();
	struct well well = {.ms = began_ms};
	struct sim_weather weather;
	size_t heap = 0;

	sim_weather_start(&weather, world);
	for (unsigned minute = 1; minute <= 24 * 60; minute++) {
		uint64_t end_ms = began_ms + minute * UINT64_C(60000);

		sim_run_until(world->loop, end_ms);
		if (end_ms >= began_ms + set_ms)
			world->net.clock_unset = false;
		check_minute(world, &weather, &well);
		if (minute % 60 == 0)
			check_hour(world, heap);
		if (minute == 60)
			heap = heap_used();
	}
	sim_weather_stop(&weather);
	printf("    trouble:");
	for (unsigned i = 0; i < SIM_TROUBLES; i++)
		printf(" %s %llu%s", sim_trouble_name(i), (unsigned long long)weather.troubles[i].n,
		       i + 1 < SIM_TROUBLES ? "," : "\n");
}

static unsigned long long u(uint64_t n)
{
	return n;
}

static void tell(const struct sim_world *world)
{
	const struct sim_cloud_counters *c = &world->cloud.counters;
	const struct sim_outcomes *o = sim_outcomes();
	struct reporter_counters reporter;
	uint64_t complete = 0;

	reporter_get_counters(world->agent.agent->reporter, &reporter);
	for (unsigned i = 0; i < world->radio.n_devices; i++)
		complete += world->radio.devices[i].complete;
	printf("    connects: %llu tried, %llu opened, %llu welcomed; %llu refused, %llu not valid "
	       "yet, %llu with HTTP 503, %llu without DNS, %llu reset\n",
	       u(world->host->attempts), u(world->host->opened), u(c->connects),
	       u(world->net.refused), u(world->net.not_valid_yet), u(world->net.http_refused),
	       u(world->net.dns_failed), u(world->net.cut));
	printf("    adverts: %llu, in %llu sightings of %llu batches; %llu batches sent again, "
	       "%llu of them had come\n",
	       u(world->radio.adverts), u(c->sightings), u(reporter.batches), u(reporter.resent),
	       u(c->repeated));
	printf("    sessions: %llu begun, %llu opened at the cloud, resumed %llu times, %llu with "
	       "all echoes, the longest %llu s; %llu frames up, %llu down\n",
	       u(o->begun), u(c->opened), u(c->resumed), u(complete), u(o->longest_ms / 1000),
	       u(world->radio.frames_up), u(world->radio.frames_down));
	printf("    at the cloud: closed by the hotspot");
	for (unsigned i = 0; i < SIM_CODES; i++)
		printf(" %u:%llu", i, u(c->by_hotspot[i]));
	printf(", by the cloud");
	for (unsigned i = 0; i < SIM_CODES; i++)
		printf(" %u:%llu", i, u(c->by_cloud[i]));
	printf(", not listed %llu, expired %llu, lost in a crash %llu\n", u(c->not_listed),
	       u(c->expired), u(c->forgotten));
	sim_outcomes_print();
}

static void check_sightings(const struct sim_world *world)
{
	for (unsigned i = 0; i < world->radio.n_devices; i++) {
		const struct sim_device *device = &world->radio.devices[i];

		if (world->counts[i] != device->heard)
			fail_msg("device %u: %llu adverts at the cloud, %llu sent", i,
				 u(world->counts[i]), u(device->heard));
		assert_int_equal(device->wrong, 0);
	}
	assert_int_equal(world->unknown, 0);
	assert_int_equal(world->cloud.counters.adverts, world->radio.adverts);
}

static void check_sessions(const struct sim_world *world)
{
	const struct sim_cloud_counters *c = &world->cloud.counters;
	const struct sim_outcomes *o = sim_outcomes();
	uint64_t ended = c->not_listed + c->expired + c->forgotten;

	for (unsigned i = 0; i < SIM_CODES; i++)
		ended += c->by_hotspot[i] + c->by_cloud[i];
	assert_true(o->begun > 0);
	assert_int_equal(o->ended, o->begun);
	assert_int_equal(o->without_reason, 0);
	assert_int_equal(o->dropped, 0);
	assert_true(o->longest_ms < SESSION_MAX_MS);
	assert_int_equal(ended, c->opened);
	assert_int_equal(world->cloud.n_sessions, 0);
	assert_int_equal(c->violations, 0);
}

static void live_a_day(uint64_t seed)
{
	struct sim_world *world;
	uint64_t set_ms;

	sim_seed(seed);
	set_ms = clock_is_set_ms();
	printf("a day, SIM_SEED=%llu, the clock right after %.1f h\n", u(seed),
	       (double)set_ms / HOUR_MS);
	world = begin();
	run_day(world, set_ms);
	sim_radio_done(&world->radio);
	sim_world_run(world, CALM_MS);
	tell(world);
	assert_true(sim_world_is_up(world));
	check_sightings(world);
	check_sessions(world);
	assert_true(sim_agent_stop(&world->agent, 10000));
	sim_world_free(world);
}

static void test_days(void **state)
{
	uint64_t seed = sim_seed_or(1);

	(void)state;
	for (unsigned day = 0; day < DAYS; day++)
		live_a_day(seed + day);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_days)};

	sim_log_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
