/* SPDX-License-Identifier: Apache-2.0 */
/* Flow control between a model of a device and one of a cloud, over wires that break. */
#include "agent/flow.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "agent/util.h"
#include "tests/unit/common.h"

#define WIRE_MAX 256 /* messages under way in one direction */

/* A DATA message, or CREDIT. */
struct note {
	bool is_credit;
	uint32_t credits;
	uint64_t seq;
	unsigned channel;
	size_t len;
	uint8_t data[FLOW_FRAME_MAX];
};

struct wire {
	struct note notes[WIRE_MAX];
	unsigned first, n;
};

struct model {
	struct flow flow;
	struct wire up, down;
	uint32_t credits; /* initial */
	bool slow; /* the cloud, at this time */

	uint64_t in; /* frames of the device so far */
	uint64_t sent; /* of them, by flow_sent_up */
	uint64_t confirmed; /* of them, as the hotspot knows */
	size_t waiting; /* bytes of those not confirmed */

	/* The cloud's side. */
	uint64_t rx_next, rx_limit; /* has got these, granted those */
	uint64_t tx_next, tx_limit, tx_first; /* sends this, may send those, kept from there on */
	uint64_t taken; /* by the device */

	unsigned drops, full, again, restarts;
};

static struct note *add(struct wire *wire)
{
	struct note *note = &wire->notes[(wire->first + wire->n) % WIRE_MAX];

	assert_true(wire->n < WIRE_MAX);
	wire->n++;
	memset(note, 0, sizeof(*note));
	return note;
}

static const struct note *get(struct wire *wire)
{
	const struct note *note = &wire->notes[wire->first];

	if (wire->n == 0)
		return NULL;
	wire->first = (wire->first + 1) % WIRE_MAX;
	wire->n--;
	return note;
}

static void confirm(struct model *m, uint64_t next_seq)
{
	for (; m->confirmed < next_seq; m->confirmed++)
		m->waiting -= room_of(m->confirmed);
}

static void device_sends(struct model *m)
{
	size_t room = room_of(m->in);
	bool fits = m->waiting + room <= FLOW_UP_MAX;

	assert_int_equal(push_up(&m->flow, m->in), fits ? 0 : -ENOBUFS);
	m->full += !fits;
	m->in += fits;
	m->waiting += fits ? room : 0;
}

static void device_takes(struct model *m)
{
	const struct flow_frame *frame = flow_next_down(&m->flow);

	if (!frame)
		return;
	check_frame(m->taken++, frame->channel, frame->data, frame->len);
	flow_pop_down(&m->flow);
}

static void hotspot_sends(struct model *m)
{
	const struct flow_frame *frame;
	struct note *note;
	uint64_t seq;

	if (flow_grant_due(&m->flow)) {
		note = add(&m->up);
		note->is_credit = true;
		flow_grant(&m->flow, &note->credits, &note->seq);
		return;
	}
	frame = flow_next_up(&m->flow, &seq);
	if (!frame)
		return;
	note = add(&m->up);
	note->seq = seq;
	note->channel = frame->channel;
	note->len = frame->len;
	memcpy(note->data, frame->data, frame->len);
	assert_int_equal(flow_sent_up(&m->flow), seq >= m->sent);
	m->again += seq < m->sent;
	m->sent = MAX(m->sent, seq + 1);
}

static void hotspot_gets(struct model *m)
{
	const struct note *note = get(&m->down);

	if (!note)
		return;
	if (note->is_credit) {
		assert_int_equal(flow_credit(&m->flow, note->credits, note->seq), 0);
		confirm(m, note->seq);
	} else {
		assert_int_equal(
			flow_push_down(&m->flow, note->channel, note->seq, note->data, note->len),
			0);
	}
}

static void cloud_sends(struct model *m)
{
	struct note *note;

	if (m->tx_next == m->tx_limit)
		return;
	note = add(&m->down);
	note->seq = m->tx_next++;
	note->channel = channel_of(note->seq);
	note->len = make_frame(note->seq, note->data);
}

static void cloud_grants(struct model *m)
{
	struct note *note;

	if (m->down.n > WIRE_MAX / 2)
		return;
	note = add(&m->down);
	note->is_credit = true;
	if (m->rx_limit - m->rx_next <= 2 * FLOW_CREDITS_MAX)
		note->credits = m->slow ? random() % 8 == 0 : (uint32_t)random() % 9;
	note->seq = m->rx_next;
	m->rx_limit += note->credits;
}

static void cloud_gets(struct model *m)
{
	const struct note *note = get(&m->up);

	if (!note)
		return;
	if (note->is_credit) {
		assert_in_range(note->seq, m->tx_first, m->tx_next);
		m->tx_first = note->seq;
		m->tx_limit += note->credits;
		assert_true(m->tx_limit - m->tx_first <= m->credits);
		return;
	}
	assert_int_equal(note->seq, m->rx_next);
	assert_true(note->seq < m->rx_limit);
	check_frame(m->rx_next++, note->channel, note->data, note->len);
}

/* What is under way is lost from some point on. */
static void drop(struct model *m)
{
	for (unsigned n = m->up.n ? (unsigned)random() % (m->up.n + 1) : 0; n > 0; n--)
		cloud_gets(m);
	for (unsigned n = m->down.n ? (unsigned)random() % (m->down.n + 1) : 0; n > 0; n--)
		hotspot_gets(m);
	m->up.n = m->down.n = 0;
	m->drops++;
}

/* HELLO, whose WELCOME may get lost in turn. */
static void connect_again(struct model *m)
{
	uint64_t next_seq;
	uint32_t credits;

	for (;;) {
		for (unsigned n = (unsigned)random() % 20; n > 0; n--)
			device_sends(m);
		flow_want(&m->flow, &credits, &next_seq);
		assert_true(credits <= m->credits);
		if (random() % 4 == 0)
			continue; /* lost on the way there */
		assert_in_range(next_seq, m->tx_first, m->tx_next);
		m->tx_first = m->tx_next = next_seq;
		m->tx_limit = next_seq + credits;
		for (unsigned n = (unsigned)random() % 20; n > 0; n--)
			device_takes(m);
		credits = (uint32_t)random() % (FLOW_CREDITS_MAX + 1);
		m->rx_limit = m->rx_next + credits;
		if (random() % 4 == 0)
			continue; /* or on the way back */
		assert_int_equal(flow_resume(&m->flow, credits, m->rx_next), 0);
		confirm(m, m->rx_next);
		return;
	}
}

/* The connection drops before the cloud has even got OPEN. */
static void start_over(struct model *m)
{
	uint32_t credits = 1 + (uint32_t)random() % FLOW_CREDITS_MAX;

	m->up.n = 0;
	flow_restart(&m->flow, credits);
	m->credits = credits;
	m->rx_limit = m->tx_limit = credits;
	m->restarts++;
}

static void check(const struct model *m)
{
	size_t up, down;

	flow_get_waiting(&m->flow, &up, &down);
	assert_int_equal(up, m->waiting);
	assert_true(m->flow.up.size <= FLOW_UP_MAX);
	assert_true(m->flow.down.size <= FLOW_DOWN_MAX);
	assert_true(down <= m->credits * (size_t)(FLOW_FRAME_MAX + FRAME_HEAD));
	assert_int_equal(flow_all_sent(&m->flow), m->flow.up_seq == m->in);
}

static void step(struct model *m)
{
	switch (random() % 8) {
	case 0:
		device_sends(m);
		break;
	case 1:
		device_takes(m);
		break;
	case 2:
		for (unsigned n = m->slow ? 1 : 4; n > 0; n--)
			hotspot_sends(m);
		break;
	case 3:
		hotspot_gets(m);
		break;
	case 4:
		cloud_sends(m);
		break;
	case 5:
		cloud_grants(m);
		break;
	case 6:
		for (unsigned n = m->slow ? 1 : 4; n > 0; n--)
			cloud_gets(m);
		break;
	default:
		if (random() % 30 > 0)
			break;
		drop(m);
		connect_again(m);
	}
}

/* Everything that was sent arrives, once no connection drops. */
static void finish(struct model *m)
{
	m->slow = false;
	for (unsigned i = 0; i < 100000 && m->confirmed < m->in; i++) {
		hotspot_sends(m);
		cloud_gets(m);
		cloud_grants(m);
		hotspot_gets(m);
	}
	while (m->up.n > 0)
		cloud_gets(m);
	while (m->down.n > 0)
		hotspot_gets(m);
	for (unsigned i = 0; i < FLOW_CREDITS_MAX; i++)
		device_takes(m);
	assert_int_equal(m->confirmed, m->in);
	assert_int_equal(m->rx_next, m->in);
	assert_int_equal(m->taken, m->tx_next);
	assert_int_equal(m->waiting, 0);
	check(m);
}

/* Everything arrives once, in order and equal, whatever is lost on the way. */
static void random_connections(void **state)
{
	static struct model m;
	uint64_t up = 0, down = 0;
	unsigned drops = 0, full = 0, again = 0, restarts = 0;

	(void)state;
	srandom(1);
	for (unsigned round = 0; round < 20; round++) {
		memset(&m, 0, sizeof(m));
		m.credits = round == 0 ? 1 : 1 + (uint32_t)random() % FLOW_CREDITS_MAX;
		flow_init(&m.flow, m.credits);
		m.rx_limit = m.tx_limit = m.credits;
		while (round % 2 == 1 && m.restarts < 5) {
			for (unsigned n = (unsigned)random() % 50; n > 0; n--) {
				device_sends(&m);
				hotspot_sends(&m);
			}
			start_over(&m);
			check(&m);
		}
		for (unsigned i = 0; i < 30000; i++) {
			m.slow = i / 10000 % 2 == 0;
			step(&m);
			check(&m);
		}
		finish(&m);
		up += m.in;
		down += m.taken;
		drops += m.drops;
		full += m.full;
		again += m.again;
		restarts += m.restarts;
		flow_done(&m.flow);
	}
	print_message("%u frames up, %u down, %u again, over %u drops and %u restarts\n",
		      (unsigned)up, (unsigned)down, again, drops, restarts);
	assert_true(up > 10000 && down > 10000 && drops > 1000 && again > 1000 && full > 100);
	assert_int_equal(restarts, 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_connections),
	};

	return cmocka_run_group_tests_name("flow_model", tests, NULL, NULL);
}
