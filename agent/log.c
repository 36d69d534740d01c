/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

static enum log_level current_level = LOG_LEVEL_INFO;
static bool use_syslog;
static void (*observer)(void *userdata, const struct log_line *line);
static void *observer_userdata;

static const struct {
	const char *name;
	int priority;
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", LOG_ERR},
	[LOG_LEVEL_WARNING] = {"warning", LOG_WARNING},
	[LOG_LEVEL_INFO] = {"info", LOG_INFO},
	[LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
};

static const char *const event_names[] = {
	[LOG_EVENT_NONE] = "none",
	[LOG_EVENT_START] = "start",
	[LOG_EVENT_STOP] = "stop",
	[LOG_EVENT_CONFIGURATION] = "configuration",
	[LOG_EVENT_BLUETOOTH] = "bluetooth",
	[LOG_EVENT_ADAPTER] = "adapter",
	[LOG_EVENT_SUPERVISOR] = "supervisor",
	[LOG_EVENT_UPLINK] = "uplink",
	[LOG_EVENT_DEVICE] = "device",
	[LOG_EVENT_SESSION] = "session",
};

const char *log_event_name(enum log_event event)
{
	return event_names[event];
}

void log_observe(void (*on_line)(void *userdata, const struct log_line *line), void *userdata)
{
	observer = on_line;
	observer_userdata = userdata;
}

void log_to_syslog(const char *ident)
{
	openlog(ident, LOG_PID, LOG_DAEMON);
	use_syslog = true;
}

void log_set_level(enum log_level level)
{
	current_level = level;
}

enum log_level log_get_level(void)
{
	return current_level;
}

const char *log_level_name(enum log_level level)
{
	return levels[level].name;
}

int log_level_parse(const char *name, enum log_level *ret)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcmp(name, levels[i].name) != 0)
			continue;
		*ret = (enum log_level)i;
		return 0;
	}
	return -EINVAL;
}

/* journald and procd keep the time themselves; journald reads the priority from "<N>". */
static void write_stderr(enum log_level level, const char *text)
{
	struct timespec ts;
	struct tm tm;
	char when[32];

	if (getenv("JOURNAL_STREAM")) {
		fprintf(stderr, "<%d>%s\n", levels[level].priority, text);
		return;
	}
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(when, sizeof(when), "%FT%T", &tm);
	fprintf(stderr, "%s.%03ldZ %-7s %s\n", when, ts.tv_nsec / 1000000, levels[level].name,
		text);
}

void log_write(enum log_level level, enum log_event event, const char *fmt, ...)
{
	char text[1024];
	const struct log_line line = {level, event, text};
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	/* One event is one line, whatever a peer put into a reason. */
	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = '?';
	}
	if (observer)
		observer(observer_userdata, &line);
	if (level > current_level)
		return;
	if (use_syslog)
		syslog(levels[level].priority, "%s", text);
	else
		write_stderr(level, text);
}
