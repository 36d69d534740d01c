/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The screens: renderings of the daemon's answers, within page->columns, without colour and without
 * anything but lines. What an older daemon does not tell is left out. They sort and clean the object,
 * which is not to be printed as JSON after that.
 */
#pragma once

#include "agent/ctl.h"
#include "agent/ctl_text.h"

#define CTL_INDENT 11 /* of what belongs to a line with a heading */

/* Each takes what the request of that name answers, adapters and uplink what status does. */
void ctl_screen_status(const struct ctl_page *page, struct json_object *o);
void ctl_screen_adapters(const struct ctl_page *page, struct json_object *o);
void ctl_screen_uplink(const struct ctl_page *page, struct json_object *o);
void ctl_screen_devices(const struct ctl_page *page, struct json_object *o);
void ctl_screen_device(const struct ctl_page *page, struct json_object *o);
/* With "relay" of status added to it, where it is to show the queue. */
void ctl_screen_sessions(const struct ctl_page *page, struct json_object *o);
void ctl_screen_journal(const struct ctl_page *page, struct json_object *o);
void ctl_screen_log(const struct ctl_page *page, struct json_object *o);
void ctl_screen_log_level(const struct ctl_page *page, struct json_object *o);

/* What devices answers, put in that order. */
void ctl_sort_devices(struct json_object *o, enum ctl_sort sort);
/* One event in a line. */
void ctl_print_event(const struct ctl_page *page, struct json_object *event);

/* Asks, and prints the answer as it came or as a screen. EXIT_NOT_WORKING where it says that the hub does not. */
enum exit_code ctl_show(const struct ctl *ctl, const char *request,
			void (*screen)(const struct ctl_page *page, struct json_object *o));
/* Of status that part alone. working: the part's "state" where it works, else EXIT_NOT_WORKING. */
enum exit_code ctl_show_part(const struct ctl *ctl, const char *part, const char *working,
			     void (*screen)(const struct ctl_page *page, struct json_object *o));

/* --- Parts that several screens have. --- */

/* The connection to the cloud, out of status. said: text that is on the screen already, and not to be
 * repeated; NULL: everything there is, for a screen of its own. */
void ctl_part_uplink(const struct ctl_page *page, struct json_object *status, const char *said);
/* What is done about an adapter that hears nothing; nothing where there is nothing to do. */
void ctl_part_supervisor(const struct ctl_page *page, struct json_object *s, const char *said);
/* The headings of a list of sessions, live or ended; one of them; what the columns mean. */
void ctl_part_session_head(const struct ctl_page *page);
void ctl_part_session(const struct ctl_page *page, struct json_object *s);
void ctl_part_session_legend(const struct ctl_page *page);
/* Adds what one in the queue waits for. floor_dbm: relay.rssi_floor_dbm, 0 where not known. said: as
 * above. */
void ctl_part_wait(struct ctl_row *row, struct json_object *a, int64_t floor_dbm, const char *said);
/* Whether said tells the text already; NULL tells nothing. */
bool ctl_is_said(const char *said, const char *text);
