/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kept.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

#define SANE_MS UINT64_C(1767225600000) /* 2026-01-01 */

static struct device_span make_span(unsigned number, uint64_t count, enum device_state state)
{
	struct device_span span = {
		.count = count,
		.first_ms = 1000 + number,
		.last_ms = number,
		.rssi = {-70, -128, 20},
		.state = state,
		.adapter = number % 2 ? UINT32_MAX : 0,
	};

	memset(span.data, 0x77, sizeof(span.data));
	span.data[0] = ADVERT_FLAG_ASKS;
	span.data[19] = (uint8_t)number;
	return span;
}

/* Two in the batch, of which one is pending too, and two more. */
static void make_kept(struct kept *ret)
{
	*ret = (struct kept){
		.run = {1, 2, 3, 4, 5, 6, 7, 8},
		.batch = UINT64_MAX,
		.next_session = UINT32_MAX,
		.clock = {.boot_id = {9}, .boottime_ms = 1000, .wall_ms = SANE_MS},
		.n_out = 2,
		.n_pending = 3,
	};
	ret->spans = calloc(5, sizeof(*ret->spans));
	assert_non_null(ret->spans);
	ret->spans[0] = make_span(0, 1, DEVICE_STATE_APPEARED);
	ret->spans[1] = make_span(1, UINT64_MAX, DEVICE_STATE_PRESENT);
	ret->spans[2] = make_span(1, 24, DEVICE_STATE_PRESENT);
	ret->spans[3] = make_span(2, 0, DEVICE_STATE_LOST);
	ret->spans[4] = make_span(3, 300, DEVICE_STATE_LOST);
	ret->spans[4].rssi = (struct device_rssi){127, 127, 127};
	ret->spans[4].first_ms = ret->spans[4].last_ms = UINT64_MAX;
}

static void expect_same(const struct kept *a, const struct kept *b)
{
	assert_memory_equal(a->run, b->run, sizeof(a->run));
	assert_true(a->batch == b->batch && a->next_session == b->next_session);
	assert_memory_equal(&a->clock, &b->clock, sizeof(a->clock));
	assert_int_equal(a->n_out, b->n_out);
	assert_int_equal(a->n_pending, b->n_pending);
	for (size_t i = 0; i < a->n_out + a->n_pending; i++) {
		const struct device_span *x = &a->spans[i], *y = &b->spans[i];

		assert_true(x->count == y->count && x->first_ms == y->first_ms &&
			    x->last_ms == y->last_ms);
		assert_memory_equal(&x->rssi, &y->rssi, sizeof(x->rssi));
		assert_int_equal(x->state, y->state);
		assert_true(x->adapter == y->adapter);
		assert_memory_equal(x->data, y->data, sizeof(x->data));
	}
}

static void goes_round(void **state)
{
	struct kept kept, again;
	uint8_t buf[KEPT_BYTES(5)];
	size_t len;

	(void)state;
	make_kept(&kept);
	len = kept_encode(&kept, buf, sizeof(buf));
	assert_true(len > 0);
	for (size_t size = 0; size < len; size++)
		assert_int_equal(kept_encode(&kept, buf, size), 0);
	assert_int_equal(kept_encode(&kept, buf, len), len);
	assert_int_equal(kept_decode(buf, len, &again), 0);
	expect_same(&kept, &again);
	kept_done(&again);
	assert_null(again.spans);

	/* Only pending ones, and only those of the batch. */
	kept.n_out = 0;
	len = kept_encode(&kept, buf, sizeof(buf));
	assert_int_equal(kept_decode(buf, len, &again), 0);
	expect_same(&kept, &again);
	kept_done(&again);
	kept.n_out = 3;
	kept.n_pending = 0;
	len = kept_encode(&kept, buf, sizeof(buf));
	assert_int_equal(kept_decode(buf, len, &again), 0);
	expect_same(&kept, &again);
	kept_done(&again);
	kept_done(&kept);
}

/* The largest numbers in as many sightings as there can be. */
static void has_room_for_all(void **state)
{
	size_t n = KEPT_PENDING_MAX + MESSAGE_SIGHTINGS_MAX, len;
	_cleanup_free_ uint8_t *buf = malloc(KEPT_BYTES(n));
	struct kept kept = {
		.batch = UINT64_MAX,
		.next_session = UINT32_MAX,
		.clock = {.boottime_ms = UINT64_MAX, .wall_ms = UINT64_MAX},
		.n_out = MESSAGE_SIGHTINGS_MAX,
		.n_pending = KEPT_PENDING_MAX,
	};
	struct kept again;

	(void)state;
	assert_non_null(buf);
	kept.spans = calloc(n, sizeof(*kept.spans));
	assert_non_null(kept.spans);
	for (size_t i = 0; i < n; i++) {
		kept.spans[i] = make_span(1, UINT64_MAX, DEVICE_STATE_LOST);
		kept.spans[i].first_ms = kept.spans[i].last_ms = UINT64_MAX;
		kept.spans[i].rssi = (struct device_rssi){-128, -128, -128};
	}
	len = kept_encode(&kept, buf, KEPT_BYTES(n));
	assert_true(len > 0);
	assert_int_equal(kept_decode(buf, len, &again), 0);
	expect_same(&kept, &again);
	kept_done(&again);
	/* One more is one too many. */
	kept.n_out--;
	kept.n_pending++;
	len = kept_encode(&kept, buf, KEPT_BYTES(n));
	assert_int_equal(kept_decode(buf, len, &again), -EBADMSG);
	kept.n_out += 2;
	kept.n_pending -= 2;
	len = kept_encode(&kept, buf, KEPT_BYTES(n));
	assert_int_equal(kept_decode(buf, len, &again), -EBADMSG);
	kept_done(&kept);
}

/* Cut off anywhere, with something behind it, or with any one byte changed. */
static void refuses_what_is_damaged(void **state)
{
	struct kept kept, again;
	uint8_t buf[KEPT_BYTES(5) + 1];
	size_t len;

	(void)state;
	make_kept(&kept);
	len = kept_encode(&kept, buf, sizeof(buf));
	for (size_t n = 0; n < len; n++) {
		/* Where it ends ASan sees it. */
		uint8_t *cut = malloc(n ? n : 1);

		assert_non_null(cut);
		memcpy(cut, buf, n);
		memset(&again, 0xaa, sizeof(again));
		assert_int_equal(kept_decode(cut, n, &again), -EBADMSG);
		assert_int_equal(*(uint8_t *)&again, 0xaa);
		free(cut);
	}
	buf[len] = 0;
	assert_int_equal(kept_decode(buf, len + 1, &again), -EBADMSG);
	for (size_t i = 0; i < len; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			int r;

			buf[i] ^= (uint8_t)(1u << bit);
			r = kept_decode(buf, len, &again);
			assert_true(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT);
			if (r == 0)
				kept_done(&again);
			buf[i] ^= (uint8_t)(1u << bit);
		}
	}
	kept_done(&kept);
}

/* Each changed so that it is a thing that is never written. */
static void refuses_what_cannot_be(void **state)
{
	struct kept kept, again;
	uint8_t buf[KEPT_BYTES(5)];

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		struct device_span *span;

		make_kept(&kept);
		span = &kept.spans[2];
		if (i == 0)
			kept.batch = 0;
		else if (i == 1)
			kept.next_session = 0;
		else if (i == 2)
			span->count = 0;
		else if (i == 3)
			span->first_ms = span->last_ms - 1;
		else if (i == 4)
			span->rssi.min = 21;
		else if (i == 5)
			span->state = DEVICE_STATE_LOST + 1;
		else if (i == 6)
			memset(span->data, 0, sizeof(span->data));
		assert_int_equal(kept_decode(buf, kept_encode(&kept, buf, sizeof(buf)), &again),
				 i < 7 ? -EBADMSG : 0);
		if (i == 7)
			kept_done(&again);
		kept_done(&kept);
	}
}

static void refuses_another_version(void **state)
{
	static const struct {
		const char *hex;
		int r;
	} vectors[] = {
		{"8102", -EPROTONOSUPPORT},
		{"8300f6f6", -EPROTONOSUPPORT},
		{"821bffffffffffffffff", -EPROTONOSUPPORT},
		{"8101", -EBADMSG},
		{"80", -EBADMSG},
		{"01", -EBADMSG},
		{"8120", -EBADMSG},
		{"", -EBADMSG},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++) {
		struct kept kept;
		size_t len;
		_cleanup_free_ uint8_t *data = unhex(vectors[i].hex, &len);

		assert_int_equal(kept_decode(data, len, &kept), vectors[i].r);
	}
}

static void tells_how_long_ago(void **state)
{
	static const struct {
		struct kept_clock then, now;
		uint64_t elapsed_ms;
	} vectors[] = {
		/* The same boot, whatever the wall clock says. */
		{{{1}, 5000, SANE_MS}, {{1}, 8000, SANE_MS + 60000}, 3000},
		{{{1}, 5000, SANE_MS}, {{1}, 5000, 0}, 0},
		{{{1}, 5000, 0}, {{1}, 8000, SANE_MS}, 3000},
		/* Another boot: by the wall clock. */
		{{{1}, 5000, SANE_MS}, {{2}, 8000, SANE_MS + 60000}, 60000},
		{{{1}, 5000, SANE_MS}, {{2}, 2000, SANE_MS + 1000}, 1000},
		/* Not known which boot it is, or one that went back. */
		{{{0}, 5000, SANE_MS}, {{0}, 8000, SANE_MS + 60000}, 60000},
		{{{1}, 5000, SANE_MS}, {{1}, 4000, SANE_MS + 60000}, 60000},
		/* The wall clock was never set, or went back: as long as it is up. */
		{{{1}, 5000, 1000}, {{2}, 8000, SANE_MS}, 8000},
		{{{1}, 5000, SANE_MS}, {{2}, 8000, 2000}, 8000},
		{{{1}, 5000, SANE_MS}, {{2}, 8000, SANE_MS - 1}, 8000},
		{{{1}, 5000, 1000}, {{2}, 8000, 2000}, 8000},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(vectors); i++)
		assert_int_equal(kept_elapsed_ms(&vectors[i].then, &vectors[i].now),
				 vectors[i].elapsed_ms);
}

static void ages_become_times(void **state)
{
	(void)state;
	assert_int_equal(kept_time_ms(0, 0, 5000), 5000);
	assert_int_equal(kept_time_ms(1000, 3000, 5000), 1000);
	assert_int_equal(kept_time_ms(2000, 3000, 5000), 0);
	assert_int_equal(kept_time_ms(2001, 3000, 5000), 0);
	assert_int_equal(kept_time_ms(UINT64_MAX, 3000, 5000), 0);
	assert_int_equal(kept_time_ms(0, UINT64_MAX, 5000), 0);
	assert_int_equal(kept_time_ms(UINT64_MAX, UINT64_MAX, 5000), 0);
	/* A year ago is no problem, however short the hub is up. */
	assert_true(kept_time_ms(UINT64_C(365) * 86400000, 1000, util_now_ms()) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(goes_round),
		cmocka_unit_test(has_room_for_all),
		cmocka_unit_test(refuses_what_is_damaged),
		cmocka_unit_test(refuses_what_cannot_be),
		cmocka_unit_test(refuses_another_version),
		cmocka_unit_test(tells_how_long_ago),
		cmocka_unit_test(ages_become_times),
	};

	return cmocka_run_group_tests_name("kept", tests, NULL, NULL);
}
