/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/settings_text.h"

#include <math.h>
#include <string.h>

#include "agent/settings_options.h"

#define REMOVED "(removed)"

/* As libconfig reads it. */
static void write_string(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		if ((unsigned char)*text < ' ')
			fprintf(out, "\\x%02x", (unsigned char)*text);
		else
			fputc(*text, out);
	}
	fputc('"', out);
}

static void write_list(FILE *out, const struct settings_list *list)
{
	fputs("[", out);
	for (size_t i = 0; i < list->n; i++) {
		fputs(i > 0 ? ", " : " ", out);
		write_string(out, list->items[i]);
	}
	fputs(list->n > 0 ? " ]" : "]", out);
}

static void write_value(FILE *out, const struct option *o, const void *value)
{
	const char *text;

	switch (o->type) {
	case OPTION_INT:
		fprintf(out, "%d", *(const int *)value);
		break;
	case OPTION_FLOAT:
		fprintf(out, "%.6f", *(const double *)value);
		break;
	case OPTION_BOOL:
		fputs(*(const bool *)value ? "true" : "false", out);
		break;
	case OPTION_STRING:
		text = *(char *const *)value;
		write_string(out, o->secret && *text ? REMOVED : text);
		break;
	case OPTION_LIST:
		write_list(out, value);
		break;
	}
}

/* A number without a default is not there until it is set. */
static bool is_set(const struct option *o, const void *value)
{
	return o->type != OPTION_FLOAT || !isnan(*(const double *)value);
}

void settings_write(FILE *out, const struct settings *settings)
{
	const char *group = "";
	size_t group_len = 0;

	for (size_t i = 0; i < settings_n_options; i++) {
		const struct option *o = &settings_options[i];
		const void *value = option_value(settings, o);
		const char *dot = strchr(o->name, '.');
		size_t len = dot ? (size_t)(dot - o->name) : 0;

		if (len != group_len || memcmp(o->name, group, len) != 0) {
			if (group_len > 0)
				fputs("};\n", out);
			fprintf(out, "%.*s: {\n", (int)len, o->name);
			group = o->name;
			group_len = len;
		}
		if (!is_set(o, value))
			continue;
		fprintf(out, "%s%s = ", len > 0 ? "\t" : "", dot ? dot + 1 : o->name);
		write_value(out, o, value);
		fputs(";\n", out);
	}
	if (group_len > 0)
		fputs("};\n", out);
}
