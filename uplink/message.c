/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/message.h"

#include <errno.h>
#include <string.h>

#include "uplink/wire.h"

/* Keeps what fits, cut at the start of a character. */
static void copy_text(struct wire_in *in, char *ret, size_t size)
{
	size_t len;
	const char *text = wire_in_text(in, &len);

	if (in->failed)
		return;
	if (len >= size) {
		len = size - 1;
		while (len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80)
			len--;
	}
	memcpy(ret, text, len);
	ret[len] = '\0';
}

static void read_challenge(struct wire_in *in, struct message *m)
{
	const uint8_t *nonce = wire_in_bytes_exact(in, MESSAGE_NONCE_LEN);

	if (nonce)
		memcpy(m->challenge.nonce, nonce, MESSAGE_NONCE_LEN);
	m->challenge.server_time_ms = wire_in_uint(in, UINT64_MAX);
}

static bool is(const char *key, size_t len, const char *name)
{
	return len == strlen(name) && memcmp(key, name, len) == 0;
}

/* None would stop every session, and more than the hotspot holds could be lost. */
static void read_credits(struct wire_in *in, struct message_settings *settings)
{
	settings->credits = (uint32_t)wire_in_uint(in, MESSAGE_CREDITS_MAX);
	if (settings->credits == 0)
		in->failed = true;
}

static void read_setting(struct wire_in *in, struct message_settings *settings)
{
	size_t len;
	const char *key = wire_in_text(in, &len);

	if (in->failed)
		return;
	if (is(key, len, "report_ms"))
		settings->report_ms = wire_in_uint(in, UINT64_MAX);
	else if (is(key, len, "resume_ms"))
		settings->resume_ms = wire_in_uint(in, UINT64_MAX);
	else if (is(key, len, "credits"))
		read_credits(in, settings);
	else if (is(key, len, "hotspot_name"))
		copy_text(in, settings->hotspot_name, sizeof(settings->hotspot_name));
	else
		wire_in_skip(in);
}

static void read_resume(struct wire_in *in, struct message_resume *ret)
{
	size_t fields = wire_in_array(in);

	ret->session = (uint32_t)wire_in_uint(in, UINT32_MAX);
	ret->next_seq = wire_in_uint(in, UINT64_MAX);
	ret->credits = (uint32_t)wire_in_uint(in, UINT32_MAX);
	if (fields < 3)
		in->failed = true;
	for (; fields > 3 && !in->failed; fields--)
		wire_in_skip(in);
}

/* Of any length: checked here, and searched where it lies. */
static void read_resume_list(struct wire_in *in, struct message_resume_list *ret)
{
	struct message_resume resume;
	size_t n = wire_in_array(in);

	ret->data = in->data + in->pos;
	ret->len = in->len - in->pos;
	ret->n = n;
	for (; n > 0 && !in->failed; n--)
		read_resume(in, &resume);
}

bool message_find_resume(const struct message_resume_list *list, uint32_t session,
			 struct message_resume *ret)
{
	struct message_resume resume;
	struct wire_in in;

	wire_in_init(&in, list->data, list->len);
	for (size_t n = list->n; n > 0; n--) {
		read_resume(&in, &resume);
		if (in.failed || resume.session != session)
			continue;
		*ret = resume;
		return true;
	}
	return false;
}

static void read_welcome(struct wire_in *in, struct message *m)
{
	size_t pairs = wire_in_map(in);

	for (; pairs > 0 && !in->failed; pairs--)
		read_setting(in, &m->welcome);
	read_resume_list(in, &m->welcome.resume);
}

static void read_ack(struct wire_in *in, struct message *m)
{
	m->ack_batch = wire_in_uint(in, UINT64_MAX);
}

static void read_accept(struct wire_in *in, struct message *m)
{
	m->accept_session = (uint32_t)wire_in_uint(in, UINT32_MAX);
}

static void read_data(struct wire_in *in, struct message *m)
{
	m->data.session = (uint32_t)wire_in_uint(in, UINT32_MAX);
	m->data.channel = (uint32_t)wire_in_uint(in, UINT32_MAX);
	m->data.seq = wire_in_uint(in, UINT64_MAX);
	m->data.payload = wire_in_bytes(in, &m->data.len);
}

static void read_credit(struct wire_in *in, struct message *m)
{
	m->credit.session = (uint32_t)wire_in_uint(in, UINT32_MAX);
	m->credit.credits = (uint32_t)wire_in_uint(in, UINT32_MAX);
	m->credit.next_seq = wire_in_uint(in, UINT64_MAX);
}

static void read_close(struct wire_in *in, struct message *m)
{
	m->close.session = (uint32_t)wire_in_uint(in, UINT32_MAX);
	m->close.code = (uint32_t)wire_in_uint(in, UINT32_MAX);
	copy_text(in, m->close.reason, sizeof(m->close.reason));
}

static void read_goaway(struct wire_in *in, struct message *m)
{
	m->goaway.after_ms = wire_in_uint(in, UINT64_MAX);
	copy_text(in, m->goaway.reason, sizeof(m->goaway.reason));
}

static const struct reader {
	enum message_type type;
	size_t fields; /* after the type */
	void (*read)(struct wire_in *in, struct message *m);
	const char *wrong;
} readers[] = {
	{MESSAGE_CHALLENGE, 2, read_challenge, "CHALLENGE with a missing or wrong field"},
	{MESSAGE_WELCOME, 2, read_welcome, "WELCOME with a missing or wrong field"},
	{MESSAGE_SIGHTINGS_ACK, 1, read_ack, "SIGHTINGS_ACK with a missing or wrong field"},
	{MESSAGE_ACCEPT, 1, read_accept, "ACCEPT with a missing or wrong field"},
	{MESSAGE_DATA, 4, read_data, "DATA with a missing or wrong field"},
	{MESSAGE_CREDIT, 3, read_credit, "CREDIT with a missing or wrong field"},
	{MESSAGE_CLOSE, 3, read_close, "CLOSE with a missing or wrong field"},
	{MESSAGE_GOAWAY, 2, read_goaway, "GOAWAY with a missing or wrong field"},
};

static const struct reader *find_reader(uint64_t type)
{
	for (size_t i = 0; i < sizeof(readers) / sizeof(readers[0]); i++) {
		if (readers[i].type == type)
			return &readers[i];
	}
	return NULL;
}

int message_decode(const uint8_t *data, size_t len, struct message *ret, const char **ret_what)
{
	const struct reader *reader;
	struct message m = {0};
	struct wire_in in;
	size_t fields;
	uint64_t type;

	wire_in_init(&in, data, len);
	fields = wire_in_array(&in);
	type = wire_in_uint(&in, UINT64_MAX);
	if (in.failed || fields == 0) {
		*ret_what = "no CBOR array that starts with a type";
		return -EBADMSG;
	}
	fields--;
	reader = find_reader(type);
	if (reader) {
		m.type = reader->type;
		reader->read(&in, &m);
		if (in.failed || fields < reader->fields) {
			*ret_what = reader->wrong;
			return -EBADMSG;
		}
		fields -= reader->fields;
	}
	for (; fields > 0 && !in.failed; fields--)
		wire_in_skip(&in);
	if (!wire_in_complete(&in)) {
		*ret_what = in.failed ? "broken CBOR" : "bytes after the message";
		return -EBADMSG;
	}
	if (!reader)
		return -ENOMSG;
	*ret = m;
	return 0;
}

static void start(struct wire_out *out, uint8_t *buf, size_t size, enum message_type type,
		  size_t fields)
{
	wire_out_init(out, buf, size);
	wire_out_array(out, fields + 1);
	wire_out_uint(out, type);
}

static size_t finish(const struct wire_out *out)
{
	return out->failed ? 0 : out->len;
}

enum message_type message_type(const uint8_t *data, size_t len)
{
	struct wire_in in;

	wire_in_init(&in, data, len);
	wire_in_array(&in);
	return (enum message_type)wire_in_uint(&in, UINT8_MAX);
}

static bool is_set(const char *text)
{
	return text && *text;
}

static void write_label(struct wire_out *out, const char *key, const char *text)
{
	if (!is_set(text))
		return;
	wire_out_text(out, key);
	wire_out_text(out, text);
}

static size_t count_location(const struct message_location *l)
{
	return (l->has_position ? 2u : 0u) + (l->accuracy_m > 0) + is_set(l->floor) +
	       is_set(l->zone) + is_set(l->name);
}

static void write_location(struct wire_out *out, const struct message_location *l)
{
	wire_out_text(out, "location");
	wire_out_map(out, count_location(l));
	if (l->has_position) {
		wire_out_text(out, "latitude_udeg");
		wire_out_int(out, l->latitude_udeg);
		wire_out_text(out, "longitude_udeg");
		wire_out_int(out, l->longitude_udeg);
	}
	if (l->accuracy_m > 0) {
		wire_out_text(out, "accuracy_m");
		wire_out_uint(out, l->accuracy_m);
	}
	write_label(out, "floor", l->floor);
	write_label(out, "zone", l->zone);
	write_label(out, "name", l->name);
}

size_t message_encode_hello(const struct message_hello *hello, uint8_t *buf, size_t size)
{
	bool located = hello->location && count_location(hello->location) > 0;
	struct wire_out out;

	start(&out, buf, size, MESSAGE_HELLO, 6);
	wire_out_uint(&out, MESSAGE_VERSION);
	wire_out_bytes(&out, hello->hotspot_id, MESSAGE_ID_LEN);
	wire_out_bytes(&out, hello->public_key, MESSAGE_PUBLIC_KEY_LEN);
	wire_out_bytes(&out, hello->signature, MESSAGE_SIGNATURE_LEN);
	wire_out_map(&out, located ? 3 : 2);
	wire_out_text(&out, "run");
	wire_out_bytes(&out, hello->run, MESSAGE_RUN_LEN);
	wire_out_text(&out, "agent");
	wire_out_text(&out, hello->agent);
	if (located)
		write_location(&out, hello->location);
	wire_out_array(&out, hello->n_resume);
	for (size_t i = 0; i < hello->n_resume; i++) {
		wire_out_array(&out, 3);
		wire_out_uint(&out, hello->resume[i].session);
		wire_out_uint(&out, hello->resume[i].next_seq);
		wire_out_uint(&out, hello->resume[i].credits);
	}
	return finish(&out);
}

size_t message_signed_bytes(const uint8_t nonce[MESSAGE_NONCE_LEN],
			    const uint8_t hotspot_id[MESSAGE_ID_LEN], const char *authority,
			    uint8_t *buf, size_t size)
{
	static const char label[] = MESSAGE_SUBPROTOCOL; /* its NUL is signed too */
	const struct {
		const void *data;
		size_t len;
	} parts[] = {
		{label, sizeof(label)},
		{nonce, MESSAGE_NONCE_LEN},
		{hotspot_id, MESSAGE_ID_LEN},
		{authority, strlen(authority)},
	};
	size_t len = 0;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (parts[i].len > size - len)
			return 0;
		memcpy(buf + len, parts[i].data, parts[i].len);
		len += parts[i].len;
	}
	return len;
}

static void write_sighting(struct wire_out *out, const struct message_sighting *s)
{
	wire_out_array(out, 10);
	wire_out_bytes(out, s->device_id, MESSAGE_ID_LEN);
	wire_out_bytes(out, s->service_data, s->service_data_len);
	wire_out_uint(out, s->first_age_ms);
	wire_out_uint(out, s->last_age_ms);
	wire_out_uint(out, s->count);
	wire_out_int(out, s->rssi_last);
	wire_out_int(out, s->rssi_min);
	wire_out_int(out, s->rssi_max);
	wire_out_uint(out, s->state);
	wire_out_uint(out, s->adapter);
}

size_t message_encode_sightings(uint64_t batch, const struct message_sighting *sightings, size_t n,
				uint8_t *buf, size_t size)
{
	struct wire_out out;

	start(&out, buf, size, MESSAGE_SIGHTINGS, 2);
	wire_out_uint(&out, batch);
	wire_out_array(&out, n);
	for (size_t i = 0; i < n; i++)
		write_sighting(&out, &sightings[i]);
	return finish(&out);
}

size_t message_encode_open(const struct message_open *open, uint8_t *buf, size_t size)
{
	struct wire_out out;

	start(&out, buf, size, MESSAGE_OPEN, 7);
	wire_out_uint(&out, open->session);
	wire_out_bytes(&out, open->device_id, MESSAGE_ID_LEN);
	wire_out_bytes(&out, open->service_data, open->service_data_len);
	wire_out_uint(&out, open->bearer);
	wire_out_uint(&out, open->max_frame);
	wire_out_int(&out, open->rssi);
	wire_out_uint(&out, open->channels);
	return finish(&out);
}

size_t message_encode_data(const struct message_data *data, uint8_t *buf, size_t size)
{
	struct wire_out out;

	start(&out, buf, size, MESSAGE_DATA, 4);
	wire_out_uint(&out, data->session);
	wire_out_uint(&out, data->channel);
	wire_out_uint(&out, data->seq);
	wire_out_bytes(&out, data->payload, data->len);
	return finish(&out);
}

size_t message_encode_credit(const struct message_credit *credit, uint8_t *buf, size_t size)
{
	struct wire_out out;

	start(&out, buf, size, MESSAGE_CREDIT, 3);
	wire_out_uint(&out, credit->session);
	wire_out_uint(&out, credit->credits);
	wire_out_uint(&out, credit->next_seq);
	return finish(&out);
}

size_t message_encode_close(const struct message_close *close, uint8_t *buf, size_t size)
{
	struct wire_out out;

	start(&out, buf, size, MESSAGE_CLOSE, 3);
	wire_out_uint(&out, close->session);
	wire_out_uint(&out, close->code);
	wire_out_text(&out, close->reason);
	return finish(&out);
}

size_t message_encode_stats(const struct message_counter *counters, size_t n, uint8_t *buf,
			    size_t size)
{
	struct wire_out out;

	start(&out, buf, size, MESSAGE_STATS, 1);
	wire_out_map(&out, n);
	for (size_t i = 0; i < n; i++) {
		wire_out_text(&out, counters[i].name);
		wire_out_uint(&out, counters[i].value);
	}
	return finish(&out);
}
