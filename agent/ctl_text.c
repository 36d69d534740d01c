/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "agent/ctl_utf8.h"
#include "agent/util.h"

struct json_object *ctl_get(struct json_object *o, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(o, key, &value);
	return value;
}

bool ctl_has(struct json_object *o, const char *key)
{
	return ctl_get(o, key) != NULL;
}

int64_t ctl_number(struct json_object *o, const char *key)
{
	return json_object_get_int64(ctl_get(o, key));
}

double ctl_seconds(struct json_object *o, const char *key)
{
	return json_object_get_double(ctl_get(o, key));
}

bool ctl_truth(struct json_object *o, const char *key)
{
	return json_object_get_boolean(ctl_get(o, key));
}

const char *ctl_text(struct json_object *o, const char *key)
{
	char *s = (char *)json_object_get_string(ctl_get(o, key));

	if (!s)
		return "";
	ctl_utf8_clean(s);
	return s;
}

size_t ctl_length(struct json_object *list)
{
	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

struct json_object *ctl_item(struct json_object *list, size_t i)
{
	return json_object_array_get_idx(list, i);
}

const char *ctl_device_id(struct json_object *o)
{
	const char *url = ctl_text(o, "device_url"), *slash = strrchr(url, '/');

	return slash ? slash + 1 : url;
}

void ctl_print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN |
						       JSON_C_TO_STRING_NOSLASHESCAPE));
}

const char *ctl_duration(double s, char ret[CTL_SHORT])
{
	if (s < 99.5)
		snprintf(ret, CTL_SHORT, "%.*f s", s < 9.95 ? 1 : 0, s);
	else if (s < 5970)
		snprintf(ret, CTL_SHORT, "%.0f min", s / 60);
	else if (s < 48 * 3600)
		snprintf(ret, CTL_SHORT, "%.0f h", s / 3600);
	else
		snprintf(ret, CTL_SHORT, "%.0f d", s / 86400);
	return ret;
}

const char *ctl_ago(double s, char ret[CTL_SHORT])
{
	char t[CTL_SHORT];

	snprintf(ret, CTL_SHORT, "%.16s ago", ctl_duration(s, t));
	return ret;
}

const char *ctl_count(int64_t n, char ret[CTL_SHORT])
{
	static const char units[] = "kMGT";
	double value = (double)n;
	unsigned unit = 0;

	if (n < 100000) {
		snprintf(ret, CTL_SHORT, "%lld", (long long)n);
		return ret;
	}
	for (value /= 1000; value >= 999.5 && units[unit + 1]; unit++)
		value /= 1000;
	snprintf(ret, CTL_SHORT, "%.*f%c", value < 99.95 ? 1 : 0, value, units[unit]);
	return ret;
}

const char *ctl_plural(int64_t n)
{
	return n == 1 ? "" : "s";
}

static bool parse_time(const char *text, time_t *ret)
{
	struct tm tm = {0};

	if (!strptime(text, "%Y-%m-%dT%H:%M:%S", &tm))
		return false;
	*ret = timegm(&tm);
	return true;
}

bool ctl_days(const char *from, const char *to, int64_t *ret)
{
	time_t a, b;

	if (!parse_time(from, &a) || !parse_time(to, &b))
		return false;
	*ret = ((int64_t)b - a) / 86400;
	return true;
}

void ctl_page_init(struct ctl_page *page, FILE *out)
{
	struct winsize size = {0};

	*page = (struct ctl_page){.out = out, .columns = SIZE_MAX};
	if (!isatty(fileno(out)))
		return;
	ioctl(fileno(out), TIOCGWINSZ, &size);
	page->columns = size.ws_col > 40 ? size.ws_col : 80;
}

/* Bytes of text for one line that has so many columns, without the spaces at its end; a word is
 * broken where it cannot be moved to the next line: nothing stands before it but `margin` bytes. */
static size_t line_length(const char *text, size_t columns, size_t margin)
{
	size_t fit = ctl_utf8_fit(text, columns), len = fit;

	if (text[fit] != '\0') {
		while (len > margin && text[len] != ' ')
			len--;
		if (len <= margin)
			len = fit;
	}
	while (len > 0 && text[len - 1] == ' ')
		len--;
	return len;
}

static void print_lines(const struct ctl_page *page, int indent, const char *text)
{
	/* Some of each line is for its text, however narrow the page. */
	size_t margin = (size_t)indent, rest = MAX(page->columns, margin + 2) - margin;
	size_t columns = rest + margin;

	for (;;) {
		size_t n = line_length(text, columns, margin);

		fprintf(page->out, "%.*s\n", (int)n, text);
		text += n + strspn(text + n, " ");
		if (!*text)
			return;
		fprintf(page->out, "%*s", indent, "");
		columns = rest;
		margin = 0;
	}
}

/* Returns what is to be freed, NULL where there is no memory. */
static _printf_(1, 0) char *format(const char *fmt, va_list args)
{
	char *text = NULL;

	return vasprintf(&text, fmt, args) < 0 ? NULL : text;
}

void ctl_line(const struct ctl_page *page, int indent, const char *fmt, ...)
{
	_cleanup_free_ char *line = NULL;
	va_list args;

	va_start(args, fmt);
	line = format(fmt, args);
	va_end(args);
	if (line)
		print_lines(page, indent, line);
}

static void append(struct ctl_row *row, const char *separator, const char *piece)
{
	char *joined = NULL;

	if (piece &&
	    asprintf(&joined, "%s%s%s", row->text ? row->text : "", separator, piece) >= 0) {
		free(row->text);
		row->text = joined;
	}
}

void ctl_row_add(struct ctl_row *row, const char *fmt, ...)
{
	_cleanup_free_ char *piece = NULL;
	va_list args;

	va_start(args, fmt);
	piece = format(fmt, args);
	va_end(args);
	append(row, "", piece);
}

void ctl_row_list(struct ctl_row *row, const char *fmt, ...)
{
	_cleanup_free_ char *piece = NULL;
	bool first = !row->text || row->text[strspn(row->text, " ")] == '\0';
	va_list args;

	va_start(args, fmt);
	piece = format(fmt, args);
	va_end(args);
	append(row, first ? "" : ", ", piece);
}

void ctl_row_end(struct ctl_row *row, const struct ctl_page *page, int indent)
{
	_cleanup_free_ char *text = TAKE_PTR(row->text);

	if (text && text[strspn(text, " ")] != '\0')
		print_lines(page, indent, text);
}
