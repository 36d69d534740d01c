/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reload.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/agent.h"
#include "agent/cloud.h"
#include "agent/credentials.h"
#include "agent/log.h"
#include "agent/loop.h"
#include "agent/util.h"

#define NAMES_MAX 1024 /* bytes of a list of options */

struct reload {
	struct agent *agent; /* not owned */
	struct settings *good; /* owned: the last that reached the cloud, NULL: those that run */
	bool reached; /* the cloud, with those that run */
	bool stopped;
	struct loop_timer revert_timer;
	enum reload_state state;
	uint64_t since_ms;
	char text[MAX(SETTINGS_ERROR, CREDENTIALS_ERROR) + URLS_ERROR];
	char restart[NAMES_MAX];
};

static const char *const state_names[] = {
	[RELOAD_NONE] = "started",    [RELOAD_APPLIED] = "applied",   [RELOAD_PENDING] = "pending",
	[RELOAD_REFUSED] = "refused", [RELOAD_REVERTED] = "reverted",
};

const char *reload_state_name(enum reload_state state)
{
	return state_names[state];
}

static void set_state(struct reload *reload, enum reload_state state)
{
	log_debug("reload: %s -> %s", state_names[reload->state], state_names[state]);
	reload->state = state;
	reload->since_ms = util_now_ms();
}

static void free_settings(struct settings *settings)
{
	if (settings)
		settings_done(settings);
	free(settings);
}

static void refuse(struct reload *reload, const char *error)
{
	snprintf(reload->text, sizeof(reload->text), "%s", error);
	log_event(LOG_LEVEL_ERROR, LOG_EVENT_CONFIGURATION, "reload: refused, what ran goes on: %s",
		  error);
	set_state(reload, RELOAD_REFUSED);
}

/* Returns the file's settings, but for those that cannot be changed; NULL after saying why not. */
static struct settings *load(struct reload *reload)
{
	struct agent *agent = reload->agent;
	char error[MAX(SETTINGS_ERROR, CREDENTIALS_ERROR)];
	struct settings *settings = calloc(1, sizeof(*settings));

	if (!settings) {
		refuse(reload, "out of memory");
		return NULL;
	}
	if (settings_load(agent->config_file, settings, error) < 0 ||
	    credentials_check(settings, agent->identity, error) < 0) {
		refuse(reload, error);
		free_settings(settings);
		return NULL;
	}
	settings_changed_names(agent->settings, settings, SETTINGS_RESTART, reload->restart,
			       sizeof(reload->restart));
	if (settings_copy(agent->settings, SETTINGS_RESTART, settings) < 0) {
		refuse(reload, "out of memory");
		free_settings(settings);
		return NULL;
	}
	return settings;
}

static void apply_log_level(const struct settings *before, const struct settings *settings)
{
	enum log_level level;

	/* What the command line says holds until the file says something new. */
	if (strcmp(before->log_level, settings->log_level) != 0 &&
	    log_level_parse(settings->log_level, &level) == 0)
		log_set_level(level);
}

/* Runs with settings from now on, connected anew. Returns those of before, or NULL without memory. */
static struct settings *exchange(struct agent *agent, struct settings *settings)
{
	struct settings *before = agent->settings;
	struct cloud *cloud;

	if (cloud_new(settings, agent->run, &cloud) < 0)
		return NULL;
	agent->settings = settings;
	uplink_configure(agent->uplink, &cloud->config);
	cloud_free(agent->cloud);
	agent->cloud = cloud;
	apply_log_level(before, settings);
	agent_apply(agent);
	return before;
}

/* Nothing of the connection to the cloud has changed, which goes on with the strings there are. */
static void adopt(struct agent *agent, struct settings *settings)
{
	apply_log_level(agent->settings, settings);
	if (settings_copy(settings, SETTINGS_LIVE, agent->settings) < 0)
		log_error("reload: out of memory, some options are as they were");
	agent_apply(agent);
	free_settings(settings);
}

/* Keeps what ran before, as far as it is of use, in case the cloud is not reached any more. */
static void keep(struct reload *reload, struct settings *before)
{
	if (reload->reached) {
		free_settings(reload->good);
		reload->good = TAKE_PTR(before);
	}
	free_settings(before);
	reload->reached = false;
}

/* Nothing will be given up any more. */
static void stop_waiting(struct reload *reload)
{
	loop_timer_stop(&reload->revert_timer);
	if (reload->state == RELOAD_PENDING)
		set_state(reload, RELOAD_APPLIED);
}

static void expect_cloud(struct reload *reload, struct settings *before)
{
	const struct settings *settings = reload->agent->settings;

	keep(reload, before);
	/* Without a URL there is no cloud that could be reached. */
	if (!reload->good || settings->uplink.urls.n == 0) {
		stop_waiting(reload);
		return;
	}
	loop_timer_start(&reload->revert_timer, (uint64_t)settings->uplink.reload_revert_s * 1000);
	set_state(reload, RELOAD_PENDING);
}

void reload_run(struct reload *reload)
{
	struct agent *agent = reload->agent;
	struct settings *settings, *before;
	bool files_changed;
	unsigned changed;

	if (reload->stopped)
		return;
	settings = load(reload);
	if (!settings)
		return;
	changed = settings_changed(agent->settings, settings);
	files_changed = cloud_files_changed(agent->cloud);
	settings_changed_names(agent->settings, settings, SETTINGS_ALL, reload->text,
			       sizeof(reload->text));
	log_event(LOG_LEVEL_INFO, LOG_EVENT_CONFIGURATION, "reload: applied, changed: %s%s",
		  *reload->text ? reload->text : "nothing",
		  files_changed ? ", with new certificates" : "");
	if (*reload->restart)
		log_event(LOG_LEVEL_WARNING, LOG_EVENT_CONFIGURATION,
			  "reload: what cannot change while it runs stays until a restart: %s",
			  reload->restart);
	set_state(reload, reload->revert_timer.armed ? RELOAD_PENDING : RELOAD_APPLIED);
	if (!(changed & (SETTINGS_CONNECTION | SETTINGS_REACH)) && !files_changed) {
		adopt(agent, settings);
	} else if (!(before = exchange(agent, settings))) {
		refuse(reload, "out of memory");
		free_settings(settings);
	} else if (changed & SETTINGS_REACH) {
		expect_cloud(reload, before);
	} else {
		free_settings(before);
	}
	if (agent->settings->uplink.reload_revert_s == 0)
		stop_waiting(reload);
}

/* Those that run, but reaching the cloud as good did. */
static struct settings *mix(const struct settings *running, const struct settings *good)
{
	struct settings *settings = calloc(1, sizeof(*settings));

	if (!settings)
		return NULL;
	if (settings_init(settings) == 0 && settings_copy(running, SETTINGS_ALL, settings) == 0 &&
	    settings_copy(good, SETTINGS_REACH, settings) == 0)
		return settings;
	free_settings(settings);
	return NULL;
}

static void revert(void *userdata)
{
	struct reload *reload = userdata;
	struct agent *agent = reload->agent;
	struct settings *settings = mix(agent->settings, reload->good), *before = NULL;
	struct uplink_status uplink;

	uplink_get_status(agent->uplink, &uplink);
	snprintf(reload->text, sizeof(reload->text),
		 "the cloud was not reached in %d s (%s), so how it is reached is as before",
		 agent->settings->uplink.reload_revert_s,
		 *uplink.error ? uplink.error : uplink_state_name(uplink.state));
	if (settings)
		before = exchange(agent, settings);
	if (!before) {
		free_settings(settings);
		log_error("reload: out of memory");
		return;
	}
	free_settings(before);
	free_settings(TAKE_PTR(reload->good));
	/* They did, which is why they are back: the next that do not can go back to them again. */
	reload->reached = true;
	log_event(LOG_LEVEL_ERROR, LOG_EVENT_CONFIGURATION, "reload: %s", reload->text);
	set_state(reload, RELOAD_REVERTED);
}

void reload_reached(struct reload *reload)
{
	if (!reload)
		return;
	reload->reached = true;
	free_settings(TAKE_PTR(reload->good));
	loop_timer_stop(&reload->revert_timer);
	if (reload->state != RELOAD_PENDING)
		return;
	log_event(LOG_LEVEL_INFO, LOG_EVENT_CONFIGURATION,
		  "reload: the cloud is reached with the new settings");
	set_state(reload, RELOAD_APPLIED);
}

int reload_new(struct agent *agent, struct reload **ret)
{
	struct reload *reload = calloc(1, sizeof(*reload));

	if (!reload)
		return -ENOMEM;
	reload->agent = agent;
	loop_timer_init(agent->loop, &reload->revert_timer, revert, reload);
	*ret = reload;
	return 0;
}

void reload_stop(struct reload *reload)
{
	reload->stopped = true;
	loop_timer_stop(&reload->revert_timer);
}

void reload_free(struct reload *reload)
{
	if (!reload)
		return;
	loop_timer_stop(&reload->revert_timer);
	free_settings(reload->good);
	free(reload);
}

void reload_get_status(const struct reload *reload, struct reload_status *ret)
{
	*ret = (struct reload_status){
		.state = reload->state,
		.since_ms = reload->since_ms,
		.text = reload->text,
		.restart = reload->restart,
	};
	if (reload->revert_timer.armed)
		ret->revert_ms = reload->revert_timer.due_us / 1000;
}
