/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file (libconfig): every option, its range and default stand in
 * settings_options.c, what each is for in configs/blecon-hotspot.conf. */
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
	bool probe; /* no option: see probe.h */
	struct {
		struct settings_list urls; /* wss://..., in the order to be tried; empty: not yet */
		char *ca_file;
		struct settings_list pins; /* sha256//..., as in pin.h */
		char *proxy; /* http://..., "none", or empty: what the environment says */
		int connect_timeout_s;
		int ping_interval_s;
		int ping_timeout_s;
		int backoff_min_ms;
		int backoff_max_s;
		int report_interval_s;
		int stats_interval_s;
		int sightings_kb_per_day;
		int reload_revert_s;
	} uplink;
	struct {
		char *mode; /* "key", "token" or "certificate" */
		char *token_file; /* empty for none, as the next */
		char *certificate_file;
	} auth;
	struct {
		double latitude, longitude; /* degrees (WGS 84), NAN for none */
		int accuracy_m;
		char *floor, *zone, *name;
	} location;
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

/* What a change of an option takes while the daemon runs. */
enum settings_effect {
	SETTINGS_LIVE = 1u << 0, /* nothing */
	SETTINGS_CONNECTION = 1u << 1, /* a new connection to the cloud */
	SETTINGS_REACH = 1u << 2, /* the same, which with a wrong value comes to nothing */
	SETTINGS_RESTART = 1u << 3, /* cannot be changed */
};
#define SETTINGS_ALL                                                                               \
	((unsigned)SETTINGS_LIVE | SETTINGS_CONNECTION | SETTINGS_REACH | SETTINGS_RESTART)

/* Sets every option to its default. Returns 0 or -ENOMEM. To be followed by settings_done, as
 * settings_load must be. */
int settings_init(struct settings *settings);
void settings_done(struct settings *settings);
/* Reads path over the defaults. Returns 0, or -errno with ret_error saying file, line, option and
 * what was expected; *settings is all zero then. */
int settings_load(const char *path, struct settings *settings, char ret_error[SETTINGS_ERROR]);
/* The effects of all options that differ. */
unsigned settings_changed(const struct settings *a, const struct settings *b);
/* The names of those that differ and have one of these effects, cut to size. */
void settings_changed_names(const struct settings *a, const struct settings *b, unsigned effects,
			    char *ret, size_t size);
/* Copies the options with one of these effects. Returns 0 or -ENOMEM, with some copied. */
int settings_copy(const struct settings *from, unsigned effects, struct settings *to);
