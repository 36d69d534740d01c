/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cloud's side of the relay's bench, which measures: in C, so that it is not the slowest part.
 *
 *    cloud agent|tls|tcp SESSIONS CREDITS CERTIFICATE KEY
 *
 * Says "ready" and its port. An agent makes one connection with SESSIONS sessions; socat, or an
 * echo, one for each session, in which nothing but frames is spoken. "open" follows when all are
 * there. Then each line on its standard input is answered with one when it is done:
 *
 *    latency N   N echoes in the first session, one in flight: p50 and p99 in ns
 *    down N      N frames to each device, until all say that they have them: the ns it took
 *    up N        N frames from each device
 *
 * Frames go out one by one, as a cloud has them: each in a TLS record of its own, for socat too. It
 * fails where a byte is lost or wrong.
 */
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "wire.h"

/* Frames a device may be asked for at once. Notifications cannot be held back: an agent whose queue
 * is full, at 256 KB, ends the session. */
#define ASKED_MAX 512

struct session {
	struct connection *connection; /* not owned */
	uint64_t id;
	uint64_t out_seq, in_seq; /* of the next frame */
	uint64_t out_limit; /* frames it may send in all */
	unsigned ungranted;
	uint32_t sent, received; /* of the command that runs; sent: or asked for */
};

struct cloud {
	bool agent;
	unsigned n_sessions, credits;
	struct connection connections[SESSIONS_MAX];
	struct session sessions[SESSIONS_MAX];
	unsigned turn; /* the connection to look at first */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* --- Frames --- */

static bool may_send(const struct cloud *cloud, const struct session *session)
{
	return !cloud->agent || session->out_seq < session->out_limit;
}

static void send_frame(struct cloud *cloud, struct session *session, const struct frame *frame)
{
	if (cloud->agent)
		wire_send_data(session->connection, session->id, session->out_seq++, frame);
	else
		wire_write(session->connection, frame, FRAME);
}

static struct session *find(struct cloud *cloud, uint64_t id)
{
	for (unsigned i = 0; i < cloud->n_sessions; i++) {
		if (cloud->sessions[i].id == id)
			return &cloud->sessions[i];
	}
	wire_fail("a message of an unknown session");
}

static void grant(struct cloud *cloud, struct session *session)
{
	if (++session->ungranted < cloud->credits / 2)
		return;
	wire_send(session->connection, WIRE_CREDIT, session->id, session->ungranted,
		  session->in_seq);
	session->ungranted = 0;
}

/* Returns false where it was something else than a frame: credits. */
static bool receive_message(struct cloud *cloud, struct session **ret_session,
			    struct frame *ret_frame)
{
	struct wire_message message = wire_receive(&cloud->connections[0]);

	if (message.type != WIRE_DATA && message.type != WIRE_CREDIT)
		return false;
	*ret_session = find(cloud, message.fields[0]);
	if (message.type == WIRE_CREDIT) {
		(*ret_session)->out_limit += message.fields[1];
		return false;
	}
	if (message.fields[2] != (*ret_session)->in_seq || !message.payload)
		wire_fail("DATA out of order");
	(*ret_session)->in_seq++;
	memcpy(ret_frame, message.payload, FRAME);
	grant(cloud, *ret_session);
	return true;
}

/* A session whose connection has something; they take turns. */
static struct session *wait_for_any(struct cloud *cloud)
{
	struct pollfd fds[SESSIONS_MAX];
	unsigned n = cloud->n_sessions;

	for (;;) {
		for (unsigned i = 0; i < n; i++) {
			unsigned j = (cloud->turn + i) % n;

			if (wire_has_more(&cloud->connections[j]))
				return &cloud->sessions[cloud->turn = j];
		}
		if (n == 1)
			return &cloud->sessions[0];
		for (unsigned i = 0; i < n; i++)
			fds[i] = (struct pollfd){cloud->connections[i].fd, POLLIN, 0};
		if (poll(fds, n, 20000) <= 0)
			wire_fail("bytes are lost");
		for (unsigned i = 0; i < n; i++) {
			unsigned j = (cloud->turn + 1 + i) % n;

			if (fds[j].revents)
				return &cloud->sessions[cloud->turn = j];
		}
	}
}

static bool receive_frame(struct cloud *cloud, struct session **ret_session,
			  struct frame *ret_frame)
{
	if (cloud->agent)
		return receive_message(cloud, ret_session, ret_frame);
	*ret_session = wait_for_any(cloud);
	memcpy(ret_frame, wire_read((*ret_session)->connection, FRAME), FRAME);
	return true;
}

/* While no device has been asked to say anything. */
static void wait_for_credit(struct cloud *cloud, const struct session *session)
{
	struct session *from;
	struct frame frame;

	while (!may_send(cloud, session)) {
		if (receive_message(cloud, &from, &frame))
			wire_fail("a frame too many");
	}
}

/* --- Commands --- */

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void latency(struct cloud *cloud, uint32_t n)
{
	uint64_t *times = calloc(n, sizeof(*times));
	struct session *from;
	struct frame frame;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t began_ns = now_ns();

		wait_for_credit(cloud, &cloud->sessions[0]);
		frame_set(&frame, FRAME_ECHO, i, 0);
		send_frame(cloud, &cloud->sessions[0], &frame);
		while (!receive_frame(cloud, &from, &frame))
			;
		if (!frame_is(&frame, FRAME_ECHO, i))
			wire_fail("another frame came back");
		times[i] = now_ns() - began_ns;
	}
	qsort(times, n, sizeof(*times), compare);
	printf("%llu %llu\n", (unsigned long long)times[n / 2],
	       (unsigned long long)times[(uint64_t)n * 99 / 100]);
	free(times);
}

/* One frame to each device that may have one. Returns whether there was any. */
static bool send_round(struct cloud *cloud, uint32_t n)
{
	struct frame frame;
	bool any = false;

	for (unsigned i = 0; i < cloud->n_sessions; i++) {
		struct session *session = &cloud->sessions[i];

		if (session->sent == n || !may_send(cloud, session))
			continue;
		frame_set(&frame, FRAME_DOWN, session->sent++, n);
		send_frame(cloud, session, &frame);
		any = true;
	}
	return any;
}

static void down(struct cloud *cloud, uint32_t n)
{
	unsigned waiting = cloud->n_sessions;
	struct session *from;
	struct frame frame;

	while (waiting > 0) {
		if (send_round(cloud, n) || !receive_frame(cloud, &from, &frame))
			continue;
		if (!frame_is(&frame, FRAME_COUNTED, 0) || frame.count != n)
			wire_fail("frames were lost or wrong on the way to a device");
		waiting--;
	}
}

/* Asks a device for what it may have under way, half of that at once. */
static void ask(struct cloud *cloud, struct session *session, uint32_t n)
{
	uint32_t count = n - session->sent;
	struct frame frame;

	if (count > ASKED_MAX / 2)
		count = ASKED_MAX / 2;
	if (count == 0 || session->sent - session->received > ASKED_MAX / 2 ||
	    !may_send(cloud, session))
		return;
	frame_set(&frame, FRAME_ASK, session->sent, count);
	send_frame(cloud, session, &frame);
	session->sent += count;
}

static void up(struct cloud *cloud, uint32_t n)
{
	uint64_t left = (uint64_t)n * cloud->n_sessions;
	struct session *from;
	struct frame frame;

	for (unsigned i = 0; i < cloud->n_sessions; i++)
		wait_for_credit(cloud, &cloud->sessions[i]);
	for (unsigned i = 0; i < cloud->n_sessions; i++)
		ask(cloud, &cloud->sessions[i], n);
	while (left > 0) {
		if (!receive_frame(cloud, &from, &frame))
			continue;
		if (!frame_is(&frame, FRAME_UP, from->received++))
			wire_fail("a frame from a device was lost or wrong");
		ask(cloud, from, n);
		left--;
	}
}

static void timed(struct cloud *cloud, void (*what)(struct cloud *cloud, uint32_t n), uint32_t n)
{
	uint64_t began_ns = now_ns();

	for (unsigned i = 0; i < cloud->n_sessions; i++)
		cloud->sessions[i].sent = cloud->sessions[i].received = 0;
	what(cloud, n);
	printf("%llu\n", (unsigned long long)(now_ns() - began_ns));
}

static int serve(struct cloud *cloud)
{
	char line[64], word[16];
	uint32_t n;

	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%15s %u", word, &n) != 2 || n == 0)
			wire_fail("not understood");
		if (strcmp(word, "latency") == 0)
			latency(cloud, n);
		else
			timed(cloud, strcmp(word, "up") == 0 ? up : down, n);
		fflush(stdout);
	}
	return 0;
}

/* --- Opening --- */

static void open_sessions(struct cloud *cloud)
{
	struct wire_message message;

	wire_welcome(&cloud->connections[0], cloud->credits);
	for (unsigned i = 0; i < cloud->n_sessions;) {
		message = wire_receive(&cloud->connections[0]);
		if (message.type != WIRE_OPEN)
			continue;
		cloud->sessions[i++] = (struct session){
			.connection = &cloud->connections[0],
			.id = message.fields[0],
			.out_limit = cloud->credits,
		};
		wire_send(&cloud->connections[0], WIRE_ACCEPT, message.fields[0], 0, 0);
	}
}

static int listen_anywhere(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, SESSIONS_MAX) < 0)
		wire_fail("cannot listen");
	getsockname(fd, (struct sockaddr *)&address, &len);
	printf("ready\n%u\n", ntohs(address.sin_port));
	fflush(stdout);
	return fd;
}

static SSL_CTX *load_keys(const char *certificate, const char *key)
{
	SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

	if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
		wire_fail("no keys");
	return tls;
}

int main(int argc, char **argv)
{
	static struct cloud cloud;
	SSL_CTX *tls = NULL;
	int listener;

	if (argc == 6) {
		cloud.n_sessions = (unsigned)strtoul(argv[2], NULL, 10);
		cloud.credits = (unsigned)strtoul(argv[3], NULL, 10);
	}
	if (cloud.n_sessions == 0 || cloud.n_sessions > SESSIONS_MAX || cloud.credits == 0)
		wire_fail("usage: cloud agent|tls|tcp SESSIONS CREDITS CERTIFICATE KEY");
	cloud.agent = strcmp(argv[1], "agent") == 0;
	if (strcmp(argv[1], "tcp") != 0)
		tls = load_keys(argv[4], argv[5]);
	listener = listen_anywhere();
	for (unsigned i = 0; i < (cloud.agent ? 1 : cloud.n_sessions); i++) {
		wire_accept(&cloud.connections[i], listener, tls);
		cloud.sessions[i].connection = &cloud.connections[i];
	}
	if (cloud.agent)
		open_sessions(&cloud);
	puts("open");
	fflush(stdout);
	return serve(&cloud);
}
