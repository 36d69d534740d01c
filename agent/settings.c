/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/settings.h"

#include <errno.h>
#include <libconfig.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "agent/settings_options.h"
#include "agent/util.h"

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

static int set_float(const struct place *place, const struct option *o, double *ret)
{
	int type = config_setting_type(place->setting);
	double value;

	if (type == CONFIG_TYPE_FLOAT)
		value = config_setting_get_float(place->setting);
	else if (type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64)
		value = (double)config_setting_get_int64(place->setting);
	else
		return refuse(place, "expected a number from %d to %d (%s), not %s", o->min, o->max,
			      o->expected, type_name(place->setting));
	if (!(value >= o->min && value <= o->max))
		return refuse(place, "expected a number from %d to %d (%s), not %g", o->min, o->max,
			      o->expected, value);
	*ret = value;
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
	if (!o->valid(value, &what) && o->secret)
		return refuse(place, "expected %s: %s", o->expected, what);
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

/* One by itself is a list of one, and an empty one of none. */
static int set_list(const struct place *place, const struct option *o, struct settings_list *ret)
{
	const config_setting_t *setting = place->setting;
	const char *single = config_setting_get_string(setting);
	int n = single ? *single != '\0' : config_setting_length(setting), r = 0;
	struct settings_list list = {0};

	if (!single && !config_setting_is_array(setting) && !config_setting_is_list(setting))
		return refuse(place, "expected %s, or [ ... ] of them, not %s", o->expected,
			      type_name(setting));
	if (n > o->max)
		return refuse(place, "expected at most %d of them, not %d", o->max, n);
	/* One more, as calloc may have NULL for none. */
	list.items = calloc((size_t)n + 1, sizeof(*list.items));
	if (!list.items)
		return refuse(place, "out of memory");
	for (int i = 0; i < n && r == 0; i++) {
		struct place item = *place;

		if (!single) {
			item.setting = config_setting_get_elem(setting, (unsigned)i);
			snprintf(item.name, sizeof(item.name), "%.100s: element %d", place->name,
				 i + 1);
		}
		r = add_item(&item, o, &list);
	}
	if (r < 0) {
		option_free_list(&list);
		return r;
	}
	option_free_list(ret);
	*ret = list;
	return 0;
}

static const struct option *find(const char *name)
{
	for (size_t i = 0; i < settings_n_options; i++) {
		if (strcmp(settings_options[i].name, name) == 0)
			return &settings_options[i];
	}
	return NULL;
}

static bool is_group(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < settings_n_options; i++) {
		if (strncmp(settings_options[i].name, name, len) == 0 &&
		    settings_options[i].name[len] == '.')
			return true;
	}
	return false;
}

/* Says what there is where the unknown option stands, or where one of its name does. */
static int refuse_unknown(const struct place *place)
{
	const char *dot = strchr(place->name, '.');
	size_t prefix = dot ? (size_t)(dot - place->name) + 1 : 0;
	char known[480] = "";

	for (size_t i = 0; i < settings_n_options; i++) {
		const char *name = settings_options[i].name, *own = strchr(name, '.');
		size_t len = strlen(known);

		if (!dot && own && strcmp(own + 1, place->name) == 0)
			return refuse(place, "unknown option; there is %s", name);
		if (strncmp(name, place->name, prefix) == 0 && (dot || !own))
			snprintf(known + len, sizeof(known) - len, "%s%s", len ? ", " : "",
				 name + prefix);
	}
	return refuse(place, "unknown option; there are %s%s", known,
		      dot ? ""
			  : " and the groups uplink, auth, location, bluetooth, devices, relay");
}

static int set_option(struct settings *settings, const struct place *place)
{
	const struct option *o = find(place->name);

	if (!o && is_group(place->name))
		return refuse(place, "expected a group: { ... }");
	if (!o)
		return refuse_unknown(place);
	if (o->type == OPTION_INT)
		return set_int(place, o, option_field(settings, o));
	if (o->type == OPTION_FLOAT)
		return set_float(place, o, option_field(settings, o));
	if (o->type == OPTION_BOOL)
		return set_bool(place, option_field(settings, o));
	if (o->type == OPTION_LIST)
		return set_list(place, o, option_field(settings, o));
	return set_string(place, o, option_field(settings, o));
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
	else if (strcmp(settings->auth.mode, "token") == 0 && !*settings->auth.token_file)
		snprintf(error, SETTINGS_ERROR,
			 "%s: auth.token_file: expected one, as auth.mode is "
			 "\"token\"",
			 path);
	else if (strcmp(settings->auth.mode, "certificate") == 0 &&
		 !*settings->auth.certificate_file)
		snprintf(error, SETTINGS_ERROR,
			 "%s: auth.certificate_file: expected one, as "
			 "auth.mode is \"certificate\"",
			 path);
	else if (isnan(settings->location.latitude) != isnan(settings->location.longitude))
		snprintf(error, SETTINGS_ERROR,
			 "%s: location: expected latitude and longitude "
			 "together, or neither",
			 path);
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
