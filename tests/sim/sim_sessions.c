/* SPDX-License-Identifier: Apache-2.0 */
/* The cloud's half of the sessions: PROTOCOL.md, "Sessions". */
#include <stdlib.h>
#include <string.h>

#include "agent/util.h"
#include "tests/sim/sim_cloud.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_random.h"

#define ACCEPT_MAX_MS 3000

/* A frame on its way back. */
struct echo {
	uint8_t channel;
	uint16_t len;
	uint8_t data[512];
};

struct session {
	struct list in_cloud;
	struct sim_cloud *cloud; /* not owned */
	uint32_t id;
	bool accepted;
	uint64_t channels;
	uint64_t expires_ms; /* while it waits for the hotspot, else 0 */
	uint64_t in_seq, in_limit; /* of the next frame; frames it may send in all */
	uint32_t taken; /* and not granted again */
	uint64_t out_first; /* seq of echoes[0] */
	uint64_t out_seq, out_top, out_limit;
	struct echo *echoes; /* owned: those the hotspot may not have */
	size_t n, size;
	bool last; /* it ends with the echoes there are */
	bool met; /* in the HELLO that is being answered */
	struct loop_timer accept_timer;
};

static struct session *entry(struct list *l)
{
	return LIST_ENTRY(l, struct session, in_cloud);
}

static struct session *find(struct sim_cloud *cloud, uint32_t id)
{
	LIST_FOREACH (l, &cloud->sessions) {
		if (entry(l)->id == id)
			return entry(l);
	}
	return NULL;
}

static void forget(struct session *session)
{
	loop_timer_stop(&session->accept_timer);
	list_remove(&session->in_cloud);
	session->cloud->n_sessions--;
	free(session->echoes);
	free(session);
}

static void close_session(struct session *session, enum message_close_code code, const char *reason)
{
	struct message_close close = {.session = session->id, .code = code};
	uint8_t buf[256];

	strcpy(close.reason, reason);
	session->cloud->counters.by_cloud[code]++;
	sim_cloud_send(session->cloud, MESSAGE_CLOSE, buf,
		       message_encode_close(&close, buf, sizeof(buf)));
	forget(session);
}

static void violate(struct session *session, const char *what)
{
	sim_cloud_violation(session->cloud, what, session->id);
	close_session(session, MESSAGE_CLOSE_PROTOCOL, what);
}

/* Sends what credits allow. The session may be gone after it. */
static void pump(struct session *session)
{
	uint8_t buf[1024];

	if (!session->accepted || !session->cloud->conn)
		return;
	while (session->out_seq < session->out_limit &&
	       session->out_seq < session->out_first + session->n) {
		const struct echo *echo = &session->echoes[session->out_seq - session->out_first];
		const struct message_data data = {
			.session = session->id,
			.channel = echo->channel,
			.seq = session->out_seq++,
			.payload = echo->data,
			.len = echo->len,
		};

		session->out_top = MAX(session->out_top, session->out_seq);
		sim_cloud_send(session->cloud, MESSAGE_DATA, buf,
			       message_encode_data(&data, buf, sizeof(buf)));
	}
	if (session->last && session->out_seq == session->out_first + session->n)
		close_session(session, MESSAGE_CLOSE_DONE, "all came back");
}

static void grant(struct session *session)
{
	const struct message_credit credit = {session->id, session->taken, session->in_seq};
	uint8_t buf[64];

	if (!session->accepted || session->taken == 0 ||
	    session->taken < session->cloud->config.credits / 2)
		return;
	session->in_limit += session->taken;
	session->taken = 0;
	sim_cloud_send(session->cloud, MESSAGE_CREDIT, buf,
		       message_encode_credit(&credit, buf, sizeof(buf)));
}

static void accept_session(void *userdata)
{
	struct session *session = userdata;
	uint8_t buf[MESSAGE_MAX];

	/* Resumed, it counts as accepted. */
	if (session->accepted || !session->cloud->conn)
		return;
	session->accepted = true;
	session->cloud->counters.accepted++;
	sim_cloud_send(session->cloud, MESSAGE_ACCEPT, buf,
		       sim_encode_number(MESSAGE_ACCEPT, session->id, buf));
	grant(session);
	pump(session);
}

static void on_open(struct sim_cloud *cloud, const struct sim_open *open)
{
	struct session *session = find(cloud, open->session);

	if (session) {
		violate(session, "OPEN of a session there is");
		return;
	}
	session = calloc(1, sizeof(*session));
	if (!session)
		abort();
	session->cloud = cloud;
	session->id = open->session;
	session->channels = open->channels;
	session->in_limit = session->out_limit = cloud->config.credits;
	loop_timer_init(cloud->loop, &session->accept_timer, accept_session, session);
	list_append(&cloud->sessions, &session->in_cloud);
	cloud->n_sessions++;
	cloud->counters.opened++;
	if (sim_chance(cloud->config.refuses))
		close_session(session,
			      sim_chance(500) ? MESSAGE_CLOSE_REFUSED : MESSAGE_CLOSE_NOT_SERVED,
			      "not this one");
	else if (sim_chance(300))
		loop_timer_start(&session->accept_timer, sim_between(0, ACCEPT_MAX_MS));
	else
		accept_session(session);
}

static void keep(struct session *session, const struct message_data *data)
{
	struct echo *echo;

	if (session->n == session->size) {
		session->size = session->size ? session->size * 2 : 8;
		session->echoes = realloc(session->echoes, session->size * sizeof(*echo));
		if (!session->echoes)
			abort();
	}
	echo = &session->echoes[session->n++];
	echo->channel = (uint8_t)data->channel;
	echo->len = (uint16_t)data->len;
	memcpy(echo->data, data->payload, data->len);
	session->cloud->counters.echoed++;
}

static void on_data(struct session *session, const struct message_data *data)
{
	if (data->seq != session->in_seq || data->seq >= session->in_limit ||
	    data->channel >= session->channels || data->len == 0) {
		violate(session, "DATA out of order, without credit or on no channel");
		return;
	}
	session->in_seq++;
	session->taken++;
	keep(session, data);
	if (data->len > 4 && data->payload[4] == SIM_FRAME_LAST)
		session->last = true;
	if (sim_chance(session->cloud->config.breaks_off)) {
		close_session(session, MESSAGE_CLOSE_REFUSED, "enough of it");
		return;
	}
	grant(session);
	pump(session);
}

/* All below next_seq have arrived. */
static void arrived(struct session *session, uint64_t next_seq)
{
	size_t gone = (size_t)(next_seq - session->out_first);

	session->n -= gone;
	if (gone > 0)
		memmove(session->echoes, session->echoes + gone,
			session->n * sizeof(*session->echoes));
	session->out_first = next_seq;
}

static void on_credit(struct session *session, const struct message_credit *credit)
{
	if (credit->next_seq < session->out_first || credit->next_seq > session->out_seq) {
		violate(session, "CREDIT for frames never sent");
		return;
	}
	arrived(session, credit->next_seq);
	session->out_limit += credit->credits;
	pump(session);
}

static void on_close(struct session *session, const struct message_close *close)
{
	static const bool allowed[SIM_CODES] = {
		[MESSAGE_CLOSE_DISCONNECTED] = true, [MESSAGE_CLOSE_IDLE] = true,
		[MESSAGE_CLOSE_RADIO] = true,	     [MESSAGE_CLOSE_RESUME] = true,
		[MESSAGE_CLOSE_STOPPING] = true,     [MESSAGE_CLOSE_PROTOCOL] = true,
	};
	struct sim_cloud *cloud = session->cloud;

	if (close->code >= SIM_CODES || !allowed[close->code])
		sim_cloud_violation(cloud, "CLOSE with a code that is not the hotspot's",
				    close->code);
	else
		cloud->counters.by_hotspot[close->code]++;
	if (close->code == MESSAGE_CLOSE_PROTOCOL)
		sim_cloud_violation(cloud, "the hotspot complains of the cloud", session->id);
	if (!*close->reason)
		sim_cloud_violation(cloud, "CLOSE without a reason", session->id);
	forget(session);
}

/* Returns whether the number was not used before. */
static bool use(struct sim_cloud *cloud, uint32_t id)
{
	size_t n = id / 8 + 1;
	bool fresh;

	if (n > cloud->n_used) {
		cloud->used = realloc(cloud->used, 2 * n);
		if (!cloud->used)
			abort();
		memset(cloud->used + cloud->n_used, 0, 2 * n - cloud->n_used);
		cloud->n_used = 2 * n;
	}
	fresh = !(cloud->used[id / 8] & 1u << id % 8);
	cloud->used[id / 8] |= (uint8_t)(1u << id % 8);
	return fresh;
}

void sim_sessions_start_over(struct sim_cloud *cloud)
{
	sim_cloud_forget(cloud);
	free(TAKE_PTR(cloud->used));
	cloud->n_used = 0;
}

void sim_sessions_message(struct sim_cloud *cloud, const struct sim_message *m)
{
	uint32_t id = m->type == MESSAGE_OPEN	  ? m->open.session
		      : m->type == MESSAGE_DATA	  ? m->data.session
		      : m->type == MESSAGE_CREDIT ? m->credit.session
						  : m->close.session;
	struct session *session;

	if (m->type == MESSAGE_OPEN) {
		if (!use(cloud, m->open.session))
			sim_cloud_violation(cloud, "OPEN with a number used before", id);
		on_open(cloud, &m->open);
		return;
	}
	session = find(cloud, id);
	if (!session)
		return;
	if (m->type == MESSAGE_DATA)
		on_data(session, &m->data);
	else if (m->type == MESSAGE_CREDIT)
		on_credit(session, &m->credit);
	else
		on_close(session, &m->close);
}

/* --- Without the hotspot --- */

void sim_sessions_suspend(struct sim_cloud *cloud)
{
	LIST_FOREACH (l, &cloud->sessions) {
		entry(l)->expires_ms = sim_now_ms() + cloud->config.resume_ms;
	}
}

void sim_sessions_expire(struct sim_cloud *cloud)
{
	LIST_FOREACH_SAFE (l, &cloud->sessions) {
		if (entry(l)->expires_ms == 0 || entry(l)->expires_ms > sim_now_ms())
			continue;
		cloud->counters.expired++;
		forget(entry(l));
	}
}

void sim_cloud_forget(struct sim_cloud *cloud)
{
	LIST_FOREACH_SAFE (l, &cloud->sessions) {
		cloud->counters.forgotten++;
		forget(entry(l));
	}
}

/* Goes back to where the hotspot is. Returns whether it can be there. */
static bool go_back(struct session *session, const struct message_resume *resume)
{
	if (resume->next_seq < session->out_first || resume->next_seq > session->out_top)
		return false;
	arrived(session, resume->next_seq);
	session->out_seq = resume->next_seq;
	session->out_limit = resume->next_seq + resume->credits;
	session->in_limit += session->taken;
	session->taken = 0;
	return true;
}

size_t sim_sessions_meet(struct sim_cloud *cloud, const struct sim_hello *hello,
			 struct message_resume ret[MESSAGE_RESUME_MAX])
{
	size_t n = 0;

	sim_sessions_expire(cloud);
	LIST_FOREACH (l, &cloud->sessions) {
		entry(l)->met = false;
	}
	for (size_t i = 0; i < hello->n_resume; i++) {
		struct session *session = find(cloud, hello->resume[i].session);

		if (!session || session->met)
			continue;
		if (!go_back(session, &hello->resume[i])) {
			sim_cloud_violation(cloud, "HELLO wants frames it cannot want",
					    session->id);
			continue;
		}
		session->met = true;
		session->accepted = true;
		session->expires_ms = 0;
		cloud->counters.resumed++;
		ret[n++] = (struct message_resume){
			.session = session->id,
			.next_seq = session->in_seq,
			.credits = (uint32_t)(session->in_limit - session->in_seq),
		};
	}
	LIST_FOREACH_SAFE (l, &cloud->sessions) {
		if (entry(l)->met)
			continue;
		cloud->counters.not_listed++;
		forget(entry(l));
	}
	return n;
}

void sim_sessions_go_on(struct sim_cloud *cloud)
{
	LIST_FOREACH_SAFE (l, &cloud->sessions) {
		pump(entry(l));
	}
}
