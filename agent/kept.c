/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kept.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/util.h"
#include "uplink/wire.h"

#define FIELDS		9
#define SIGHTING_FIELDS 9
#define SIGHTING_LEAST	30 /* bytes of the shortest */

static const uint8_t no_boot_id[16];

static void read_copy(struct wire_in *in, uint8_t *ret, size_t len)
{
	const uint8_t *data = wire_in_bytes_exact(in, len);

	if (data)
		memcpy(ret, data, len);
}

static void read_rssi(struct wire_in *in, struct device_rssi *ret)
{
	ret->last = (int8_t)wire_in_int(in, INT8_MIN, INT8_MAX);
	ret->min = (int8_t)wire_in_int(in, INT8_MIN, INT8_MAX);
	ret->max = (int8_t)wire_in_int(in, INT8_MIN, INT8_MAX);
	if (ret->min > ret->max)
		in->failed = true;
}

static void read_sighting(struct wire_in *in, struct device_span *ret)
{
	struct advert advert;

	if (wire_in_array(in) != SIGHTING_FIELDS)
		in->failed = true;
	read_copy(in, ret->data, sizeof(ret->data));
	ret->first_ms = wire_in_uint(in, UINT64_MAX);
	ret->last_ms = wire_in_uint(in, UINT64_MAX);
	ret->count = wire_in_uint(in, UINT64_MAX);
	read_rssi(in, &ret->rssi);
	ret->state = (enum device_state)wire_in_uint(in, DEVICE_STATE_LOST);
	ret->adapter = (unsigned)wire_in_uint(in, UINT32_MAX);
	if (ret->first_ms < ret->last_ms || (ret->count == 0 && ret->state != DEVICE_STATE_LOST) ||
	    advert_decode(ret->data, sizeof(ret->data), &advert) < 0)
		in->failed = true;
}

/* Appends a list of sightings to the spans. Returns 0 or -ENOMEM. */
static int read_sightings(struct wire_in *in, size_t max, struct kept *kept, size_t *ret_n)
{
	size_t n = wire_in_array(in), had = kept->n_out;
	struct device_span *spans;

	/* No memory for what cannot follow. */
	if (n > max || n > (in->len - in->pos) / SIGHTING_LEAST)
		in->failed = true;
	if (in->failed || n == 0)
		return 0;
	spans = realloc(kept->spans, (had + n) * sizeof(*spans));
	if (!spans)
		return -ENOMEM;
	memset(spans + had, 0, n * sizeof(*spans));
	kept->spans = spans;
	for (size_t i = 0; i < n && !in->failed; i++)
		read_sighting(in, &spans[had + i]);
	*ret_n = n;
	return 0;
}

/* Returns 0, whatever in has come to, or -ENOMEM. */
static int read_kept(struct wire_in *in, struct kept *kept)
{
	int r;

	read_copy(in, kept->run, sizeof(kept->run));
	kept->batch = wire_in_uint(in, UINT64_MAX);
	kept->next_session = (uint32_t)wire_in_uint(in, UINT32_MAX);
	read_copy(in, kept->clock.boot_id, sizeof(kept->clock.boot_id));
	kept->clock.boottime_ms = wire_in_uint(in, UINT64_MAX);
	kept->clock.wall_ms = wire_in_uint(in, UINT64_MAX);
	if (kept->batch == 0 || kept->next_session == 0)
		in->failed = true;
	r = read_sightings(in, MESSAGE_SIGHTINGS_MAX, kept, &kept->n_out);
	if (r == 0)
		r = read_sightings(in, KEPT_PENDING_MAX, kept, &kept->n_pending);
	return r;
}

int kept_decode(const uint8_t *data, size_t len, struct kept *ret)
{
	struct kept kept = {0};
	uint64_t version;
	struct wire_in in;
	size_t fields;
	int r;

	wire_in_init(&in, data, len);
	fields = wire_in_array(&in);
	version = wire_in_uint(&in, UINT64_MAX);
	if (in.failed)
		return -EBADMSG;
	if (version != KEPT_VERSION)
		return -EPROTONOSUPPORT;
	r = read_kept(&in, &kept);
	if (r == 0 && (fields != FIELDS || !wire_in_complete(&in)))
		r = -EBADMSG;
	if (r < 0) {
		kept_done(&kept);
		return r;
	}
	*ret = kept;
	return 0;
}

static void write_sightings(struct wire_out *out, const struct device_span *spans, size_t first,
			    size_t n)
{
	wire_out_array(out, n);
	for (size_t i = first; i < first + n; i++) {
		const struct device_span *s = &spans[i];

		wire_out_array(out, SIGHTING_FIELDS);
		wire_out_bytes(out, s->data, sizeof(s->data));
		wire_out_uint(out, s->first_ms);
		wire_out_uint(out, s->last_ms);
		wire_out_uint(out, s->count);
		wire_out_int(out, s->rssi.last);
		wire_out_int(out, s->rssi.min);
		wire_out_int(out, s->rssi.max);
		wire_out_uint(out, s->state);
		wire_out_uint(out, s->adapter);
	}
}

size_t kept_encode(const struct kept *kept, uint8_t *buf, size_t size)
{
	struct wire_out out;

	wire_out_init(&out, buf, size);
	wire_out_array(&out, FIELDS);
	wire_out_uint(&out, KEPT_VERSION);
	wire_out_bytes(&out, kept->run, sizeof(kept->run));
	wire_out_uint(&out, kept->batch);
	wire_out_uint(&out, kept->next_session);
	wire_out_bytes(&out, kept->clock.boot_id, sizeof(kept->clock.boot_id));
	wire_out_uint(&out, kept->clock.boottime_ms);
	wire_out_uint(&out, kept->clock.wall_ms);
	write_sightings(&out, kept->spans, 0, kept->n_out);
	write_sightings(&out, kept->spans, kept->n_out, kept->n_pending);
	return out.failed ? 0 : out.len;
}

void kept_done(struct kept *kept)
{
	free(kept->spans);
	*kept = (struct kept){0};
}

bool kept_same_boot(const struct kept_clock *then, const struct kept_clock *now)
{
	return memcmp(then->boot_id, now->boot_id, sizeof(then->boot_id)) == 0 &&
	       memcmp(now->boot_id, no_boot_id, sizeof(no_boot_id)) != 0;
}

uint64_t kept_elapsed_ms(const struct kept_clock *then, const struct kept_clock *now)
{
	if (kept_same_boot(then, now) && now->boottime_ms >= then->boottime_ms)
		return now->boottime_ms - then->boottime_ms;
	if (then->wall_ms >= UTIL_CLOCK_SET_S * UINT64_C(1000) && now->wall_ms >= then->wall_ms)
		return now->wall_ms - then->wall_ms;
	return now->boottime_ms;
}

uint64_t kept_time_ms(uint64_t age_ms, uint64_t elapsed_ms, uint64_t now_ms)
{
	if (elapsed_ms > now_ms || age_ms > now_ms - elapsed_ms)
		return 0;
	return now_ms - elapsed_ms - age_ms;
}
