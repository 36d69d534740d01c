/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doctor: checks each step from the configuration to the cloud, in an order in which each needs
 * those before. What the daemon knows it says itself; where none runs, one that only tries is
 * started for that (ctl_doctor_probe.h), and none beside one that does.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>

#include "agent/ctl.h"
#include "agent/ctl_client.h"
#include "agent/ctl_doctor_probe.h"
#include "agent/settings.h"
#include "agent/util.h"

#define DOCTOR_EXIT   10 /* and the number of the first check that failed, from 0 */
#define DOCTOR_FOUND  800 /* bytes of a text, NUL included */
#define DOCTOR_ADVICE 320
#define DOCTOR_PATH   512

/* What is waited for, at most. */
#define DOCTOR_POLL_MS	  200
#define DOCTOR_START_MS	  10000 /* until a probe answers */
#define DOCTOR_SETTLE_S	  5 /* a state of the radio that lasts as long is no passing one */
#define DOCTOR_RADIO_MS	  15000
#define DOCTOR_ADVERT_S	  10 /* without an advert */
#define DOCTOR_CONNECT_MS 30000
#define DOCTOR_UNACKED_S  30 /* without an acknowledgement: the cloud gives none */

enum doctor_check {
	DOCTOR_CONFIGURATION,
	DOCTOR_KEY,
	DOCTOR_CLOCK,
	DOCTOR_DBUS,
	DOCTOR_BLUETOOTHD,
	DOCTOR_ADAPTER,
	DOCTOR_SCANNING,
	DOCTOR_ADVERTS,
	DOCTOR_NAME,
	DOCTOR_TCP,
	DOCTOR_TLS,
	DOCTOR_UPGRADE,
	DOCTOR_HELLO,
	DOCTOR_REPORTS,
	DOCTOR_DAEMON,
	DOCTOR_CHECKS,
};

enum doctor_result { DOCTOR_NOT_CHECKED, DOCTOR_OK, DOCTOR_FAILED };

struct doctor_finding {
	enum doctor_result result;
	char found[DOCTOR_FOUND];
	char advice[DOCTOR_ADVICE]; /* of one that failed */
};

enum doctor_daemon {
	DOCTOR_DAEMON_DOWN,
	DOCTOR_DAEMON_RUNS,
	DOCTOR_DAEMON_HANGS, /* it listens, and does not answer */
	DOCTOR_DAEMON_DENIED, /* it cannot be asked, so it may well run */
};

struct doctor {
	const struct ctl *ctl; /* not owned */
	char *config; /* owned: the file the daemon uses or would use; NULL without memory */
	int settings_result; /* of settings_load */
	struct settings settings; /* all zero where it failed */
	char settings_error[SETTINGS_ERROR];

	char socket[DOCTOR_PATH]; /* where the daemon is asked */
	enum doctor_daemon daemon;
	char daemon_error[DOCTOR_FOUND]; /* why there is no status, or none any more */
	struct doctor_probe probe;
	bool probe_failed; /* to start; daemon_error says why */
	struct json_object *status; /* owned: the last answer, NULL for none */

	sigset_t signals, mask; /* that end it; the mask of before */
	bool works; /* as the daemon itself says */
	bool no_key; /* there is none yet: the cloud would not know a probe */
	int signal; /* that ended it, 0 for none */
	uint64_t began_ms;
	enum doctor_check check; /* under way */
	struct doctor_finding findings[DOCTOR_CHECKS];
};

const char *doctor_check_name(enum doctor_check check);
/* For what a check finds. */
void doctor_ok(struct doctor_finding *f, const char *fmt, ...) _printf_(2, 3);
/* advice: empty for none. */
void doctor_fail(struct doctor_finding *f, const char *advice, const char *fmt, ...) _printf_(3, 4);

/* --- Of the daemon --- */

/* Finds out whether one runs, and with which file. */
void doctor_find_daemon(struct doctor *doctor);
/* Starts a probe where none runs and what it needs is there. */
void doctor_start_probe(struct doctor *doctor);
/* Lets some time pass, and asks for the status again. Returns false where that makes no sense any
 * more: no answer comes, or a signal did. */
bool doctor_wait(struct doctor *doctor);
/* Of the check under way. */
uint64_t doctor_waited_ms(const struct doctor *doctor);
/* Ends the probe, and what doctor_find_daemon began. */
void doctor_leave_daemon(struct doctor *doctor);

/* --- The checks: each fills in what it finds, or leaves it where it cannot find out --- */

void doctor_configuration(struct doctor *doctor, struct doctor_finding *f);
void doctor_key(struct doctor *doctor, struct doctor_finding *f);
void doctor_clock(struct doctor *doctor, struct doctor_finding *f);
void doctor_dbus(struct doctor *doctor, struct doctor_finding *f);
void doctor_bluetoothd(struct doctor *doctor, struct doctor_finding *f);
void doctor_adapter(struct doctor *doctor, struct doctor_finding *f);
void doctor_scanning(struct doctor *doctor, struct doctor_finding *f);
void doctor_adverts(struct doctor *doctor, struct doctor_finding *f);
void doctor_name(struct doctor *doctor, struct doctor_finding *f);
void doctor_tcp(struct doctor *doctor, struct doctor_finding *f);
void doctor_tls(struct doctor *doctor, struct doctor_finding *f);
void doctor_upgrade(struct doctor *doctor, struct doctor_finding *f);
void doctor_hello(struct doctor *doctor, struct doctor_finding *f);
void doctor_reports(struct doctor *doctor, struct doctor_finding *f);
void doctor_daemon(struct doctor *doctor, struct doctor_finding *f);
