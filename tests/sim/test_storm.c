/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 10,000 hubs lose their server at the same moment: how many connects in a second it has to take
 * when it is back, with uplink.c and with hubs that just try again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/sim/sim_codec.h"
#include "tests/sim/sim_log.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_net.h"
#include "tests/sim/sim_random.h"
#include "uplink/uplink.h"

#define HUBS	       10000
#define UP_MS	       3600000 /* before it happens */
#define SHORT_MS       300000 /* the same, where it does not matter */
#define DOWN_MS	       30000
#define AFTER_MS       1800000 /* at most, until all are back */
#define GOAWAY_MS      30000
#define BACKOFF_MIN_MS 1000 /* the defaults of the configuration */
#define BACKOFF_MAX_MS 300000
#define SPREAD_S       (URLS_SPREAD * BACKOFF_MIN_MS / 1000.0)

/* A hub that connects again after a fixed time. */
struct naive {
	struct websocket *ws;
	struct loop_timer timer;
	uint32_t wait_ms;
};

#define SLICES 10 /* of 100 ms: a second, wherever it begins */

struct rate {
	uint64_t slice; /* the last one counted */
	unsigned n[SLICES], sum, peak;
};

struct storm {
	struct loop *loop;
	struct sim_net net;
	unsigned n_up;
	unsigned welcomed; /* since this is counted */
	struct uplink *uplinks[HUBS];
	struct naive naive[HUBS];
	struct rate tried, opened; /* at any host */
};

static struct storm storm;

/* --- The server: it welcomes everybody --- */

static void on_open(void *userdata, struct sim_conn *conn)
{
	static const uint8_t nonce[MESSAGE_NONCE_LEN];
	uint8_t buf[128];

	(void)userdata;
	sim_conn_send(conn, buf, sim_encode_challenge(nonce, 0, buf));
}

static void on_message(void *userdata, struct sim_conn *conn, const uint8_t *data, size_t len)
{
	static const struct message_settings settings = {.credits = 16};
	struct sim_message m;
	uint8_t buf[128];

	(void)userdata;
	assert_true(sim_decode(data, len, &m));
	assert_int_equal(m.type, MESSAGE_HELLO);
	sim_conn_send(conn, buf, sim_encode_welcome(&settings, NULL, 0, buf));
}

static void on_server_closed(void *userdata, struct sim_conn *conn, unsigned code)
{
	(void)userdata, (void)conn, (void)code;
}

static void count(struct rate *rate)
{
	uint64_t slice = sim_now_ms() * SLICES / 1000;

	rate->slice = MAX(rate->slice, slice - MIN(slice, (uint64_t)SLICES));
	while (rate->slice < slice) {
		unsigned *oldest = &rate->n[++rate->slice % SLICES];

		rate->sum -= *oldest;
		*oldest = 0;
	}
	rate->n[slice % SLICES]++;
	rate->sum++;
	rate->peak = MAX(rate->peak, rate->sum);
}

static void on_attempt(void *userdata, bool opened)
{
	(void)userdata;
	count(opened ? &storm.opened : &storm.tried);
}

/* --- The hubs --- */

static int sign(void *userdata, const uint8_t *data, size_t len, uint8_t *ret)
{
	(void)userdata, (void)data, (void)len;
	memset(ret, 0, MESSAGE_SIGNATURE_LEN);
	return 0;
}

static size_t on_hello(void *userdata, struct message_resume *ret)
{
	(void)userdata, (void)ret;
	return 0;
}

static void on_up(void *userdata, const struct message_settings *settings)
{
	(void)userdata, (void)settings;
	storm.n_up++;
	storm.welcomed++;
}

static void on_goaway(void *userdata)
{
	(void)userdata;
}

static void on_down(void *userdata)
{
	(void)userdata;
	storm.n_up--;
}

static void on_hub_message(void *userdata, const struct message *message)
{
	(void)userdata, (void)message;
}

static size_t on_writable(void *userdata, uint8_t *buf, size_t size)
{
	(void)userdata, (void)buf, (void)size;
	return 0;
}

static void start_hubs(const char *const *urls, size_t n_urls)
{
	static const struct uplink_handler handler = {
		.on_hello = on_hello,
		.on_up = on_up,
		.on_goaway = on_goaway,
		.on_down = on_down,
		.on_message = on_hub_message,
		.on_writable = on_writable,
	};
	static const uint8_t run[MESSAGE_RUN_LEN];
	static const struct uplink_identity identity = {.sign = sign};
	const struct uplink_config config = {
		.urls = urls,
		.n_urls = n_urls,
		.ca_file = "/nonexistent",
		.agent = "simulated",
		.run = run,
		.ping_interval_ms = 30000,
		.ping_timeout_ms = 10000,
		.connect_timeout_ms = 15000,
		.backoff_min_ms = BACKOFF_MIN_MS,
		.backoff_max_ms = BACKOFF_MAX_MS,
	};

	for (unsigned i = 0; i < HUBS; i++) {
		assert_int_equal(uplink_new(storm.loop, &config, &identity, &handler, NULL,
					    &storm.uplinks[i]),
				 0);
		/* They have not all been switched on at once. */
		if (i % 100 == 0)
			sim_run_until(storm.loop, sim_now_ms() + 500);
	}
}

static void naive_step(void *userdata, enum websocket_step step)
{
	(void)userdata;
	if (step == WEBSOCKET_STEP_OPEN)
		on_up(NULL, NULL);
}

static void naive_message(void *userdata, const uint8_t *data, size_t len)
{
	(void)userdata, (void)data, (void)len;
}

static void naive_alive(void *userdata, bool pong)
{
	(void)userdata, (void)pong;
}

static void naive_closed(void *userdata, const struct websocket_end *end)
{
	struct naive *naive = userdata;

	storm.n_up -= end->step == WEBSOCKET_STEP_OPEN;
	loop_timer_start(&naive->timer, naive->wait_ms);
}

static void naive_connect(void *userdata)
{
	static const struct websocket_target target = {.address = "192.0.2.1"};
	struct naive *naive = userdata;

	websocket_connect(naive->ws, &target);
}

static void start_naive(uint32_t wait_ms)
{
	static const struct websocket_config config = {.max_message = MESSAGE_MAX};
	static const struct websocket_handler handler = {
		.on_step = naive_step,
		.on_message = naive_message,
		.on_alive = naive_alive,
		.on_writable = on_writable,
		.on_closed = naive_closed,
	};

	for (unsigned i = 0; i < HUBS; i++) {
		struct naive *naive = &storm.naive[i];

		naive->wait_ms = wait_ms;
		loop_timer_init(storm.loop, &naive->timer, naive_connect, naive);
		assert_int_equal(websocket_new(storm.loop, &config, &handler, naive, &naive->ws),
				 0);
		loop_timer_start(&naive->timer, sim_between(0, 50000));
	}
}

/* --- One storm --- */

static void begin(void)
{
	static const struct sim_server server = {
		.on_open = on_open, .on_message = on_message, .on_closed = on_server_closed};
	static const char *const names[] = {"first.example", "second.example"};

	memset(&storm, 0, sizeof(storm));
	assert_int_equal(loop_new(&storm.loop), 0);
	sim_net_init(&storm.net, storm.loop);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		sim_net_add(&storm.net, names[i], &server)->on_attempt = on_attempt;
}

static void finish(void)
{
	for (unsigned i = 0; i < HUBS; i++) {
		uplink_free(storm.uplinks[i]);
		loop_timer_stop(&storm.naive[i].timer);
		websocket_free(storm.naive[i].ws);
	}
	sim_net_done(&storm.net);
	loop_free(storm.loop);
}

/* All hubs connect, and stay so. */
static void settle(uint64_t for_ms)
{
	sim_run_until(storm.loop, sim_now_ms() + for_ms);
	assert_int_equal(storm.n_up, HUBS);
	storm.tried = storm.opened = (struct rate){0};
	storm.welcomed = 0;
}

struct result {
	unsigned peak; /* connects in a second */
	double back_s; /* until 99 % are back */
};

/* Until each hub has connected anew; counted from now on. */
static struct result wait_for_all(const char *name)
{
	uint64_t began_ms = sim_now_ms();
	struct result result = {0};

	while (storm.welcomed < HUBS && sim_now_ms() < began_ms + AFTER_MS) {
		sim_run_until(storm.loop, sim_now_ms() + 50);
		if (result.back_s == 0 && storm.welcomed >= HUBS / 100 * 99)
			result.back_s = (double)(sim_now_ms() - began_ms) / 1000;
	}
	assert_int_equal(storm.welcomed, HUBS);
	assert_int_equal(storm.n_up, HUBS);
	result.peak = storm.opened.peak;
	printf("    %-28s %5u connects in a second at most, 99 %% back after %.1f s", name,
	       result.peak, result.back_s);
	return result;
}

/* Everybody has been connected for a while, then the server is down; counted from when it is
 * back. */
static struct result restart(const char *name, uint64_t up_ms, uint64_t down_ms)
{
	struct sim_host *host = &storm.net.hosts[0];
	struct result result;
	unsigned refused;

	settle(up_ms);
	host->down = true;
	sim_net_cut(&storm.net, host);
	sim_run_until(storm.loop, sim_now_ms() + down_ms);
	assert_int_equal(storm.n_up, 0);
	refused = storm.tried.peak;
	storm.opened = (struct rate){0};
	storm.welcomed = 0;
	host->down = false;
	result = wait_for_all(name);
	printf("; while it was down %u refused in a second at most\n", refused);
	finish();
	return result;
}

static struct result restart_naive(const char *name, uint32_t wait_ms)
{
	begin();
	start_naive(wait_ms);
	return restart(name, UP_MS, DOWN_MS);
}

/* --- Tests --- */

static const char *const urls[] = {"wss://first.example/", "wss://second.example/"};

/* With full jitter a hub that has been refused for D has doubled its ceiling until the waits,
 * on average half a ceiling each, come to D: its ceiling is about D, and half of it is the
 * least it waits on average. So 2 HUBS / D come in a second, as long as they come evenly;
 * twice that is the margin for chance and for the hubs that were luckier. */
static void test_restart(void **state)
{
	struct result full, one, five;

	(void)state;
	begin();
	start_hubs(urls, 1);
	full = restart("down 30 s, uplink.c:", UP_MS, DOWN_MS);
	one = restart_naive("down 30 s, each second:", 1000);
	five = restart_naive("down 30 s, every 5 s:", 5000);
	printf("    the peak is %.0f and %.0f times lower\n", (double)one.peak / full.peak,
	       (double)five.peak / full.peak);
	assert_in_range(full.peak, 1, 4 * HUBS / (DOWN_MS / 1000));
	assert_true(one.peak > 5 * full.peak);
	assert_true(five.peak > 5 * full.peak);
	assert_true(full.back_s < BACKOFF_MAX_MS / 1000.0);
}

/* Nobody has waited for long by then: they come back as they were spread when they were dropped, with
 * those that were refused meanwhile on top. */
static void test_short_restart(void **state)
{
	struct result result;

	(void)state;
	begin();
	start_hubs(urls, 1);
	result = restart("down 1 s, uplink.c:", SHORT_MS, 1000);
	assert_in_range(result.peak, 1, (uintmax_t)(2.5 * HUBS / SPREAD_S));
	assert_true(result.back_s < 30);
}

static void send_goaway(void)
{
	uint8_t buf[128];
	size_t len = sim_encode_goaway(GOAWAY_MS, "maintenance", buf);

	LIST_FOREACH (l, &storm.net.conns) {
		sim_conn_send(sim_conn_of(l), buf, len);
	}
}

/* They go evenly within a quarter of after_ms and half a second on top. */
static void test_goaway(void **state)
{
	double spread_s = GOAWAY_MS / 4000.0 + 0.5;
	struct result result;

	(void)state;
	begin();
	start_hubs(urls, 1);
	settle(SHORT_MS);
	send_goaway();
	sim_run_until(storm.loop, sim_now_ms() + GOAWAY_MS);
	assert_int_equal(storm.welcomed, 0);
	result = wait_for_all("GOAWAY in 30 s:");
	printf("\n");
	finish();
	assert_in_range(result.peak, 1, (uintmax_t)(1.5 * HUBS / spread_s));
	assert_true(result.back_s < spread_s + 1);
}

/* The first server dies for good: all go to the second, evenly over the time they are spread. */
static void test_second_url(void **state)
{
	struct result result;

	(void)state;
	begin();
	start_hubs(urls, 2);
	settle(SHORT_MS);
	assert_int_equal(storm.net.hosts[1].opened, 0);
	storm.net.hosts[0].down = true;
	sim_net_cut(&storm.net, &storm.net.hosts[0]);
	result = wait_for_all("the first of two URLs dies:");
	printf("\n");
	finish();
	assert_in_range(result.peak, 1, (uintmax_t)(1.5 * HUBS / SPREAD_S));
	assert_true(result.back_s < 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_short_restart),
		cmocka_unit_test(test_goaway),
		cmocka_unit_test(test_second_url),
	};
	uint64_t seed = sim_seed_or(1);

	sim_log_init();
	printf("%u hubs, SIM_SEED=%llu\n", HUBS, (unsigned long long)seed);
	sim_seed(seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
