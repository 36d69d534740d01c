/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/status_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/loop.h"
#include "agent/util.h"

/* Clients that wait to be accepted; a non-blocking connect of one more fails. */
#define WAITING_MAX 64

struct status_client {
	struct status_socket *server; /* not owned */
	int fd; /* owned, -1: free place */
	struct loop_fd watch;
	struct loop_timer timer;
	char request[STATUS_SOCKET_REQUEST + 1];
	size_t request_len;
	char *answer; /* owned, NULL while none is being sent */
	size_t answer_len, answer_sent;
};

struct status_socket {
	struct loop *loop; /* not owned */
	int fd;
	struct loop_fd watch;
	struct sockaddr_un address;
	char *(*answer)(void *userdata, struct status_client *client, const char *request);
	void *userdata; /* not owned */
	struct status_client clients[STATUS_SOCKET_CLIENTS];
	unsigned n_clients;
};

static void drop(struct status_client *client)
{
	loop_timer_stop(&client->timer);
	loop_fd_remove(&client->watch);
	close(TAKE_FD(client->fd));
	free(TAKE_PTR(client->answer));
	client->server->n_clients--;
	loop_fd_set(&client->server->watch, EPOLLIN);
}

static void send_answer(struct status_client *client)
{
	while (client->answer_sent < client->answer_len) {
		ssize_t n = send(client->fd, client->answer + client->answer_sent,
				 client->answer_len - client->answer_sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			loop_fd_set(&client->watch, EPOLLOUT);
			return;
		}
		if (n < 0) {
			drop(client);
			return;
		}
		client->answer_sent += (size_t)n;
	}
	free(TAKE_PTR(client->answer));
	loop_timer_start(&client->timer, STATUS_SOCKET_TIME_MS);
	loop_fd_set(&client->watch, EPOLLIN);
}

/* Answers the first whole line there is. */
static void serve(struct status_client *client)
{
	char *end = memchr(client->request, '\n', client->request_len);
	size_t used;

	if (!end) {
		if (client->request_len == STATUS_SOCKET_REQUEST)
			drop(client);
		return;
	}
	*end = '\0';
	if (end > client->request && end[-1] == '\r')
		end[-1] = '\0';
	client->answer = client->server->answer(client->server->userdata, client, client->request);
	used = (size_t)(end + 1 - client->request);
	client->request_len -= used;
	memmove(client->request, end + 1, client->request_len);
	if (!client->answer) {
		drop(client);
		return;
	}
	client->answer_len = strlen(client->answer);
	client->answer[client->answer_len++] = '\n'; /* in the place of the NUL */
	client->answer_sent = 0;
	send_answer(client);
}

static void on_client(void *userdata, uint32_t revents)
{
	struct status_client *client = userdata;
	ssize_t n;

	if (client->answer) {
		if (revents & (EPOLLHUP | EPOLLERR))
			drop(client);
		else
			send_answer(client);
	} else {
		n = recv(client->fd, client->request + client->request_len,
			 STATUS_SOCKET_REQUEST - client->request_len, 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			return;
		if (n <= 0) {
			drop(client);
			return;
		}
		client->request_len += (size_t)n;
	}
	while (client->fd >= 0 && !client->answer && client->request_len > 0 &&
	       (client->request_len == STATUS_SOCKET_REQUEST ||
		memchr(client->request, '\n', client->request_len)))
		serve(client);
}

static void on_timeout(void *userdata)
{
	drop(userdata);
}

static void on_connect(void *userdata, uint32_t revents)
{
	struct status_socket *server = userdata;
	struct status_client *client = server->clients;
	int fd;

	(void)revents;
	while (client->fd >= 0)
		client++;
	fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	if (loop_fd_add(server->loop, &client->watch, fd, EPOLLIN, on_client, client) < 0) {
		close(fd);
		return;
	}
	client->fd = fd;
	client->request_len = 0;
	loop_timer_start(&client->timer, STATUS_SOCKET_TIME_MS);
	if (++server->n_clients == STATUS_SOCKET_CLIENTS)
		loop_fd_set(&server->watch, 0);
}

/* 0 where nobody listens at the address and it may be bound. */
static int clear_address(const struct sockaddr_un *address)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
		return -EADDRINUSE;
	if (lstat(address->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	return unlink(address->sun_path) < 0 ? -errno : 0;
}

static int make_directory(const char *path)
{
	_cleanup_free_ char *directory = strdup(path);

	if (!directory)
		return -ENOMEM;
	*strrchr(directory, '/') = '\0';
	if (*directory && mkdir(directory, 0755) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}

static int listen_at(struct status_socket *server)
{
	int r = clear_address(&server->address);

	if (r < 0)
		return r;
	server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->fd < 0)
		return -errno;
	if (bind(server->fd, (const struct sockaddr *)&server->address, sizeof(server->address)) <
		    0 ||
	    /* Before anybody can connect. */
	    chmod(server->address.sun_path, 0660) < 0 || listen(server->fd, WAITING_MAX) < 0)
		return -errno;
	return loop_fd_add(server->loop, &server->watch, server->fd, EPOLLIN, on_connect, server);
}

int status_socket_new(struct loop *loop, const char *path,
		      char *(*answer)(void *userdata, struct status_client *client,
				      const char *request),
		      void *userdata, struct status_socket **ret)
{
	struct status_socket *server = NULL;
	int r;

	if (strlen(path) >= sizeof(server->address.sun_path))
		return -ENAMETOOLONG;
	r = make_directory(path);
	if (r < 0)
		return r;
	server = calloc(1, sizeof(*server));
	if (!server)
		return -ENOMEM;
	server->loop = loop;
	server->fd = -1;
	server->address.sun_family = AF_UNIX;
	strcpy(server->address.sun_path, path);
	server->answer = answer;
	server->userdata = userdata;
	for (unsigned i = 0; i < STATUS_SOCKET_CLIENTS; i++) {
		server->clients[i].server = server;
		server->clients[i].fd = -1;
		loop_timer_init(loop, &server->clients[i].timer, on_timeout, &server->clients[i]);
	}
	r = listen_at(server);
	if (r < 0) {
		if (server->fd >= 0)
			close(server->fd);
		free(server);
		return r;
	}
	*ret = server;
	return 0;
}

void status_socket_listen(struct status_client *client)
{
	(void)client;
}

bool status_socket_has_listeners(const struct status_socket *server)
{
	(void)server;
	return false;
}

void status_socket_publish(struct status_socket *server, const char *line)
{
	(void)server;
	(void)line;
}

void status_socket_free(struct status_socket *server)
{
	if (!server)
		return;
	for (unsigned i = 0; i < STATUS_SOCKET_CLIENTS; i++) {
		if (server->clients[i].fd >= 0)
			drop(&server->clients[i]);
	}
	loop_fd_remove(&server->watch);
	close(server->fd);
	unlink(server->address.sun_path);
	free(server);
}
