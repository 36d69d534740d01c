/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file (libconfig): every option, its range and default stand in settings.c, what
 * each is for in configs/blecon-hotspot.conf. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/log.h"

#define SETTINGS_ERROR 512 /* bytes of an error text, NUL included */

/* No item is NULL; items may be where n is 0. */
struct settings_list {
	char **items;
	size_t n;
};

struct settings {
	char *state_dir;
	char *status_socket;
	char *log_level; /* a name log_level_parse knows */
	struct {
		char *url; /* wss://..., or empty: not configured yet */
		char *ca_file;
		int connect_timeout_s;
		int ping_interval_s;
		int ping_timeout_s;
		int backoff_min_ms;
		int backoff_max_s;
		int report_interval_s;
		int stats_interval_s;
	} uplink;
	struct {
		struct settings_list adapters; /* names or addresses; empty: all there are */
		bool duplicate_data;
		int silence_s;
	} bluetooth;
	struct {
		int max;
		int lost_after_s;
	} devices;
	struct {
		char *bearer; /* "auto", "l2cap" or "gatt" */
		int max_links;
		int max_links_per_adapter;
		int holdoff_ms;
		int resume_max_s;
		int rssi_floor_dbm;
		int idle_timeout_s;
		int max_duration_s;
		int retry_min_s;
		int retry_max_s;
	} relay;
};

/* Sets every option to its default. Returns 0 or -ENOMEM. To be followed by settings_done, as
 * settings_load must be. */
int settings_init(struct settings *settings);
void settings_done(struct settings *settings);
/* Reads path over the defaults. Returns 0, or -errno with ret_error saying file, line, option and
 * what was expected; *settings is all zero then. */
int settings_load(const char *path, struct settings *settings, char ret_error[SETTINGS_ERROR]);
