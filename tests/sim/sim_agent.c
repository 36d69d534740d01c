/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/sim_agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/status_socket.h"
#include "tests/sim/sim_loop.h"

/* --- Sessions, between relay.c and session.c, by the linker's --wrap --- */

#define SESSIONS_MAX 64 /* over RELAY_SESSIONS_MAX */

static struct sim_outcomes outcomes;
static struct {
	struct session *session;
	uint64_t began_ms;
} open_sessions[SESSIONS_MAX];

int __real_session_new(struct loop *loop, struct ble *ble, uint32_t id,
		       const struct session_target *target, uint32_t credits,
		       const struct session_config *config, const struct session_owner *owner,
		       struct session **ret);
void __real_session_free(struct session *session);
int __wrap_session_new(struct loop *loop, struct ble *ble, uint32_t id,
		       const struct session_target *target, uint32_t credits,
		       const struct session_config *config, const struct session_owner *owner,
		       struct session **ret);
void __wrap_session_free(struct session *session);

int __wrap_session_new(struct loop *loop, struct ble *ble, uint32_t id,
		       const struct session_target *target, uint32_t credits,
		       const struct session_config *config, const struct session_owner *owner,
		       struct session **ret)
{
	int r = __real_session_new(loop, ble, id, target, credits, config, owner, ret);
	size_t i = 0;

	if (r < 0)
		return r;
	outcomes.begun++;
	while (i < SESSIONS_MAX && open_sessions[i].session)
		i++;
	if (i == SESSIONS_MAX)
		abort();
	open_sessions[i].session = *ret;
	open_sessions[i].began_ms = sim_now_ms();
	return 0;
}

static void count_reason(const char *reason)
{
	size_t len = strcspn(reason, ":0123456789"), i = 0;
	char text[sizeof(outcomes.reasons[0].text)];

	/* The number in "closed by the cloud (0)" is worth telling. */
	if (strncmp(reason, "closed by", 9) == 0)
		len = strcspn(reason, ":");
	snprintf(text, sizeof(text), "%.*s", (int)len, reason);
	while (i < SIM_REASONS - 1 && outcomes.reasons[i].n > 0 &&
	       strcmp(outcomes.reasons[i].text, text) != 0)
		i++;
	memcpy(outcomes.reasons[i].text, text, sizeof(text));
	outcomes.reasons[i].n++;
}

void __wrap_session_free(struct session *session)
{
	struct session_status status;

	for (size_t i = 0; i < SESSIONS_MAX; i++) {
		if (!session || open_sessions[i].session != session)
			continue;
		open_sessions[i].session = NULL;
		session_get_status(session, &status);
		outcomes.longest_ms =
			MAX(outcomes.longest_ms, sim_now_ms() - open_sessions[i].began_ms);
		if (status.state != SESSION_STATE_ENDED)
			outcomes.dropped++;
		else if (outcomes.ended++, !*status.reason)
			outcomes.without_reason++;
		else
			count_reason(status.reason);
	}
	__real_session_free(session);
}

void sim_outcomes_reset(void)
{
	memset(&outcomes, 0, sizeof(outcomes));
	memset(open_sessions, 0, sizeof(open_sessions));
}

const struct sim_outcomes *sim_outcomes(void)
{
	return &outcomes;
}

uint64_t sim_oldest_session_ms(void)
{
	uint64_t oldest_ms = 0;

	for (size_t i = 0; i < SESSIONS_MAX; i++) {
		if (open_sessions[i].session)
			oldest_ms = MAX(oldest_ms, sim_now_ms() - open_sessions[i].began_ms);
	}
	return oldest_ms;
}

void sim_outcomes_print(void)
{
	for (size_t i = 0; i < SIM_REASONS && outcomes.reasons[i].n > 0; i++)
		printf("%s%llu %s", i == 0 ? "    ended: " : ", ",
		       (unsigned long long)outcomes.reasons[i].n, outcomes.reasons[i].text);
	printf("\n");
}

/* --- In place of identity.c's: signing with a key is slow --- */

void sim_sign(const uint8_t *data, size_t len, uint8_t ret[64])
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < len + 64; i++) {
		hash = (hash ^ (i < len ? data[i] : 0)) * UINT64_C(0x100000001b3);
		if (i >= len)
			ret[i - len] = (uint8_t)(hash >> 32);
	}
}

int __wrap_identity_sign(const struct identity *identity, const uint8_t *data, size_t len,
			 uint8_t ret_signature[64]);

int __wrap_identity_sign(const struct identity *identity, const uint8_t *data, size_t len,
			 uint8_t ret_signature[64])
{
	(void)identity;
	sim_sign(data, len, ret_signature);
	return 0;
}

/* --- In place of status_socket.c --- */

static char *(*status_answer_of)(void *userdata, struct status_client *client, const char *request);
static void *status_userdata;

int status_socket_new(struct loop *loop, const char *path,
		      char *(*answer)(void *userdata, struct status_client *client,
				      const char *request),
		      void *userdata, struct status_socket **ret)
{
	(void)loop, (void)path;
	status_answer_of = answer;
	status_userdata = userdata;
	*ret = NULL;
	return 0;
}

void status_socket_free(struct status_socket *server)
{
	(void)server;
	status_answer_of = NULL;
}

int status_socket_listen(struct status_client *client)
{
	(void)client;
	return -EBUSY;
}

bool status_socket_has_listeners(const struct status_socket *server)
{
	(void)server;
	return false;
}

void status_socket_publish(struct status_socket *server, const char *line)
{
	(void)server, (void)line;
}

bool sim_status_answers(void)
{
	_cleanup_free_ char *answer = NULL;

	if (status_answer_of)
		answer = status_answer_of(status_userdata, NULL, "status");
	return answer && strstr(answer, "uplink");
}

/* --- The agent --- */

static void set(char **setting, const char *value)
{
	free(*setting);
	*setting = strdup(value);
}

void sim_agent_init(struct sim_agent *sim, const char *const *urls, size_t n_urls)
{
	*sim = (struct sim_agent){0};
	if (settings_init(&sim->settings) < 0)
		abort();
	sim->settings.uplink.urls.items = calloc(n_urls, sizeof(char *));
	sim->settings.uplink.urls.n = n_urls;
	set(&sim->settings.uplink.proxy, "none");
	set(&sim->settings.state_dir, "/nonexistent");
	set(&sim->settings.status_socket, "/nonexistent/status.sock");
	for (size_t i = 0; i < n_urls; i++)
		sim->settings.uplink.urls.items[i] = strdup(urls[i]);
	memset(sim->identity.hotspot_id, 0x42, sizeof(sim->identity.hotspot_id));
	sim->identity.public_key[0] = 4;
}

void sim_agent_start(struct sim_agent *sim, struct loop *loop)
{
	if (agent_new(loop, &sim->settings, "/nonexistent", &sim->identity, &sim->agent) < 0)
		abort();
}

bool sim_agent_stop(struct sim_agent *sim, uint32_t timeout_ms)
{
	struct loop *loop = sim->agent->loop;
	bool stopped;

	agent_stop(sim->agent);
	sim_run_until(loop, sim_now_ms() + timeout_ms);
	stopped = loop->quit;
	loop->quit = false;
	agent_free(TAKE_PTR(sim->agent));
	return stopped;
}

void sim_agent_done(struct sim_agent *sim)
{
	agent_free(TAKE_PTR(sim->agent));
	settings_done(&sim->settings);
}
