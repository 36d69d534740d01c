/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/settings.h"

#include <errno.h>
#include <libconfig.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "agent/util.h"
#include "uplink/endpoint.h"

enum type { TYPE_INT, TYPE_BOOL, TYPE_STRING, TYPE_LIST };

struct option {
	const char *name; /* with its group */
	enum type type;
	size_t offset; /* in struct settings */
	int min, max; /* of an integer */
	int number; /* default of an integer or a boolean */
	const char *text; /* default of a string; that of a list is empty */
	const char *expected; /* unit of an integer; what a string, or each of a list, must be */
	bool (*valid)(const char *value, const char **ret_what); /* the same */
};

static bool valid_url(const char *value, const char **ret_what)
{
	struct endpoint endpoint;

	return !*value || endpoint_parse(value, &endpoint, ret_what) == 0;
}

static bool valid_path(const char *value, const char **ret_what)
{
	*ret_what = "the path is not absolute";
	return value[0] == '/';
}

static bool valid_socket(const char *value, const char **ret_what)
{
	const struct sockaddr_un *address = NULL;

	if (!valid_path(value, ret_what))
		return false;
	*ret_what = "the path is longer than a Unix socket's may be";
	return strlen(value) < sizeof(address->sun_path);
}

static bool valid_level(const char *value, const char **ret_what)
{
	enum log_level level;

	*ret_what = "no such level";
	return log_level_parse(value, &level) == 0;
}

static bool valid_adapter(const char *value, const char **ret_what)
{
	unsigned byte[6], index;
	int end = 0;

	*ret_what = "no adapter has such a name";
	/* sscanf by itself would take spaces and signs too. */
	if (strspn(value, "hci0123456789") == strlen(value))
		return sscanf(value, "hci%3u%n", &index, &end) == 1 && !value[end] &&
		       (value[3] != '0' || end == 4);
	return strspn(value, "0123456789abcdefABCDEF:") == 17 &&
	       sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x%n", &byte[0], &byte[1], &byte[2], &byte[3],
		      &byte[4], &byte[5], &end) == 6 &&
	       end == 17 && !value[end];
}

static bool valid_bearer(const char *value, const char **ret_what)
{
	*ret_what = "no such bearer";
	return strcmp(value, "auto") == 0 || strcmp(value, "l2cap") == 0 ||
	       strcmp(value, "gatt") == 0;
}

#define OFFSET(member) offsetof(struct settings, member)

/* clang-format off */
static const struct option options[] = {
	{"state_dir", TYPE_STRING, OFFSET(state_dir), .text = "/var/lib/blecon-hotspot",
	 .expected = "an absolute path", .valid = valid_path},
	{"status_socket", TYPE_STRING, OFFSET(status_socket),
	 .text = "/run/blecon-hotspot/status.sock", .expected = "an absolute path",
	 .valid = valid_socket},
	{"log_level", TYPE_STRING, OFFSET(log_level), .text = "info",
	 .expected = "\"error\", \"warning\", \"info\" or \"debug\"", .valid = valid_level},
	{"uplink.url", TYPE_STRING, OFFSET(uplink.url), .text = "",
	 .expected = "\"wss://host[:port]/path\"", .valid = valid_url},
	{"uplink.ca_file", TYPE_STRING, OFFSET(uplink.ca_file),
	 .text = "/etc/ssl/certs/ca-certificates.crt", .expected = "an absolute path",
	 .valid = valid_path},
	{"uplink.connect_timeout_s", TYPE_INT, OFFSET(uplink.connect_timeout_s), 1, 300, 15,
	 .expected = "seconds"},
	{"uplink.ping_interval_s", TYPE_INT, OFFSET(uplink.ping_interval_s), 0, 86400, 30,
	 .expected = "seconds, 0 for never"},
	{"uplink.ping_timeout_s", TYPE_INT, OFFSET(uplink.ping_timeout_s), 1, 300, 10,
	 .expected = "seconds"},
	{"uplink.backoff_min_ms", TYPE_INT, OFFSET(uplink.backoff_min_ms), 100, 60000, 1000,
	 .expected = "milliseconds"},
	{"uplink.backoff_max_s", TYPE_INT, OFFSET(uplink.backoff_max_s), 1, 86400, 300,
	 .expected = "seconds"},
	{"uplink.report_interval_s", TYPE_INT, OFFSET(uplink.report_interval_s), 1, 86400, 60,
	 .expected = "seconds"},
	{"uplink.stats_interval_s", TYPE_INT, OFFSET(uplink.stats_interval_s), 0, 86400, 3600,
	 .expected = "seconds, 0 for never"},
	{"bluetooth.adapters", TYPE_LIST, OFFSET(bluetooth.adapters),
	 .expected = "a name like \"hci0\" or an address like \"00:11:22:AA:BB:CC\"",
	 .valid = valid_adapter},
	{"bluetooth.duplicate_data", TYPE_BOOL, OFFSET(bluetooth.duplicate_data), .number = false},
	{"bluetooth.silence_s", TYPE_INT, OFFSET(bluetooth.silence_s), 0, 86400, 90,
	 .expected = "seconds, 0 for never"},
	{"devices.max", TYPE_INT, OFFSET(devices.max), 16, 65536, 1000, .expected = "devices"},
	{"devices.lost_after_s", TYPE_INT, OFFSET(devices.lost_after_s), 1, 86400, 60,
	 .expected = "seconds"},
	{"relay.bearer", TYPE_STRING, OFFSET(relay.bearer), .text = "auto",
	 .expected = "\"auto\", \"l2cap\" or \"gatt\"", .valid = valid_bearer},
	{"relay.max_links", TYPE_INT, OFFSET(relay.max_links), 0, 16, 8,
	 .expected = "links, 0 to connect no device"},
	{"relay.max_links_per_adapter", TYPE_INT, OFFSET(relay.max_links_per_adapter), 1, 16, 4,
	 .expected = "links"},
	{"relay.holdoff_ms", TYPE_INT, OFFSET(relay.holdoff_ms), 0, 5000, 1000,
	 .expected = "milliseconds"},
	{"relay.resume_max_s", TYPE_INT, OFFSET(relay.resume_max_s), 0, 600, 60,
	 .expected = "seconds"},
	{"relay.rssi_floor_dbm", TYPE_INT, OFFSET(relay.rssi_floor_dbm), -127, 20, -95,
	 .expected = "dBm"},
	{"relay.idle_timeout_s", TYPE_INT, OFFSET(relay.idle_timeout_s), 1, 3600, 30,
	 .expected = "seconds"},
	{"relay.max_duration_s", TYPE_INT, OFFSET(relay.max_duration_s), 1, 86400, 600,
	 .expected = "seconds"},
	{"relay.retry_min_s", TYPE_INT, OFFSET(relay.retry_min_s), 1, 3600, 5,
	 .expected = "seconds"},
	{"relay.retry_max_s", TYPE_INT, OFFSET(relay.retry_max_s), 1, 86400, 300,
	 .expected = "seconds"},
};
/* clang-format on */

static void *field(struct settings *settings, const struct option *option)
{
	return (char *)settings + option->offset;
}

static void free_list(struct settings_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct settings_list){0};
}

int settings_init(struct settings *settings)
{
	memset(settings, 0, sizeof(*settings));
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];

		if (o->type == TYPE_INT)
			*(int *)field(settings, o) = o->number;
		else if (o->type == TYPE_BOOL)
			*(bool *)field(settings, o) = o->number;
		else if (o->type == TYPE_STRING &&
			 !(*(char **)field(settings, o) = strdup(o->text)))
			return -ENOMEM;
	}
	return 0;
}

void settings_done(struct settings *settings)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (options[i].type == TYPE_STRING)
			free(*(char **)field(settings, &options[i]));
		else if (options[i].type == TYPE_LIST)
			free_list(field(settings, &options[i]));
	}
	memset(settings, 0, sizeof(*settings));
}

/* Where a setting stands, for messages. */
struct place {
	const char *file;
	char name[128];
	const config_setting_t *setting;
	char *error;
};

static int refuse(const struct place *place, const char *fmt, ...) _printf_(2, 3);

static int refuse(const struct place *place, const char *fmt, ...)
{
	const char *file = config_setting_source_file(place->setting);
	va_list args;
	int n = snprintf(place->error, SETTINGS_ERROR, "%s:%u: %s: ", file ? file : place->file,
			 config_setting_source_line(place->setting), place->name);

	if (n > 0 && n < SETTINGS_ERROR) {
		va_start(args, fmt);
		vsnprintf(place->error + n, (size_t)(SETTINGS_ERROR - n), fmt, args);
		va_end(args);
	}
	return -EINVAL;
}

static const char *type_name(const config_setting_t *setting)
{
	switch (config_setting_type(setting)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "an integer";
	case CONFIG_TYPE_FLOAT:
		return "a floating-point number";
	case CONFIG_TYPE_STRING:
		return "a string";
	case CONFIG_TYPE_BOOL:
		return "a boolean";
	case CONFIG_TYPE_GROUP:
		return "a group";
	default:
		return "a list";
	}
}

static int set_int(const struct place *place, const struct option *o, int *ret)
{
	int type = config_setting_type(place->setting);
	long long value;

	if (type != CONFIG_TYPE_INT && type != CONFIG_TYPE_INT64)
		return refuse(place, "expected an integer from %d to %d (%s), not %s", o->min,
			      o->max, o->expected, type_name(place->setting));
	value = config_setting_get_int64(place->setting);
	if (value < o->min || value > o->max)
		return refuse(place, "expected an integer from %d to %d (%s), not %lld", o->min,
			      o->max, o->expected, value);
	*ret = (int)value;
	return 0;
}

static int set_bool(const struct place *place, bool *ret)
{
	if (config_setting_type(place->setting) != CONFIG_TYPE_BOOL)
		return refuse(place, "expected true or false, not %s", type_name(place->setting));
	*ret = config_setting_get_bool(place->setting);
	return 0;
}

static int set_string(const struct place *place, const struct option *o, char **ret)
{
	const char *value = config_setting_get_string(place->setting);
	const char *what = NULL;
	char *copy;

	if (!value)
		return refuse(place, "expected %s, not %s", o->expected, type_name(place->setting));
	if (!o->valid(value, &what))
		return refuse(place, "expected %s, not \"%s\": %s", o->expected, value, what);
	copy = strdup(value);
	if (!copy)
		return refuse(place, "out of memory");
	free(*ret);
	*ret = copy;
	return 0;
}

static bool list_has(const struct settings_list *list, const char *value)
{
	for (size_t i = 0; i < list->n; i++) {
		if (strcasecmp(list->items[i], value) == 0)
			return true;
	}
	return false;
}

/* Appends what is valid, and not there yet. */
static int add_item(const struct place *place, const struct option *o, struct settings_list *list)
{
	_cleanup_free_ char *item = NULL;
	int r = set_string(place, o, &item);

	if (r < 0)
		return r;
	if (list_has(list, item))
		return refuse(place, "\"%s\" is listed twice", item);
	list->items[list->n++] = TAKE_PTR(item);
	return 0;
}

static int set_list(const struct place *place, const struct option *o, struct settings_list *ret)
{
	const config_setting_t *setting = place->setting;
	int n = config_setting_length(setting), r = 0;
	struct settings_list list = {0};

	if (!config_setting_is_array(setting) && !config_setting_is_list(setting))
		return refuse(place, "expected [ ... ] with, for each, %s, not %s", o->expected,
			      type_name(setting));
	/* One more, as calloc may have NULL for none. */
	list.items = calloc((size_t)n + 1, sizeof(*list.items));
	if (!list.items)
		return refuse(place, "out of memory");
	for (int i = 0; i < n && r == 0; i++) {
		struct place item = *place;

		item.setting = config_setting_get_elem(setting, (unsigned)i);
		snprintf(item.name, sizeof(item.name), "%.100s: element %d", place->name, i + 1);
		r = add_item(&item, o, &list);
	}
	if (r < 0) {
		free_list(&list);
		return r;
	}
	free_list(ret);
	*ret = list;
	return 0;
}

static const struct option *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (strcmp(options[i].name, name) == 0)
			return &options[i];
	}
	return NULL;
}

static bool is_group(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (strncmp(options[i].name, name, len) == 0 && options[i].name[len] == '.')
			return true;
	}
	return false;
}

/* Says what there is where the unknown option stands, or where one of its name does. */
static int refuse_unknown(const struct place *place)
{
	const char *dot = strchr(place->name, '.');
	size_t prefix = dot ? (size_t)(dot - place->name) + 1 : 0;
	char known[320] = "";

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		const char *name = options[i].name, *own = strchr(name, '.');
		size_t len = strlen(known);

		if (!dot && own && strcmp(own + 1, place->name) == 0)
			return refuse(place, "unknown option; there is %s", name);
		if (strncmp(name, place->name, prefix) == 0 && (dot || !own))
			snprintf(known + len, sizeof(known) - len, "%s%s", len ? ", " : "",
				 name + prefix);
	}
	return refuse(place, "unknown option; there are %s%s", known,
		      dot ? "" : " and the groups uplink, bluetooth, devices, relay");
}

static int set_option(struct settings *settings, const struct place *place)
{
	const struct option *o = find(place->name);

	if (!o && is_group(place->name))
		return refuse(place, "expected a group: { ... }");
	if (!o)
		return refuse_unknown(place);
	if (o->type == TYPE_INT)
		return set_int(place, o, field(settings, o));
	if (o->type == TYPE_BOOL)
		return set_bool(place, field(settings, o));
	if (o->type == TYPE_LIST)
		return set_list(place, o, field(settings, o));
	return set_string(place, o, field(settings, o));
}

static int walk(struct settings *settings, const config_setting_t *group, const char *prefix,
		const char *file, char *error)
{
	for (int i = 0; i < config_setting_length(group); i++) {
		struct place place = {file, "", config_setting_get_elem(group, (unsigned)i), error};
		int r;

		snprintf(place.name, sizeof(place.name), "%s%s%s", prefix, *prefix ? "." : "",
			 config_setting_name(place.setting));
		if (!*prefix && config_setting_is_group(place.setting) && is_group(place.name))
			r = walk(settings, place.setting, place.name, file, error);
		else
			r = set_option(settings, &place);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What no single option can tell. */
static int check_pairs(const struct settings *settings, const char *path, char *error)
{
	if (settings->uplink.backoff_min_ms > settings->uplink.backoff_max_s * 1000LL)
		snprintf(error, SETTINGS_ERROR,
			 "%s: uplink.backoff_min_ms: expected at most uplink.backoff_max_s (%d s), "
			 "not %d ms",
			 path, settings->uplink.backoff_max_s, settings->uplink.backoff_min_ms);
	else if (settings->relay.retry_min_s > settings->relay.retry_max_s)
		snprintf(error, SETTINGS_ERROR,
			 "%s: relay.retry_min_s: expected at most relay.retry_max_s (%d s), not %d "
			 "s",
			 path, settings->relay.retry_max_s, settings->relay.retry_min_s);
	else
		return 0;
	return -EINVAL;
}

static int read_file(config_t *file, const char *path, char *error)
{
	FILE *f = fopen(path, "re");
	struct stat st;
	int r = 0;

	if (!f || fstat(fileno(f), &st) < 0)
		r = -errno;
	else if (S_ISDIR(st.st_mode))
		r = -EISDIR;
	if (f)
		fclose(f);
	if (r < 0) {
		snprintf(error, SETTINGS_ERROR, "%s: %s", path, strerror(-r));
		return r;
	}
	/* By name, so that an @include's lines are told apart from the file's own. */
	if (config_read_file(file, path) == CONFIG_TRUE)
		return 0;
	snprintf(error, SETTINGS_ERROR,
		 "%s:%d: %s here or just before: text stands in \"quotes\", numbers, true and "
		 "false do not, and every setting ends with ;",
		 config_error_file(file) ? config_error_file(file) : path, config_error_line(file),
		 config_error_text(file));
	return -EINVAL;
}

int settings_load(const char *path, struct settings *settings, char ret_error[SETTINGS_ERROR])
{
	config_t file;
	int r = settings_init(settings);

	config_init(&file);
	if (r < 0)
		snprintf(ret_error, SETTINGS_ERROR, "%s: out of memory", path);
	if (r == 0)
		r = read_file(&file, path, ret_error);
	if (r == 0)
		r = walk(settings, config_root_setting(&file), "", path, ret_error);
	if (r == 0)
		r = check_pairs(settings, path, ret_error);
	config_destroy(&file);
	if (r < 0)
		settings_done(settings);
	return r;
}
