/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/cloud.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/credentials.h"
#include "agent/identity.h"
#include "agent/location.h"
#include "agent/log.h"
#include "agent/util.h"

static bool is_mode(const struct settings *settings, const char *mode)
{
	return strcmp(settings->auth.mode, mode) == 0;
}

static int add_pins(struct cloud *cloud, const struct settings_list *texts)
{
	cloud->pins = calloc(texts->n + 1, sizeof(*cloud->pins));
	if (!cloud->pins)
		return -ENOMEM;
	/* The settings have been checked, as all text in here. */
	for (size_t i = 0; i < texts->n; i++)
		pin_parse(texts->items[i], &cloud->pins[i]);
	cloud->config.pins = cloud->pins;
	cloud->config.n_pins = texts->n;
	return 0;
}

/* A configured proxy is always used; for that of the environment there may be exceptions. */
static void add_proxy(struct cloud *cloud, const char *configured)
{
	const char *url = *configured ? configured : proxy_from_environment();
	const char *what;

	if (!url || strcmp(url, "none") == 0)
		return;
	if (proxy_parse(url, &cloud->proxy, &what) < 0) {
		log_error("uplink: the environment's proxy is not used: %s", what);
		return;
	}
	cloud->config.proxy = &cloud->proxy;
	if (!*configured)
		cloud->config.no_proxy = proxy_exceptions();
}

static int add_auth(struct cloud *cloud, const struct settings *settings)
{
	if (is_mode(settings, "token"))
		cloud->config.token_file = settings->auth.token_file;
	if (!is_mode(settings, "certificate"))
		return 0;
	if (asprintf(&cloud->key_file, "%s/%s", settings->state_dir, IDENTITY_FILE) < 0) {
		cloud->key_file = NULL;
		return -ENOMEM;
	}
	cloud->config.certificate_file = settings->auth.certificate_file;
	cloud->config.key_file = cloud->key_file;
	cloud->certificate_end = credentials_certificate_end(cloud->config.certificate_file);
	return 0;
}

static void stamp(const char *path, struct stat *ret)
{
	if (!path || stat(path, ret) < 0)
		memset(ret, 0, sizeof(*ret));
}

static void add_stamps(struct cloud *cloud)
{
	stamp(cloud->config.n_pins > 0 ? NULL : cloud->config.ca_file, &cloud->ca);
	stamp(cloud->config.certificate_file, &cloud->certificate);
}

int cloud_new(const struct settings *settings, const uint8_t run[MESSAGE_RUN_LEN],
	      struct cloud **ret)
{
	struct cloud *cloud = calloc(1, sizeof(*cloud));

	if (!cloud)
		return -ENOMEM;
	cloud->config = (struct uplink_config){
		.urls = (const char *const *)settings->uplink.urls.items,
		.n_urls = settings->uplink.urls.n,
		.ca_file = settings->uplink.ca_file,
		.agent = "blecon-hotspot " VERSION,
		.run = run,
		.ping_interval_ms = (uint32_t)settings->uplink.ping_interval_s * 1000,
		.ping_timeout_ms = (uint32_t)settings->uplink.ping_timeout_s * 1000,
		.connect_timeout_ms = (uint32_t)settings->uplink.connect_timeout_s * 1000,
		.backoff_min_ms = (uint32_t)settings->uplink.backoff_min_ms,
		.backoff_max_ms = (uint32_t)settings->uplink.backoff_max_s * 1000,
	};
	if (add_pins(cloud, &settings->uplink.pins) < 0 || add_auth(cloud, settings) < 0) {
		cloud_free(cloud);
		return -ENOMEM;
	}
	add_proxy(cloud, settings->uplink.proxy);
	cloud->config.location = location_of(settings, &cloud->location);
	add_stamps(cloud);
	*ret = cloud;
	return 0;
}

void cloud_free(struct cloud *cloud)
{
	if (!cloud)
		return;
	explicit_bzero(&cloud->proxy, sizeof(cloud->proxy));
	free(cloud->pins);
	free(cloud->key_file);
	free(cloud);
}

static bool differs(const struct stat *a, const struct stat *b)
{
	return a->st_dev != b->st_dev || a->st_ino != b->st_ino || a->st_size != b->st_size ||
	       a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec;
}

bool cloud_files_changed(const struct cloud *cloud)
{
	struct cloud now = {.config = cloud->config};

	add_stamps(&now);
	return differs(&now.ca, &cloud->ca) || differs(&now.certificate, &cloud->certificate);
}
