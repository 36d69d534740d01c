/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/service.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#ifndef BLE_BASU /* which has no sd-daemon, as where it is used there is no systemd */
#include <systemd/sd-daemon.h>
#endif

#include "agent/log.h"
#include "agent/loop.h"
#include "agent/util.h"

#define ALARMS_PER_WATCHDOG 3 /* how often it is put off in its time */

struct service {
	struct service_config config;
	bool managed; /* somebody listens */
	bool stopping;
	uint64_t ping_ms; /* from one sign of life to the next; 0 where none is wanted */
	struct loop_timer status_timer;
	struct loop_timer ping_timer;
	struct loop_timer alarm_timer;
	char status[SERVICE_STATUS_MAX]; /* that was told last */
};

#ifndef BLE_BASU
static void find_manager(struct service *service)
{
	uint64_t us;

	service->managed = getenv("NOTIFY_SOCKET");
	if (service->managed && sd_watchdog_enabled(0, &us) > 0)
		service->ping_ms = MAX(us / 2000, (uint64_t)1);
}

static void send_text(const char *text)
{
	int r = sd_notify(0, text);

	if (r < 0)
		log_debug("service manager: cannot be told anything: %s", strerror(-r));
}
#else
static void find_manager(struct service *service)
{
	(void)service;
}

static void send_text(const char *text)
{
	(void)text;
}
#endif

static void notify(struct service *service, const char *fmt, ...) _printf_(2, 3);

static void notify(struct service *service, const char *fmt, ...)
{
	char text[SERVICE_STATUS_MAX + 64];
	va_list args;

	if (!service->managed)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	send_text(text);
}

/* Returns whether it differs from what was told last. */
static bool describe(struct service *service)
{
	char text[SERVICE_STATUS_MAX];

	service->config.describe(service->config.userdata, text, sizeof(text));
	/* A peer's words may be in it, and the next line would be another message. */
	for (char *p = text; *p; p++) {
		if ((unsigned char)*p < ' ')
			*p = '?';
	}
	if (strcmp(text, service->status) == 0)
		return false;
	memcpy(service->status, text, strlen(text) + 1);
	return true;
}

static void on_status_timer(void *userdata)
{
	struct service *service = userdata;

	if (describe(service))
		notify(service, "STATUS=%s", service->status);
	loop_timer_start(&service->status_timer, SERVICE_STATUS_MS);
}

static void on_ping_timer(void *userdata)
{
	struct service *service = userdata;

	notify(service, "WATCHDOG=1");
	loop_timer_start(&service->ping_timer, service->ping_ms);
}

static void on_alarm_timer(void *userdata)
{
	struct service *service = userdata;

	alarm(service->config.watchdog_s);
	loop_timer_start(&service->alarm_timer,
			 service->config.watchdog_s * 1000 / ALARMS_PER_WATCHDOG);
}

static void on_alarm(int signal_number)
{
	_exit(128 + signal_number);
}

/* Whoever started us may have left the signal ignored or blocked. The first process of a PID
 * namespace, as in a jail of procd, is ended by none that it does not handle. */
static void start_alarm(struct service *service)
{
	sigset_t set;

	signal(SIGALRM, getpid() == 1 ? on_alarm : SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	on_alarm_timer(service);
}

int service_new(struct loop *loop, const struct service_config *config, struct service **ret)
{
	struct service *service = calloc(1, sizeof(*service));

	if (!service)
		return -ENOMEM;
	service->config = *config;
	loop_timer_init(loop, &service->status_timer, on_status_timer, service);
	loop_timer_init(loop, &service->ping_timer, on_ping_timer, service);
	loop_timer_init(loop, &service->alarm_timer, on_alarm_timer, service);
	find_manager(service);
	if (config->watchdog_s > 0)
		start_alarm(service);
	*ret = service;
	return 0;
}

void service_free(struct service *service)
{
	if (!service)
		return;
	loop_timer_stop(&service->status_timer);
	loop_timer_stop(&service->ping_timer);
	loop_timer_stop(&service->alarm_timer);
	if (service->config.watchdog_s > 0)
		alarm(0);
	free(service);
}

void service_ready(struct service *service)
{
	if (!service->managed || service->stopping)
		return;
	describe(service);
	notify(service, "READY=1\nSTATUS=%s", service->status);
	loop_timer_start(&service->status_timer, SERVICE_STATUS_MS);
	if (service->ping_ms > 0 && !service->ping_timer.armed)
		on_ping_timer(service);
}

/* The time tells systemd that this answers its own SIGHUP: Type=notify-reload. */
void service_reloading(struct service *service)
{
	if (!service->stopping)
		notify(service, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
		       util_now_us() - UTIL_CLOCK_AHEAD_US);
}

void service_stopping(struct service *service)
{
	service->stopping = true;
	loop_timer_stop(&service->status_timer);
	notify(service, "STOPPING=1\nSTATUS=Stopping");
}
