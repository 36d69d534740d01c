/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/probe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/log.h"
#include "agent/loop.h"

struct probe {
	struct agent *agent; /* not owned */
	struct loop_fd input;
};

int probe_configure(struct settings *settings, const char *socket)
{
	char *copy;

	if (*socket != '/')
		return -EINVAL;
	copy = strdup(socket);
	if (!copy)
		return -ENOMEM;
	free(settings->status_socket);
	settings->status_socket = copy;
	settings->relay.max_links = 0;
	settings->probe = true;
	return 0;
}

static void on_input(void *userdata, uint32_t revents)
{
	struct probe *probe = userdata;
	char buf[64];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	(void)revents;
	if (n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN)))
		return;
	loop_fd_remove(&probe->input);
	log_info("standard input has ended: stopping");
	agent_stop(probe->agent);
}

int probe_new(struct agent *agent, struct probe **ret)
{
	struct probe *probe = calloc(1, sizeof(*probe));
	int r;

	if (!probe)
		return -ENOMEM;
	probe->agent = agent;
	r = loop_fd_add(agent->loop, &probe->input, STDIN_FILENO, EPOLLIN, on_input, probe);
	if (r < 0) {
		log_error("--probe: standard input is nothing to wait for: %s", strerror(-r));
		free(probe);
		return r;
	}
	/* The file says otherwise. */
	reload_stop(agent->reload);
	*ret = probe;
	return 0;
}

void probe_free(struct probe *probe)
{
	if (!probe)
		return;
	loop_fd_remove(&probe->input);
	free(probe);
}
