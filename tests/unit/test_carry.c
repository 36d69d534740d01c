/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/carry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "tests/unit/common.h"
#include "tests/unit/table.h"

#define NOBODY 65534

/* What one agent has of it. */
struct hub {
	struct loop *loop;
	struct devices *devices;
	struct reporter *reporter;
	struct relay *relay;
	uint8_t run[MESSAGE_RUN_LEN];
	struct carry carry;
	uint8_t message[MESSAGE_MAX];
};

static void on_want_write(void *userdata)
{
	(void)userdata;
}

static struct hub *start(size_t max)
{
	struct hub *hub = calloc(1, sizeof(*hub));
	const struct reporter_config config = {.interval_ms = 3600000};
	const struct relay_config relay = {0};

	assert_non_null(hub);
	assert_int_equal(loop_new(&hub->loop), 0);
	hub->devices = make(max);
	assert_int_equal(
		reporter_new(hub->loop, hub->devices, &config, on_want_write, hub, &hub->reporter),
		0);
	assert_int_equal(
		relay_new(hub->loop, NULL, hub->devices, &relay, on_want_write, hub, &hub->relay),
		0);
	hub->carry = (struct carry){directory, hub->run, hub->devices, hub->reporter, hub->relay};
	carry_in(&hub->carry);
	return hub;
}

static void stop(struct hub *hub)
{
	carry_out(&hub->carry);
	relay_free(hub->relay);
	reporter_free(hub->reporter);
	devices_free(hub->devices);
	loop_free(hub->loop);
	free(hub);
}

static const char *path(void)
{
	static char text[sizeof(directory) + sizeof(CARRY_FILE) + 1];

	snprintf(text, sizeof(text), "%s/%s", directory, CARRY_FILE);
	return text;
}

static bool is_there(void)
{
	return access(path(), F_OK) == 0;
}

/* As of a hub that heard them a while ago. */
static uint64_t ago(uint64_t ms)
{
	return util_now_ms() - ms;
}

static size_t send(struct hub *hub)
{
	return reporter_next_message(hub->reporter, hub->message, sizeof(hub->message));
}

static void expect_near(uint64_t value_ms, uint64_t expected_ms)
{
	assert_in_range(value_ms, expected_ms - 10000, expected_ms + 10000);
}

static void nothing_leaves_nothing(void **state)
{
	struct hub *hub = start(16);
	uint8_t run[MESSAGE_RUN_LEN];

	(void)state;
	memcpy(run, hub->run, sizeof(run));
	stop(hub);
	assert_false(is_there());
	hub = start(16);
	assert_memory_not_equal(hub->run, run, sizeof(run));
	assert_int_equal(reporter_batch(hub->reporter), 1);
	assert_int_equal(relay_next_session(hub->relay), 1);
	/* All that is acknowledged is nothing too. */
	hear(hub->devices, ago(1000), 1, 0, -70, 0);
	reporter_up(hub->reporter, 0);
	assert_true(send(hub) > 0);
	reporter_acknowledged(hub->reporter, 1);
	stop(hub);
	assert_false(is_there());
}

static void carries_what_is_pending(void **state)
{
	struct hub *hub = start(16);
	uint8_t run[MESSAGE_RUN_LEN];
	struct stat st;

	(void)state;
	memcpy(run, hub->run, sizeof(run));
	relay_set_next_session(hub->relay, 77);
	hear(hub->devices, ago(600000), 1, 0, -70, 1);
	hear(hub->devices, ago(500000), 2, ADVERT_FLAG_ASKS, -50, 2);
	hear(hub->devices, ago(400000), 1, 0, -60, 3);

	/* Twice, without a cloud between. */
	for (unsigned i = 0; i < 2; i++) {
		const struct device *device;

		stop(hub);
		assert_int_equal(stat(path(), &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
		hub = start(16);
		assert_false(is_there());
		assert_memory_equal(hub->run, run, sizeof(run));
		assert_int_equal(relay_next_session(hub->relay), 77);
		assert_int_equal(reporter_batch(hub->reporter), 1);
		assert_int_equal(counters(hub->devices).kept, 2);
		assert_int_equal(counters(hub->devices).known, 2);
		assert_int_equal(counters(hub->devices).present, 0);
		assert_int_equal(devices_urgent(hub->devices), 2);
		assert_int_equal(all_of(hub->devices)->numbers[0], 2);
		device = find(hub->devices, 1);
		assert_int_equal(device->state, DEVICE_STATE_LOST);
		assert_int_equal(device->count, 0);
		assert_int_equal(device->pending.count, 2);
		assert_int_equal(device->pending.state, DEVICE_STATE_APPEARED);
		assert_int_equal(device->pending.rssi.min, -70);
		assert_int_equal(device->pending.data[19], 3);
		expect_near(device->pending.first_ms, ago(600000));
		expect_near(device->pending.last_ms, ago(400000));
	}
	reporter_up(hub->reporter, 0);
	assert_true(send(hub) > 0);
	reporter_acknowledged(hub->reporter, 1);
	stop(hub);
	assert_false(is_there());
}

/* The batch that is out is sent again as it was, and what came after it as the next. */
static void carries_the_batch(void **state)
{
	struct hub *hub = start(300);
	struct reporter_counters c;
	uint8_t before[200];

	(void)state;
	hear(hub->devices, ago(5000), 1, 0, -70, 1);
	reporter_up(hub->reporter, 0);
	assert_true(send(hub) > 0);
	reporter_acknowledged(hub->reporter, 1);
	for (unsigned i = 2; i < 50; i++)
		hear(hub->devices, ago(5000), i, 0, -70, (uint8_t)i);
	reporter_flush(hub->reporter);
	assert_true(send(hub) > sizeof(before));
	hear(hub->devices, ago(2000), 3, ADVERT_FLAG_ASKS, -20, 99);
	hear(hub->devices, ago(2000), 60, 0, -20, 98);
	stop(hub);

	hub = start(300);
	assert_int_equal(reporter_batch(hub->reporter), 2);
	assert_false(reporter_idle(hub->reporter));
	assert_int_equal(batch_of(hub->devices)->n, 48);
	for (unsigned i = 0; i < 48; i++) {
		assert_int_equal(batch_of(hub->devices)->numbers[i], i + 2);
		assert_int_equal(batch_of(hub->devices)->devices[i]->sent.count, 1);
		assert_int_equal(batch_of(hub->devices)->devices[i]->sent.data[19], i + 2);
	}
	assert_int_equal(find(hub->devices, 3)->pending.count, 1);
	assert_int_equal(find(hub->devices, 3)->pending.data[19], 99);
	assert_int_equal(counters(hub->devices).kept, 50);
	reporter_up(hub->reporter, 0);
	assert_true(send(hub) > 0);
	assert_memory_equal(hub->message, "\x83\x0a\x02\x98\x30", 5); /* number 2, 48 of them */
	reporter_get_counters(hub->reporter, &c);
	assert_int_equal(c.resent, 1);
	assert_int_equal(c.resent_sightings, 48);
	assert_int_equal(send(hub), 0);
	reporter_acknowledged(hub->reporter, 2);
	assert_true(send(hub) > 0);
	assert_memory_equal(hub->message, "\x83\x0a\x03\x82", 4); /* number 3, two of them */
	reporter_acknowledged(hub->reporter, 3);
	assert_true(reporter_idle(hub->reporter));
	reporter_get_counters(hub->reporter, &c);
	assert_int_equal(c.adverts, 50);
	stop(hub);
	assert_false(is_there());
}

/* What does not fit into a smaller table counts as evicted; the batch goes before the rest. */
static void a_smaller_table(void **state)
{
	struct hub *hub = start(100);

	(void)state;
	for (unsigned i = 0; i < 40; i++)
		hear(hub->devices, ago(9000 - i), i, 0, -70, 0);
	stop(hub);
	hub = start(16);
	assert_int_equal(counters(hub->devices).known, 16);
	assert_int_equal(counters(hub->devices).evicted_adverts, 24);
	assert_int_equal(all_of(hub->devices)->numbers[0], 24); /* the most recent ones stay */
	reporter_up(hub->reporter, 0);
	assert_true(send(hub) > 0);
	reporter_acknowledged(hub->reporter, 1);
	stop(hub);

	hub = start(100);
	for (unsigned i = 0; i < 40; i++)
		hear(hub->devices, ago(9000), i, 0, -70, 0);
	reporter_up(hub->reporter, 0);
	assert_true(send(hub) > 0);
	hear(hub->devices, ago(100), 50, 0, -70, 0);
	stop(hub);
	hub = start(16);
	assert_int_equal(batch_of(hub->devices)->n, 16);
	assert_null(find(hub->devices, 50));
	assert_int_equal(counters(hub->devices).evicted_adverts, 25);
	reporter_up(hub->reporter, 0);
	assert_true(send(hub) > 0);
	reporter_acknowledged(hub->reporter, 1);
	stop(hub);
	assert_false(is_there());
}

/* None is taken, all are gone. */
static void files_that_are_no_good(void **state)
{
	static const char *const contents[] = {"", "\x81\x02", "\x89\x01\x48", "no CBOR at all"};

	(void)state;
	for (size_t i = 0; i <= ARRAY_SIZE(contents); i++) {
		struct hub *hub;

		if (i < ARRAY_SIZE(contents)) {
			FILE *f = fopen(path(), "w");

			assert_non_null(f);
			fputs(contents[i], f);
			fclose(f);
		} else {
			assert_int_equal(symlink("/etc/passwd", path()), 0);
		}
		hub = start(16);
		assert_int_equal(counters(hub->devices).known, 0);
		assert_int_equal(reporter_batch(hub->reporter), 1);
		stop(hub);
		assert_false(is_there());
		assert_int_equal(unlink(path()), -1);
	}
	/* What cannot even be removed is left alone. */
	assert_int_equal(mkdir(path(), 0700), 0);
	stop(start(16));
	assert_int_equal(rmdir(path()), 0);
}

/* The file is good, but would be there again at the next start. */
static void a_folder_that_cannot_be_changed(void **state)
{
	struct hub *hub = start(16);

	(void)state;
	hear(hub->devices, ago(1000), 1, 0, -70, 0);
	stop(hub);
	if (geteuid() == 0) {
		assert_int_equal(chown(path(), NOBODY, NOBODY), 0);
		assert_int_equal(chmod(directory, 0755), 0);
		assert_int_equal(seteuid(NOBODY), 0);
	} else {
		assert_int_equal(chmod(directory, 0500), 0);
	}
	hub = start(16);
	assert_int_equal(counters(hub->devices).known, 0);
	assert_true(is_there());
	/* Nor can anything be left there. */
	hear(hub->devices, ago(1000), 2, 0, -70, 0);
	stop(hub);
	if (geteuid() == NOBODY)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(directory, 0700), 0);
	/* It belongs to somebody else now, or is taken. */
	hub = start(16);
	assert_int_equal(counters(hub->devices).known, geteuid() == 0 ? 0 : 1);
	assert_false(is_there());
	devices_batch_begin(hub->devices, 100, false);
	devices_batch_done(hub->devices);
	stop(hub);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_leaves_nothing),
		cmocka_unit_test(carries_what_is_pending),
		cmocka_unit_test(carries_the_batch),
		cmocka_unit_test(a_smaller_table),
		cmocka_unit_test(files_that_are_no_good),
		cmocka_unit_test(a_folder_that_cannot_be_changed),
	};

	return cmocka_run_group_tests_name("carry", tests, make_directory, remove_directory);
}
