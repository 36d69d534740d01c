/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/settings.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/settings_options.h"
#include "agent/util.h"

void *option_field(struct settings *settings, const struct option *option)
{
	return (char *)settings + option->offset;
}

const void *option_value(const struct settings *settings, const struct option *option)
{
	return (const char *)settings + option->offset;
}

void option_free_list(struct settings_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct settings_list){0};
}

int settings_init(struct settings *settings)
{
	memset(settings, 0, sizeof(*settings));
	for (size_t i = 0; i < settings_n_options; i++) {
		const struct option *o = &settings_options[i];

		if (o->type == OPTION_INT)
			*(int *)option_field(settings, o) = o->number;
		else if (o->type == OPTION_FLOAT)
			*(double *)option_field(settings, o) = NAN;
		else if (o->type == OPTION_BOOL)
			*(bool *)option_field(settings, o) = o->number;
		else if (o->type == OPTION_STRING &&
			 !(*(char **)option_field(settings, o) = strdup(o->text)))
			return -ENOMEM;
	}
	return 0;
}

void settings_done(struct settings *settings)
{
	for (size_t i = 0; i < settings_n_options; i++) {
		if (settings_options[i].type == OPTION_STRING)
			free(*(char **)option_field(settings, &settings_options[i]));
		else if (settings_options[i].type == OPTION_LIST)
			option_free_list(option_field(settings, &settings_options[i]));
	}
	memset(settings, 0, sizeof(*settings));
}

static bool equal_lists(const struct settings_list *a, const struct settings_list *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++) {
		if (strcmp(a->items[i], b->items[i]) != 0)
			return false;
	}
	return true;
}

static bool equal(const struct option *o, const struct settings *x, const struct settings *y)
{
	const void *a = option_value(x, o), *b = option_value(y, o);

	switch (o->type) {
	case OPTION_INT:
		return *(const int *)a == *(const int *)b;
	case OPTION_FLOAT:
		return *(const double *)a == *(const double *)b ||
		       (isnan(*(const double *)a) && isnan(*(const double *)b));
	case OPTION_BOOL:
		return *(const bool *)a == *(const bool *)b;
	case OPTION_STRING:
		return strcmp(*(char *const *)a, *(char *const *)b) == 0;
	case OPTION_LIST:
		break;
	}
	return equal_lists(a, b);
}

unsigned settings_changed(const struct settings *a, const struct settings *b)
{
	unsigned effects = 0;

	for (size_t i = 0; i < settings_n_options; i++) {
		if (!equal(&settings_options[i], a, b))
			effects |= settings_options[i].effect;
	}
	return effects;
}

void settings_changed_names(const struct settings *a, const struct settings *b, unsigned effects,
			    char *ret, size_t size)
{
	*ret = '\0';
	for (size_t i = 0; i < settings_n_options; i++) {
		const struct option *o = &settings_options[i];
		size_t len = strlen(ret);

		if ((o->effect & effects) && !equal(o, a, b))
			snprintf(ret + len, size - len, "%s%s", len > 0 ? ", " : "", o->name);
	}
}

static int copy_list(const struct settings_list *from, struct settings_list *ret)
{
	struct settings_list list = {.items = calloc(from->n + 1, sizeof(*list.items))};

	if (!list.items)
		return -ENOMEM;
	for (; list.n < from->n; list.n++) {
		list.items[list.n] = strdup(from->items[list.n]);
		if (!list.items[list.n]) {
			option_free_list(&list);
			return -ENOMEM;
		}
	}
	option_free_list(ret);
	*ret = list;
	return 0;
}

static int copy_text(const char *from, char **ret)
{
	char *copy = strdup(from);

	if (!copy)
		return -ENOMEM;
	free(*ret);
	*ret = copy;
	return 0;
}

static int copy_option(const struct option *o, const struct settings *from, struct settings *to)
{
	const void *value = option_value(from, o);
	void *field = option_field(to, o);

	if (o->type == OPTION_STRING)
		return copy_text(*(char *const *)value, field);
	if (o->type == OPTION_LIST)
		return copy_list(value, field);
	memcpy(field, value,
	       o->type == OPTION_FLOAT	? sizeof(double)
	       : o->type == OPTION_BOOL ? sizeof(bool)
					: sizeof(int));
	return 0;
}

int settings_copy(const struct settings *from, unsigned effects, struct settings *to)
{
	for (size_t i = 0; i < settings_n_options; i++) {
		const struct option *o = &settings_options[i];
		int r = o->effect & effects ? copy_option(o, from, to) : 0;

		if (r < 0)
			return r;
	}
	return 0;
}
