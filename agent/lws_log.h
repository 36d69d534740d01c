/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libwebsockets' log. It goes to ours, at debug level. It is also the only place where
 * libwebsockets says why a connection failed, so that is picked out of it; as it is global to the
 * process, so is what is kept here.
 */
#pragma once

void lws_log_init(void);
/* A connection is being attempted: forget the last one, and watch for what makes it fail. */
void lws_log_watch(void);
/* The attempt is over. Returns what made it fail, in words, or NULL where nothing was said of it;
 * valid until the next lws_log_watch. */
const char *lws_log_cause(void);
