/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to be set: the table of all options. For settings.c and settings_change.c alone. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent/settings.h"

enum option_type {
	OPTION_INT,
	OPTION_FLOAT,
	OPTION_BOOL,
	OPTION_STRING,
	OPTION_LIST,
};

struct option {
	const char *name; /* with its group */
	enum option_type type;
	enum settings_effect effect; /* of a change while the daemon runs */
	size_t offset; /* in struct settings */
	int min, max; /* of a number; max: items of a list */
	int number; /* default of an integer or a boolean; that of a floating-point number is none */
	const char *text; /* default of a string; that of a list is empty */
	const char *expected; /* unit of an integer; what a string, or each of a list, must be */
	bool (*valid)(const char *value, const char **ret_what); /* the same */
	bool secret; /* its value may hold one, and is not shown */
};

extern const struct option settings_options[];
extern const size_t settings_n_options;

/* Where the option's value is. */
void *option_field(struct settings *settings, const struct option *option);
const void *option_value(const struct settings *settings, const struct option *option);
void option_free_list(struct settings_list *list);
