/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/reports.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "uplink/wire.h"

static void on_want_write(void *userdata)
{
	struct reports *f = userdata;

	f->wanted++;
	if (f->quit_when_wanted)
		loop_quit(f->loop);
}

static void on_deadline(void *userdata)
{
	(void)userdata;
	fail_msg("nothing happened for %d ms", DEADLINE_MS);
}

struct reports *reports_with(const struct reporter_config *config)
{
	struct reports *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(loop_new(&f->loop), 0);
	assert_int_equal(devices_new(1000, 60000, &f->devices), 0);
	assert_int_equal(reporter_new(f->loop, f->devices, config, on_want_write, f, &f->reporter),
			 0);
	loop_timer_init(f->loop, &f->deadline, on_deadline, f);
	return f;
}

struct reports *reports_setup(uint64_t interval_ms)
{
	return reports_with(&(struct reporter_config){.interval_ms = interval_ms});
}

void reports_free(struct reports *f)
{
	loop_timer_stop(&f->deadline);
	reporter_free(f->reporter);
	devices_free(f->devices);
	loop_free(f->loop);
	free(f);
}

void reports_run(struct reports *f)
{
	f->quit_when_wanted = true;
	loop_timer_start(&f->deadline, DEADLINE_MS);
	assert_int_equal(loop_run(f->loop), 0);
	loop_timer_stop(&f->deadline);
}

void reports_hear(struct reports *f, unsigned number, uint8_t flags, int8_t rssi)
{
	struct advert advert = {.flags = flags, .data = {flags}};
	struct ble_advert heard = {.advert = &advert, .rssi_dbm = rssi, .adapter = 3};

	advert.device_id[0] = 0x77;
	advert.device_id[14] = (uint8_t)(number >> 8);
	advert.device_id[15] = (uint8_t)number;
	memcpy(advert.data + 2, advert.device_id, 16);
	assert_non_null(devices_heard(f->devices, util_now_ms(), &heard));
	reporter_changed(f->reporter);
}

static int read_int(struct wire_in *in)
{
	/* The tests' values fit into one byte, or one more. */
	uint8_t first = in->data[in->pos];

	if (first >> 5 == 0)
		return (int)wire_in_uint(in, 127);
	assert_int_equal(first >> 5, 1);
	wire_in_skip(in);
	return -1 - (first == 0x38 ? in->data[in->pos - 1] : first & 31);
}

static void take_apart(const uint8_t *data, size_t len, struct report *ret)
{
	struct wire_in in;

	wire_in_init(&in, data, len);
	assert_int_equal(wire_in_array(&in), 3);
	assert_int_equal(wire_in_uint(&in, 255), MESSAGE_SIGHTINGS);
	ret->batch = wire_in_uint(&in, UINT64_MAX);
	ret->n = wire_in_array(&in);
	assert_in_range(ret->n, 1, MESSAGE_SIGHTINGS_MAX);
	for (size_t i = 0; i < ret->n; i++) {
		const uint8_t *bytes;

		assert_int_equal(wire_in_array(&in), 10);
		bytes = wire_in_bytes_exact(&in, MESSAGE_ID_LEN);
		assert_non_null(bytes);
		ret->sightings[i].number = (unsigned)bytes[14] << 8 | bytes[15];
		bytes = wire_in_bytes_exact(&in, ADVERT_LEN);
		assert_non_null(bytes);
		memcpy(ret->sightings[i].data, bytes, ADVERT_LEN);
		ret->sightings[i].first_age_ms = wire_in_uint(&in, DEADLINE_MS);
		ret->sightings[i].last_age_ms = wire_in_uint(&in, DEADLINE_MS);
		ret->sightings[i].count = wire_in_uint(&in, UINT64_MAX);
		for (unsigned r = 0; r < 3; r++)
			ret->sightings[i].rssi[r] = read_int(&in);
		ret->sightings[i].state = wire_in_uint(&in, 2);
		ret->sightings[i].adapter = wire_in_uint(&in, 255);
		assert_true(ret->sightings[i].first_age_ms >= ret->sightings[i].last_age_ms);
	}
	assert_true(wire_in_complete(&in));
}

const struct report *reports_next(struct reports *f)
{
	static struct report sent;
	size_t len = reporter_next_message(f->reporter, f->message, sizeof(f->message));

	assert_true(len > 0);
	take_apart(f->message, len, &sent);
	assert_int_equal(reporter_next_message(f->reporter, f->message, sizeof(f->message)), 0);
	return &sent;
}

void reports_none(struct reports *f)
{
	assert_int_equal(reporter_next_message(f->reporter, f->message, sizeof(f->message)), 0);
}

struct reporter_counters reports_counters(struct reports *f)
{
	struct reporter_counters ret;

	reporter_get_counters(f->reporter, &ret);
	return ret;
}

void reports_quit(void *userdata)
{
	struct reports *f = userdata;

	loop_quit(f->loop);
}
