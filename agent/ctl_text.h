/* SPDX-License-Identifier: Apache-2.0 */
/* Lines for people, out of the daemon's JSON. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <json-c/json.h>

#include "agent/util.h"

/* A field of an object: of NULL, or absent, it is NULL, 0, false or "". */
struct json_object *ctl_get(struct json_object *o, const char *key);
bool ctl_has(struct json_object *o, const char *key);
int64_t ctl_number(struct json_object *o, const char *key);
double ctl_seconds(struct json_object *o, const char *key);
bool ctl_truth(struct json_object *o, const char *key);
/* Some of it comes from the cloud: a terminal gets nothing it would act on. Owned by o. */
const char *ctl_text(struct json_object *o, const char *key);
/* The same: of a list, its length and element i. */
size_t ctl_length(struct json_object *list);
struct json_object *ctl_item(struct json_object *list, size_t i);
/* The Device ID of what has a "device_url". */
const char *ctl_device_id(struct json_object *o);

/* One line on standard output. */
void ctl_print_json(struct json_object *o);

#define CTL_SHORT 24 /* bytes of a number or time in words, NUL included */

/* "12 s", "5 min", "3 h", "2 d": 6 characters, up to 27 years. */
const char *ctl_duration(double s, char ret[CTL_SHORT]);
/* How long ago, "5 min ago". */
const char *ctl_ago(double s, char ret[CTL_SHORT]);
/* "99999", "100k", "1.2M": 5 characters, below 10^15. */
const char *ctl_count(int64_t n, char ret[CTL_SHORT]);
/* "s", or "" of one */
const char *ctl_plural(int64_t n);
/* Whole days from one UTC time to another, as the daemon gives them. Returns false where one is none. */
bool ctl_days(const char *from, const char *to, int64_t *ret);

/* Where a screen goes. */
struct ctl_page {
	FILE *out; /* not owned */
	size_t columns; /* longer lines go on in the next; SIZE_MAX: never */
};

/* As wide as the terminal, if out is one. */
void ctl_page_init(struct ctl_page *page, FILE *out);
/* One line, continued where it is too long on lines that are indented. */
void ctl_line(const struct ctl_page *page, int indent, const char *fmt, ...) _printf_(3, 4);

/* A line that is put together of pieces: {0} at first. */
struct ctl_row {
	char *text; /* owned */
};

void ctl_row_add(struct ctl_row *row, const char *fmt, ...) _printf_(2, 3);
/* The same, and ", " before it where it is not the first of its line. */
void ctl_row_list(struct ctl_row *row, const char *fmt, ...) _printf_(2, 3);
/* Prints it as ctl_line does, or nothing where it is blank; and is empty again. */
void ctl_row_end(struct ctl_row *row, const struct ctl_page *page, int indent);
