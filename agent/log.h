/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: four levels, to standard error or to syslog. A line of error, warning or info that was
 * said before is counted for a while instead of written again: see fold.h.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "agent/util.h"

#define LOG_LINE_MAX 1024 /* bytes of a line, NUL included; what is longer is cut off */

enum log_level {
	LOG_LEVEL_ERROR, /* somebody must act: the hub does not do its job until then */
	LOG_LEVEL_WARNING, /* something failed that the agent goes on from by itself */
	LOG_LEVEL_INFO, /* what happened: states, sessions, first sight of a device */
	LOG_LEVEL_DEBUG, /* every advert, message and D-Bus call, never their payload */
};

/* What a line tells of, where it is more than a line: an event. */
enum log_event {
	LOG_EVENT_NONE,
	LOG_EVENT_START,
	LOG_EVENT_STOP,
	LOG_EVENT_CONFIGURATION,
	LOG_EVENT_BLUETOOTH,
	LOG_EVENT_ADAPTER,
	LOG_EVENT_SUPERVISOR,
	LOG_EVENT_UPLINK,
	LOG_EVENT_DEVICE,
	LOG_EVENT_SESSION,
};
const char *log_event_name(enum log_event event);

struct log_line {
	enum log_level level;
	enum log_event event;
	const char *text; /* valid during the callback */
};

/* on_line gets every line the level lets through, also one that is only counted, and every event
 * whatever the level, and must not log. NULL: nobody. userdata is not owned. */
void log_observe(void (*on_line)(void *userdata, const struct log_line *line), void *userdata);

/* Goes where somebody reads, going by what standard error is: the journal, which gets the level as
 * it wants it; syslog, where it is /dev/null, as under procd; else standard error itself. */
void log_as_found(const char *ident);
/* Whether lines go to standard error with the time and the level, as people read them. */
bool log_is_plain(void);
/* Uses syslog from here on, whatever standard error is. */
void log_to_syslog(const char *ident);

/* on_due is told when log_flush has something to write (util_now_ms). NULL: nobody, and counts wait
 * for the next line that is said again. userdata is not owned. */
void log_on_due(void (*on_due)(void *userdata, uint64_t due_ms), void *userdata);
/* Writes the counts of repeated lines whose time has come. */
void log_flush(void);
/* Writes all of them; before the process ends. */
void log_flush_all(void);

/* What is counted is written before. */
void log_set_level(enum log_level level);
enum log_level log_get_level(void);
const char *log_level_name(enum log_level level);
/* Returns 0, or -EINVAL for a name that is no level. */
int log_level_parse(const char *name, enum log_level *ret);

void log_write(enum log_level level, enum log_event event, const char *fmt, ...) _printf_(3, 4);

/* The arguments are evaluated only where the level is on. */
#define log_at(level, ...)                                                                         \
	do {                                                                                       \
		if ((level) <= log_get_level())                                                    \
			log_write((level), LOG_EVENT_NONE, __VA_ARGS__);                           \
	} while (0)
#define log_error(...)	 log_at(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_at(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_at(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_at(LOG_LEVEL_DEBUG, __VA_ARGS__)
/* A line that is an event too. */
#define log_event(level, event, ...) log_write((level), (event), __VA_ARGS__)
