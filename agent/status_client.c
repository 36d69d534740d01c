/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/util.h"

/* What it is waited for in its state, and for how long. A listener's input is never read: the
 * kernel tells when it closes. */
static void set_state(struct status_client *client, enum status_client_state state)
{
	uint32_t events = 0;
	uint64_t time_ms = 0;

	client->state = state;
	switch (state) {
	case STATUS_CLIENT_ASKING:
		events = EPOLLIN;
		time_ms = STATUS_SOCKET_TIME_MS;
		break;
	case STATUS_CLIENT_READING:
		events = EPOLLOUT;
		time_ms = STATUS_SOCKET_TIME_MS;
		break;
	case STATUS_CLIENT_LISTENING:
		if (client->stream.len == 0)
			break;
		events = EPOLLOUT;
		time_ms = STATUS_SOCKET_LISTENER_TIME_MS;
		break;
	case STATUS_CLIENT_WAITING:
	case STATUS_CLIENT_FREE:
		break;
	}
	loop_fd_set(&client->watch, events);
	if (time_ms != 0)
		loop_timer_start(&client->timer, time_ms);
	else
		loop_timer_stop(&client->timer);
}

static void moved(struct status_client *client)
{
	client->moved_ms = util_now_ms();
}

static const char *end_of_line(const struct status_client *client)
{
	return memchr(client->request, '\n', client->request_len);
}

static void look_for_line(struct status_client *client)
{
	if (end_of_line(client)) {
		set_state(client, STATUS_CLIENT_WAITING);
		client->on_line(client);
	} else if (client->request_len == sizeof(client->request)) {
		client->on_end(client, "its request is too long");
	}
}

static void receive(struct status_client *client)
{
	ssize_t n = recv(client->fd, client->request + client->request_len,
			 sizeof(client->request) - client->request_len, 0);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		client->on_end(client, NULL);
		return;
	}
	client->request_len += (size_t)n;
	look_for_line(client);
}

/* Returns what went out, or 0 where nothing did; after -1 the client is closed. */
static ssize_t send_some(struct status_client *client, const char *text, size_t len)
{
	ssize_t n = send(client->fd, text, len, MSG_NOSIGNAL);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n < 0)
		client->on_end(client, NULL);
	else
		moved(client);
	return n;
}

static void send_answer(struct status_client *client)
{
	struct status_answer *answer = client->answer;
	ssize_t n = send_some(client, answer->text + client->sent, answer->len - client->sent);

	if (n <= 0)
		return;
	client->sent += (size_t)n;
	if (client->sent < answer->len) {
		set_state(client, STATUS_CLIENT_READING);
		return;
	}
	status_answer_unref(TAKE_PTR(client->answer));
	client->served = true;
	if (client->listens) {
		set_state(client, STATUS_CLIENT_LISTENING);
		return;
	}
	set_state(client, STATUS_CLIENT_ASKING);
	look_for_line(client);
}

static void send_stream(struct status_client *client)
{
	size_t len;
	const char *text = status_stream_get(&client->stream, &len);
	ssize_t n = len > 0 ? send_some(client, text, len) : 0;

	if (n <= 0)
		return;
	status_stream_take(&client->stream, (size_t)n);
	set_state(client, STATUS_CLIENT_LISTENING);
}

static void on_ready(void *userdata, uint32_t revents)
{
	struct status_client *client = userdata;

	if (revents & (EPOLLHUP | EPOLLERR))
		client->on_end(client, NULL);
	else if (client->state == STATUS_CLIENT_ASKING)
		receive(client);
	else if (client->state == STATUS_CLIENT_READING)
		send_answer(client);
	else if (client->state == STATUS_CLIENT_LISTENING)
		send_stream(client);
}

void status_client_on_timeout(void *userdata)
{
	struct status_client *client = userdata;

	client->on_end(client, client->state == STATUS_CLIENT_ASKING ? "it asks nothing"
								     : "it does not read");
}

int status_client_open(struct status_client *client, struct loop *loop, int fd)
{
	int r = loop_fd_add(loop, &client->watch, fd, EPOLLIN, on_ready, client);

	if (r < 0)
		return r;
	client->fd = fd;
	client->served = false;
	client->request_len = 0;
	moved(client);
	set_state(client, STATUS_CLIENT_ASKING);
	/* Mostly it has asked by now. */
	receive(client);
	return 0;
}

void status_client_close(struct status_client *client)
{
	list_remove(&client->turn);
	loop_timer_stop(&client->timer);
	loop_fd_remove(&client->watch);
	close(TAKE_FD(client->fd));
	status_answer_unref(TAKE_PTR(client->answer));
	status_stream_done(&client->stream);
	client->listens = false;
	client->state = STATUS_CLIENT_FREE;
}

void status_client_get_line(const struct status_client *client, char ret[STATUS_SOCKET_REQUEST])
{
	size_t len = (size_t)(end_of_line(client) - client->request);

	if (len > 0 && client->request[len - 1] == '\r')
		len--;
	memcpy(ret, client->request, len);
	ret[len] = '\0';
}

void status_client_answer(struct status_client *client, struct status_answer *answer)
{
	size_t used = (size_t)(end_of_line(client) + 1 - client->request);

	client->request_len -= used;
	memmove(client->request, client->request + used, client->request_len);
	answer->readers++;
	client->answer = answer;
	client->sent = 0;
	moved(client);
	set_state(client, STATUS_CLIENT_READING);
	send_answer(client);
}

void status_answer_unref(struct status_answer *answer)
{
	if (!answer || --answer->readers > 0)
		return;
	free(answer->text);
	free(answer);
}

void status_client_publish(struct status_client *client, const char *line)
{
	bool waited = client->stream.len > 0;

	status_stream_push(&client->stream, line);
	if (client->state != STATUS_CLIENT_LISTENING || waited)
		return;
	moved(client);
	set_state(client, STATUS_CLIENT_LISTENING);
}

bool status_client_is_stuck(const struct status_client *client, uint64_t now_ms)
{
	uint64_t grace_ms = STATUS_SOCKET_READ_GRACE_MS;

	switch (client->state) {
	case STATUS_CLIENT_FREE:
	case STATUS_CLIENT_WAITING:
		return false;
	case STATUS_CLIENT_LISTENING:
		if (client->stream.len == 0)
			return false;
		break;
	case STATUS_CLIENT_ASKING:
		grace_ms = STATUS_SOCKET_ASK_GRACE_MS;
		break;
	case STATUS_CLIENT_READING:
		break;
	}
	return now_ms - client->moved_ms >= grace_ms;
}
