/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* NUL-terminated within its array, and well-formed as far as the last character goes. */
static void check_text(const char *text, size_t size)
{
	const char *end = memchr(text, 0, size);

	check(end != NULL);
	check(end == text || ((unsigned char)end[-1] & 0xc0) != 0xc0);
}

static void check_data(const struct message_data *decoded, const uint8_t *data, size_t size)
{
	static uint8_t buf[MESSAGE_MAX + 64];
	struct message again;
	const char *what;
	size_t len;

	check(decoded->payload >= data && decoded->payload <= data + size);
	check(decoded->len <= (size_t)(data + size - decoded->payload));
	/* Both sides send DATA: what was read can be written, and is read as the same. */
	len = message_encode_data(decoded, buf, sizeof(buf));
	check(len > 0 || decoded->len > MESSAGE_MAX);
	if (len == 0)
		return;
	check(len <= size);
	check(message_decode(buf, len, &again, &what) == 0 && again.type == MESSAGE_DATA);
	check(again.data.session == decoded->session && again.data.channel == decoded->channel);
	check(again.data.seq == decoded->seq && again.data.len == decoded->len);
	check(decoded->len == 0 || memcmp(again.data.payload, decoded->payload, decoded->len) == 0);
}

/* What is in the list was checked: each is found that is asked for, and what is not there is not. */
static void check_resume(const struct message_resume_list *list, const uint8_t *data, size_t size)
{
	static const uint32_t sessions[] = {0, 1, 2, 7, 24, 255, 65536, UINT32_MAX};
	struct message_resume_list all = *list;
	struct message_resume resume;

	check(list->data >= data && list->data <= data + size);
	check(list->len <= (size_t)(data + size - list->data));
	check(list->n <= list->len / 4); /* bytes of the shortest */
	for (size_t i = 0; i < sizeof(sessions) / sizeof(sessions[0]); i++) {
		resume.session = ~sessions[i];
		check(message_find_resume(list, sessions[i], &resume) ==
		      (resume.session == sessions[i]));
	}
	/* In a list of the first alone it is found, or another stands there. */
	all.n = all.n ? 1 : 0;
	for (size_t i = 0; i < sizeof(sessions) / sizeof(sessions[0]); i++)
		check(!message_find_resume(&all, sessions[i], &resume) ||
		      message_find_resume(list, sessions[i], &resume));
}

static void check_message(const struct message *m, const uint8_t *data, size_t size)
{
	switch (m->type) {
	case MESSAGE_CHALLENGE:
	case MESSAGE_SIGHTINGS_ACK:
	case MESSAGE_ACCEPT:
	case MESSAGE_CREDIT:
		break;
	case MESSAGE_WELCOME:
		check(m->welcome.credits <= MESSAGE_CREDITS_MAX);
		check_text(m->welcome.hotspot_name, sizeof(m->welcome.hotspot_name));
		check_resume(&m->welcome.resume, data, size);
		break;
	case MESSAGE_DATA:
		check_data(&m->data, data, size);
		break;
	case MESSAGE_CLOSE:
		check_text(m->close.reason, sizeof(m->close.reason));
		break;
	case MESSAGE_GOAWAY:
		check_text(m->goaway.reason, sizeof(m->goaway.reason));
		break;
	case MESSAGE_HELLO:
	case MESSAGE_SIGHTINGS:
	case MESSAGE_OPEN:
	case MESSAGE_STATS:
		abort(); /* the cloud does not send these */
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct message m, before;
	const char *what = NULL;
	int r;

	memset(&m, 0xaa, sizeof(m));
	memcpy(&before, &m, sizeof(m));
	r = message_decode(data, size, &m, &what);
	check(r == 0 || r == -EBADMSG || r == -ENOMSG);
	check(r != -EBADMSG || what != NULL);
	if (r == 0)
		check_message(&m, data, size);
	else
		check(memcmp(&m, &before, sizeof(m)) == 0);
	return 0;
}
