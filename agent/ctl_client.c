/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_client.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/util.h"

#define ANSWER_MAX (64u << 20)

static const char *hint(int error)
{
	if (error == ENOENT || error == ECONNREFUSED)
		return ": blecon-hotspotd is not running: see blecon-hotspotctl doctor";
	if (error == EACCES)
		return ": you must be root or in the socket's group";
	return "";
}

static void set_timeout(int fd, int seconds)
{
	const struct timeval timeout = {.tv_sec = seconds};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

int ctl_client_open(struct ctl_client *client, const char *path, char ret_error[CTL_CLIENT_ERROR])
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	_cleanup_close_ int fd = -1;
	int error;

	*client = (struct ctl_client){.fd = -1};
	if (strlen(path) >= sizeof(address.sun_path)) {
		snprintf(ret_error, CTL_CLIENT_ERROR, "%s: the path is too long", path);
		return -ENAMETOOLONG;
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0)
		set_timeout(fd, CTL_CLIENT_TIMEOUT_S);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		error = errno;
		snprintf(ret_error, CTL_CLIENT_ERROR, "%s: %s%s", path, strerror(error),
			 hint(error));
		return -error;
	}
	client->fd = TAKE_FD(fd);
	return 0;
}

void ctl_client_close(struct ctl_client *client)
{
	util_closep(&client->fd);
	free(client->buffer);
	*client = (struct ctl_client){.fd = -1};
}

/* Returns whether there is room for more. */
static bool grow(struct ctl_client *client)
{
	size_t size = client->size * 2 + 4096;
	char *larger;

	if (client->len < client->size)
		return true;
	larger = client->size < ANSWER_MAX ? realloc(client->buffer, size) : NULL;
	if (!larger)
		return false;
	client->buffer = larger;
	client->size = size;
	return true;
}

static const char *describe_end(ssize_t n)
{
	if (n == 0)
		return "the daemon closed";
	return errno == EAGAIN ? "the daemon hangs: restart it" : strerror(errno);
}

static const char *read_line(struct ctl_client *client, char ret_error[CTL_CLIENT_ERROR])
{
	size_t seen = 0;
	char *end;

	client->len -= client->used;
	if (client->len > 0)
		memmove(client->buffer, client->buffer + client->used, client->len);
	client->used = 0;
	while (client->len == seen ||
	       !(end = memchr(client->buffer + seen, '\n', client->len - seen))) {
		ssize_t n;

		seen = client->len;
		if (!grow(client)) {
			snprintf(ret_error, CTL_CLIENT_ERROR, "the answer is too long");
			return NULL;
		}
		n = read(client->fd, client->buffer + client->len, client->size - client->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			snprintf(ret_error, CTL_CLIENT_ERROR, "no whole answer: %s",
				 describe_end(n));
			return NULL;
		}
		client->len += (size_t)n;
	}
	*end = '\0';
	client->used = (size_t)(end + 1 - client->buffer);
	return client->buffer;
}

const char *ctl_client_ask(struct ctl_client *client, const char *request,
			   char ret_error[CTL_CLIENT_ERROR])
{
	_cleanup_free_ char *line = NULL;
	int len = asprintf(&line, "%s\n", request);

	if (len < 0) {
		line = NULL;
		snprintf(ret_error, CTL_CLIENT_ERROR, "out of memory");
		return NULL;
	}
	if (send(client->fd, line, (size_t)len, MSG_NOSIGNAL) != len) {
		snprintf(ret_error, CTL_CLIENT_ERROR, "cannot ask: %s", strerror(errno));
		return NULL;
	}
	return read_line(client, ret_error);
}

const char *ctl_client_next(struct ctl_client *client, char ret_error[CTL_CLIENT_ERROR])
{
	set_timeout(client->fd, 0);
	return read_line(client, ret_error);
}

/* Returns NULL after saying why. */
static struct json_object *parse(const char *line)
{
	struct json_object *o = json_tokener_parse(line), *error = NULL;

	if (!json_object_is_type(o, json_type_object))
		fputs("blecon-hotspotctl: the answer is no JSON object\n", stderr);
	else if (json_object_object_get_ex(o, "error", &error))
		fprintf(stderr, "blecon-hotspotctl: %s\n", json_object_get_string(error));
	else
		return o;
	json_object_put(o);
	return NULL;
}

struct json_object *ctl_client_request(const struct ctl *ctl, const char *request, char **ret_line)
{
	struct ctl_client client;
	char error[CTL_CLIENT_ERROR];
	struct json_object *o = NULL;
	const char *line = NULL;

	if (ctl_client_open(&client, ctl->socket, error) < 0) {
		fprintf(stderr, "blecon-hotspotctl: %s\n", error);
		return NULL;
	}
	line = ctl_client_ask(&client, request, error);
	if (!line)
		fprintf(stderr, "blecon-hotspotctl: %s: %s\n", ctl->socket, error);
	else
		o = parse(line);
	if (o && ret_line)
		*ret_line = strdup(line);
	ctl_client_close(&client);
	return o;
}
