/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a service manager wants of the process it started. systemd is told over sd_notify(3) that
 * the agent runs, how it is, and that its loop turns; for any other there is a watchdog of our own,
 * an alarm(2) that ends a process whose loop hangs, so that it is started again.
 */
#pragma once

#include <stddef.h>

struct loop;
struct service;

#define SERVICE_STATUS_MAX   2048 /* bytes of what describe writes, NUL included */
#define SERVICE_STATUS_MS    1000 /* from one look at it to the next */
#define SERVICE_WATCHDOG_MIN 10 /* seconds; less would end an agent that is merely slow */
#define SERVICE_WATCHDOG_MAX 600

struct service_config {
	unsigned watchdog_s; /* the process ends if the loop hangs for as long; 0 for never */
	/* How the agent is, in a line. Called from service_ready on, where anybody wants to know. */
	void (*describe)(void *userdata, char *ret, size_t size);
	void *userdata; /* not owned */
};

/* The alarm runs from here on. Returns 0 or -ENOMEM. */
int service_new(struct loop *loop, const struct service_config *config, struct service **ret);
/* NULL is fine. Ends the alarm. */
void service_free(struct service *service);
/* It runs, or it has read its configuration again. */
void service_ready(struct service *service);
/* It reads its configuration again: service_ready follows. */
void service_reloading(struct service *service);
/* It is about to end, and the others do nothing any more. */
void service_stopping(struct service *service);
