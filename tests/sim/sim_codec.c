/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_codec.h"

#include <string.h>

#include "uplink/wire.h"

static void copy_text(struct wire_in *in, char *ret, size_t size)
{
	size_t len;
	const char *text = wire_in_text(in, &len);

	if (in->failed || len >= size) {
		in->failed = true;
		return;
	}
	memcpy(ret, text, len);
	ret[len] = '\0';
}

static void read_info(struct wire_in *in, struct sim_hello *hello)
{
	for (size_t pairs = wire_in_map(in); pairs > 0 && !in->failed; pairs--) {
		size_t len;
		const char *key = wire_in_text(in, &len);

		if (key && len == 3 && memcmp(key, "run", 3) == 0)
			hello->run = wire_in_bytes_exact(in, MESSAGE_RUN_LEN);
		else
			wire_in_skip(in);
	}
	if (!hello->run)
		in->failed = true;
}

static void read_hello(struct wire_in *in, struct sim_message *m)
{
	struct sim_hello *hello = &m->hello;

	hello->version = wire_in_uint(in, UINT64_MAX);
	hello->hotspot_id = wire_in_bytes_exact(in, MESSAGE_ID_LEN);
	hello->public_key = wire_in_bytes_exact(in, MESSAGE_PUBLIC_KEY_LEN);
	hello->signature = wire_in_bytes_exact(in, MESSAGE_SIGNATURE_LEN);
	read_info(in, hello);
	hello->n_resume = wire_in_array(in);
	if (hello->n_resume > MESSAGE_RESUME_MAX)
		in->failed = true;
	for (size_t i = 0; i < hello->n_resume && !in->failed; i++) {
		if (wire_in_array(in) != 3)
			in->failed = true;
		hello->resume[i].session = (uint32_t)wire_in_uint(in, UINT32_MAX);
		hello->resume[i].next_seq = wire_in_uint(in, UINT64_MAX);
		hello->resume[i].credits = (uint32_t)wire_in_uint(in, UINT32_MAX);
	}
}

static void read_sighting(struct wire_in *in, struct sim_sighting *ret)
{
	uint64_t first_age, last_age;
	size_t len;

	if (wire_in_array(in) != 10)
		in->failed = true;
	ret->device_id = wire_in_bytes_exact(in, MESSAGE_ID_LEN);
	wire_in_bytes(in, &len);
	first_age = wire_in_uint(in, UINT64_MAX);
	last_age = wire_in_uint(in, UINT64_MAX);
	ret->count = wire_in_uint(in, UINT64_MAX);
	for (int i = 0; i < 3; i++)
		wire_in_skip(in); /* RSSI */
	ret->state = wire_in_uint(in, MESSAGE_LOST);
	wire_in_uint(in, UINT64_MAX);
	if (first_age < last_age || (ret->count == 0 && ret->state != MESSAGE_LOST))
		in->failed = true;
}

static void read_sightings(struct wire_in *in, struct sim_message *m)
{
	m->sightings.batch = wire_in_uint(in, UINT64_MAX);
	m->sightings.n = wire_in_array(in);
	if (m->sightings.n == 0 || m->sightings.n > MESSAGE_SIGHTINGS_MAX)
		in->failed = true;
	for (size_t i = 0; i < m->sightings.n && !in->failed; i++)
		read_sighting(in, &m->sightings.sightings[i]);
}

static void read_open(struct wire_in *in, struct sim_message *m)
{
	size_t len;

	m->open.session = (uint32_t)wire_in_uint(in, UINT32_MAX);
	m->open.device_id = wire_in_bytes_exact(in, MESSAGE_ID_LEN);
	wire_in_bytes(in, &len);
	wire_in_uint(in, 1); /* bearer */
	m->open.max_frame = wire_in_uint(in, 512);
	wire_in_skip(in); /* RSSI */
	m->open.channels = wire_in_uint(in, 2);
	if (m->open.max_frame < 20 || m->open.channels == 0)
		in->failed = true;
}

static void read_data(struct wire_in *in, struct sim_message *m)
{
	m->data.session = (uint32_t)wire_in_uint(in, UINT32_MAX);
	m->data.channel = (uint32_t)wire_in_uint(in, 1);
	m->data.seq = wire_in_uint(in, UINT64_MAX);
	m->data.payload = wire_in_bytes(in, &m->data.len);
	if (m->data.len > 512)
		in->failed = true;
}

static void read_credit(struct wire_in *in, struct sim_message *m)
{
	m->credit.session = (uint32_t)wire_in_uint(in, UINT32_MAX);
	m->credit.credits = (uint32_t)wire_in_uint(in, UINT32_MAX);
	m->credit.next_seq = wire_in_uint(in, UINT64_MAX);
}

static void read_close(struct wire_in *in, struct sim_message *m)
{
	m->close.session = (uint32_t)wire_in_uint(in, UINT32_MAX);
	m->close.code = (uint32_t)wire_in_uint(in, UINT32_MAX);
	copy_text(in, m->close.reason, sizeof(m->close.reason));
}

static void read_stats(struct wire_in *in, struct sim_message *m)
{
	(void)m;
	for (size_t pairs = wire_in_map(in); pairs > 0 && !in->failed; pairs--) {
		size_t len;

		wire_in_text(in, &len);
		wire_in_uint(in, UINT64_MAX);
	}
}

bool sim_decode(const uint8_t *data, size_t len, struct sim_message *ret)
{
	static void (*const readers[MESSAGE_GOAWAY + 1])(struct wire_in * in,
							 struct sim_message * m) = {
		[MESSAGE_HELLO] = read_hello,	[MESSAGE_SIGHTINGS] = read_sightings,
		[MESSAGE_OPEN] = read_open,	[MESSAGE_DATA] = read_data,
		[MESSAGE_CREDIT] = read_credit, [MESSAGE_CLOSE] = read_close,
		[MESSAGE_STATS] = read_stats,
	};
	struct wire_in in;

	*ret = (struct sim_message){0};
	wire_in_init(&in, data, len);
	wire_in_array(&in);
	ret->type = (enum message_type)wire_in_uint(&in, MESSAGE_GOAWAY);
	if (in.failed || !readers[ret->type])
		return false;
	readers[ret->type](&in, ret);
	return wire_in_complete(&in);
}

/* --- Encoding --- */

static void start(struct wire_out *out, uint8_t *buf, enum message_type type, size_t fields)
{
	wire_out_init(out, buf, MESSAGE_MAX);
	wire_out_array(out, fields + 1);
	wire_out_uint(out, type);
}

size_t sim_encode_challenge(const uint8_t nonce[MESSAGE_NONCE_LEN], uint64_t time_ms, uint8_t *buf)
{
	struct wire_out out;

	start(&out, buf, MESSAGE_CHALLENGE, 2);
	wire_out_bytes(&out, nonce, MESSAGE_NONCE_LEN);
	wire_out_uint(&out, time_ms);
	return out.len;
}

size_t sim_encode_welcome(const struct message_settings *settings,
			  const struct message_resume *resume, size_t n, uint8_t *buf)
{
	struct wire_out out;

	start(&out, buf, MESSAGE_WELCOME, 2);
	wire_out_map(&out, 4);
	wire_out_text(&out, "report_ms");
	wire_out_uint(&out, settings->report_ms);
	wire_out_text(&out, "resume_ms");
	wire_out_uint(&out, settings->resume_ms);
	wire_out_text(&out, "credits");
	wire_out_uint(&out, settings->credits);
	wire_out_text(&out, "hotspot_name");
	wire_out_text(&out, settings->hotspot_name);
	wire_out_array(&out, n);
	for (size_t i = 0; i < n; i++) {
		wire_out_array(&out, 3);
		wire_out_uint(&out, resume[i].session);
		wire_out_uint(&out, resume[i].next_seq);
		wire_out_uint(&out, resume[i].credits);
	}
	return out.len;
}

size_t sim_encode_number(enum message_type type, uint64_t number, uint8_t *buf)
{
	struct wire_out out;

	start(&out, buf, type, 1);
	wire_out_uint(&out, number);
	return out.len;
}

size_t sim_encode_goaway(uint64_t after_ms, const char *reason, uint8_t *buf)
{
	struct wire_out out;

	start(&out, buf, MESSAGE_GOAWAY, 2);
	wire_out_uint(&out, after_ms);
	wire_out_text(&out, reason);
	return out.len;
}
