/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "agent/fold.h"

enum destination {
	TO_STDERR,
	TO_JOURNAL, /* which is what standard error is */
	TO_SYSLOG,
};

static enum log_level current_level = LOG_LEVEL_INFO;
static enum destination destination;
static struct fold fold; /* without its callback until it is used: no room in the executable */
static void (*due_handler)(void *userdata, uint64_t due_ms);
static void *due_userdata;
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

/* That the variable is there says nothing: children of a service inherit it. */
static bool is_journal(const struct stat *st)
{
	const char *text = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	char more;

	return text && sscanf(text, "%llu:%llu%c", &device, &inode, &more) == 2 &&
	       device == st->st_dev && inode == st->st_ino;
}

void log_as_found(const char *ident)
{
	struct stat st;

	if (fstat(STDERR_FILENO, &st) < 0 ||
	    (S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3))) /* /dev/null */
		log_to_syslog(ident);
	else
		destination = is_journal(&st) ? TO_JOURNAL : TO_STDERR;
}

bool log_is_plain(void)
{
	return destination == TO_STDERR;
}

void log_to_syslog(const char *ident)
{
	openlog(ident, LOG_PID, LOG_DAEMON);
	destination = TO_SYSLOG;
}

void log_on_due(void (*on_due)(void *userdata, uint64_t due_ms), void *userdata)
{
	due_handler = on_due;
	due_userdata = userdata;
}

static void tell_due(uint64_t due_ms)
{
	if (due_handler && due_ms != UINT64_MAX)
		due_handler(due_userdata, due_ms);
}

void log_flush(void)
{
	fold_flush(&fold, util_now_ms());
	tell_due(fold_due_ms(&fold));
}

void log_flush_all(void)
{
	fold_flush_all(&fold, util_now_ms());
}

void log_set_level(enum log_level level)
{
	if (level != current_level)
		log_flush_all();
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

static void write_stderr(enum log_level level, const char *text)
{
	struct timespec ts;
	struct tm tm;
	char when[32];

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(when, sizeof(when), "%FT%T", &tm);
	fprintf(stderr, "%s.%03ldZ %-7s %s\n", when, ts.tv_nsec / 1000000, levels[level].name,
		text);
}

static void write_line(void *userdata, enum log_level level, const char *text)
{
	(void)userdata;
	switch (destination) {
	case TO_STDERR:
		write_stderr(level, text);
		break;
	case TO_JOURNAL:
		fprintf(stderr, "<%d>%s\n", levels[level].priority, text);
		break;
	case TO_SYSLOG:
		syslog(levels[level].priority, "%s", text);
	}
}

static void say(enum log_level level, const char *text)
{
	uint64_t before_ms = fold_due_ms(&fold), due_ms;

	fold.write = write_line;
	fold_say(&fold, util_now_ms(), level, text);
	due_ms = fold_due_ms(&fold);
	if (due_ms < before_ms)
		tell_due(due_ms);
}

void log_write(enum log_level level, enum log_event event, const char *fmt, ...)
{
	char text[LOG_LINE_MAX];
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
	if (level == LOG_LEVEL_DEBUG)
		write_line(NULL, level, text);
	else
		say(level, text);
}
