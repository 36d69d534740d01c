/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server gone wrong: 10,000 of its own messages with one byte changed, recorded as they are
 * sent and delivered in the very state in which they come, and 10,000 random ones. Whatever
 * comes, the agent is to be of use again soon after, with a server that is right.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/sim/sim_chaos.h"
#include "tests/sim/sim_log.h"
#include "tests/sim/sim_random.h"
#include "tests/sim/sim_world.h"

#define MESSAGES       10000 /* of each kind */
#define ROUNDS_MAX     300 /* with one agent */
#define VISITORS       4 /* taken in turn; each is another device every time */
#define RESIDENTS      5
#define TYPES	       (MESSAGE_GOAWAY + 1)
#define BACKOFF_MAX_S  15
#define PROVOKE_MS     60000 /* until a message of the type must have come */
#define SESSION_MAX_MS 800000 /* relay.max_duration_s, two resume windows, and some */
/* Until it is of use again: the longest back-offs of the uplink and of a device, more than
 * once; and where the message was taken for GOAWAY, which stops new sessions, an hour and its
 * jitter. */
#define RECOVER_MS 900000
#define GOAWAY_MS  5400000

struct hostile {
	struct sim_world *world;
	uint64_t seed;
	bool random; /* messages made up, else changed */
	enum message_type type; /* of the server's message at which it happens; 0: not now */
	bool instead; /* of it, else before it */
	uint8_t recorded[TYPES][2048]; /* the last one of each type */
	size_t recorded_len[TYPES];
	uint8_t evil[SIM_CHAOS_MAX]; /* the last one */
	size_t evil_len;
	uint64_t rounds, visits;
	uint64_t before, by_type[TYPES]; /* delivered by earlier agents; sent, by what came */
	uint64_t kept, closed_4400, closed_otherwise;
	uint64_t slowest_ms;
};

/* --- What is delivered --- */

static void attack(struct hostile *h, struct sim_conn *conn, enum message_type type)
{
	if (h->random) {
		h->evil_len =
			sim_chaos_message((uint32_t)h->world->cloud.counters.opened + 2, h->evil);
	} else {
		h->evil_len = h->recorded_len[type];
		memcpy(h->evil, h->recorded[type], h->evil_len);
		sim_chaos_flip(h->evil, h->evil_len);
	}
	h->by_type[type]++;
	h->type = 0;
	sim_conn_send_evil(conn, h->evil, h->evil_len);
}

static bool on_send(void *userdata, struct sim_conn *conn, enum message_type type,
		    const uint8_t *data, size_t len)
{
	struct hostile *h = ((struct sim_world *)userdata)->userdata;

	if (len <= sizeof(h->recorded[type])) {
		memcpy(h->recorded[type], data, len);
		h->recorded_len[type] = len;
	}
	if (h->type != type)
		return true;
	attack(h, conn, type);
	return !h->instead;
}

/* --- The world --- */

/* Devices that keep sessions going, all kinds of them. */
static void add_residents(struct sim_world *world)
{
	for (unsigned i = 0; i < RESIDENTS; i++) {
		struct sim_device *device = sim_radio_add(&world->radio, 10 + i, 3000);

		device->fixed_plan = device->fair = true;
		device->asks_ms = 4000;
		device->plan = (struct sim_plan){
			.frames = 12, .gap_ms = 300, .end = i % 2 ? SIM_END_CLOUD : SIM_END_DEVICE};
		if (i == 0)
			device->plan = (struct sim_plan){.gap_ms = 3000, .end = SIM_END_NEVER};
		sim_device_start(device);
	}
}

static void begin(struct hostile *h)
{
	struct sim_world *world = h->world = sim_world_new();

	world->userdata = h;
	world->cloud.on_send = on_send;
	world->cloud.config.tells = false;
	world->cloud.config.refuses = 50;
	world->radio.hears = 1000;
	/* Short, so that sessions are mostly there still. */
	world->agent.settings.uplink.backoff_max_s = BACKOFF_MAX_S;
	add_residents(world);
	for (unsigned i = 0; i < VISITORS; i++)
		sim_radio_add(&world->radio, 0, 0);
	sim_agent_start(&world->agent, world->loop);
	sim_world_run(world, 5000);
}

static void finish(struct hostile *h)
{
	struct sim_world *world = h->world;
	const struct sim_outcomes *o = sim_outcomes();

	assert_true(sim_status_answers());
	assert_int_equal(world->cloud.counters.malformed, 0);
	h->before += world->net.evil;
	assert_true(sim_agent_stop(&world->agent, 10000));
	assert_int_equal(o->ended, o->begun);
	assert_int_equal(o->without_reason, 0);
	assert_int_equal(o->dropped, 0);
	sim_world_free(world);
	h->world = NULL;
}

/* --- A round --- */

/* Brings about a message of h->type, if it does not come by itself. */
static void provoke(struct hostile *h)
{
	struct sim_world *world = h->world;

	if (h->type == MESSAGE_CHALLENGE || h->type == MESSAGE_WELCOME)
		sim_net_cut(&world->net, NULL);
	else if (h->type == MESSAGE_GOAWAY)
		sim_cloud_goaway(&world->cloud, sim_between(0, 3000));
}

/* Lets one message of the server's be attacked. */
static void strike(struct hostile *h)
{
	static const enum message_type types[] = {
		MESSAGE_CHALLENGE, MESSAGE_WELCOME, MESSAGE_SIGHTINGS_ACK, MESSAGE_ACCEPT,
		MESSAGE_DATA,	   MESSAGE_CREDIT,  MESSAGE_CLOSE,	   MESSAGE_GOAWAY};
	enum message_type type = types[sim_between(0, ARRAY_SIZE(types) - 1)];
	struct sim_world *world = h->world;
	uint64_t until_ms = sim_now_ms() + PROVOKE_MS;

	sim_world_run(world, sim_between(0, 2000));
	h->type = type;
	h->instead = sim_chance(300);
	provoke(h);
	while (h->type && sim_now_ms() < until_ms)
		sim_world_run(world, 50);
	/* It did not come: it comes out of turn. */
	if (h->type && world->cloud.newest && h->recorded_len[type])
		attack(h, world->cloud.newest, type);
	h->type = 0;
	sim_world_run(world, 200);
}

/* Another device than ever before. */
static struct sim_device *visit(struct hostile *h)
{
	unsigned i = RESIDENTS + h->visits % VISITORS;
	struct sim_device *device = &h->world->radio.devices[i];
	uint64_t id = 1000 + h->visits++;

	if (device->link)
		fail_msg("a link that does not end");
	*device = (struct sim_device){
		.radio = device->radio,
		.index = i,
		.generation = device->generation,
		.interval_ms = 400,
		.fixed_plan = true,
		.fair = true,
		.plan = {.frames = 3, .gap_ms = 50, .end = SIM_END_CLOUD},
	};
	memcpy(device->id, &id, sizeof(id));
	h->world->counts[i] = 0;
	sim_device_start(device);
	sim_device_ask(device);
	return device;
}

static void fail_round(struct hostile *h, const char *what)
{
	fprintf(stderr, "SIM_SEED=%llu, round %llu: %s after a message of %zu bytes: ",
		(unsigned long long)h->seed, (unsigned long long)h->rounds, what, h->evil_len);
	for (size_t i = 0; i < MIN(h->evil_len, (size_t)200); i++)
		fprintf(stderr, "%02x", h->evil[i]);
	fprintf(stderr, "\n");
	fail_msg("%s", what);
}

/* Until a device that nobody knows is told to the cloud and has its frames back. */
static void recover(struct hostile *h)
{
	struct sim_world *world = h->world;
	struct sim_device *device = visit(h);
	uint64_t began_ms = sim_now_ms(), limit_ms = RECOVER_MS;

	while (device->complete == 0 || world->counts[device->index] == 0 ||
	       !sim_world_is_up(world)) {
		struct uplink_status status;

		sim_world_run(world, 200);
		if (!device->asking && !device->link && device->complete == 0)
			sim_device_ask(device);
		uplink_get_status(world->agent.agent->uplink, &status);
		if (status.reconnect_ms > 0)
			limit_ms = GOAWAY_MS + RECOVER_MS;
		if (sim_now_ms() > began_ms + limit_ms)
			fail_round(h, "not of use again");
	}
	if (device->wrong > 0)
		fail_round(h, "frames came back wrong");
	h->slowest_ms = MAX(h->slowest_ms, sim_now_ms() - began_ms);
	sim_device_stop(device);
	if (sim_oldest_session_ms() > SESSION_MAX_MS)
		fail_round(h, "a session that does not end");
}

/* What does not decode, and came, closes with 4400. */
static void check_closed(struct hostile *h, uint64_t evil, uint64_t closed_4400)
{
	struct message m;
	const char *what;

	if (h->world->net.evil == evil || h->world->cloud.counters.closed_4400 > closed_4400)
		return;
	if (h->evil_len > MESSAGE_MAX ||
	    message_decode(h->evil, h->evil_len, &m, &what) == -EBADMSG)
		fail_round(h, "not closed with 4400");
}

static void run_round(struct hostile *h)
{
	const struct sim_cloud_counters *c = &h->world->cloud.counters;
	uint64_t evil = h->world->net.evil, closed_4400 = c->closed_4400, connects = c->connects;

	h->rounds++;
	strike(h);
	check_closed(h, evil, closed_4400);
	/* A server that has kept something to itself goes, and a good one comes. */
	if (h->instead)
		sim_net_cut(&h->world->net, NULL);
	recover(h);
	if (c->closed_4400 > closed_4400)
		h->closed_4400++;
	else if (c->connects > connects)
		h->closed_otherwise++;
	else
		h->kept++;
}

static void run(uint64_t seed, bool random)
{
	static struct hostile h;

	h = (struct hostile){.seed = seed, .random = random};
	sim_seed(seed);
	while (h.before < MESSAGES) {
		begin(&h);
		for (unsigned i = 0; i < ROUNDS_MAX && h.before + h.world->net.evil < MESSAGES; i++)
			run_round(&h);
		finish(&h);
	}
	printf("    %llu %s messages delivered in %llu rounds, SIM_SEED=%llu: connection kept "
	       "%llu, closed with 4400 %llu, ended otherwise %llu; of use again after %.1f s at "
	       "most\n",
	       (unsigned long long)h.before, random ? "random" : "changed",
	       (unsigned long long)h.rounds, (unsigned long long)seed, (unsigned long long)h.kept,
	       (unsigned long long)h.closed_4400, (unsigned long long)h.closed_otherwise,
	       (double)h.slowest_ms / 1000);
	printf("    at CHALLENGE %llu, WELCOME %llu, SIGHTINGS_ACK %llu, ACCEPT %llu, DATA %llu, "
	       "CREDIT %llu, CLOSE %llu, GOAWAY %llu\n",
	       (unsigned long long)h.by_type[MESSAGE_CHALLENGE],
	       (unsigned long long)h.by_type[MESSAGE_WELCOME],
	       (unsigned long long)h.by_type[MESSAGE_SIGHTINGS_ACK],
	       (unsigned long long)h.by_type[MESSAGE_ACCEPT],
	       (unsigned long long)h.by_type[MESSAGE_DATA],
	       (unsigned long long)h.by_type[MESSAGE_CREDIT],
	       (unsigned long long)h.by_type[MESSAGE_CLOSE],
	       (unsigned long long)h.by_type[MESSAGE_GOAWAY]);
}

static void test_changed(void **state)
{
	(void)state;
	run(sim_seed_or(1), false);
}

static void test_random(void **state)
{
	(void)state;
	run(sim_seed_or(2), true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_random),
	};

	sim_log_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
