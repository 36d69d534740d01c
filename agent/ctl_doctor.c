/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent/ctl_commands.h"
#include "agent/ctl_text.h"

#define INDENT 23

/* needs: the check that must be ok before, itself for none. */
static const struct {
	const char *name;
	void (*look)(struct doctor *doctor, struct doctor_finding *f);
	enum doctor_check needs;
} checks[DOCTOR_CHECKS] = {
	[DOCTOR_CONFIGURATION] = {"configuration", doctor_configuration, DOCTOR_CONFIGURATION},
	[DOCTOR_KEY] = {"key", doctor_key, DOCTOR_KEY},
	[DOCTOR_CLOCK] = {"clock", doctor_clock, DOCTOR_CLOCK},
	[DOCTOR_DBUS] = {"D-Bus", doctor_dbus, DOCTOR_DBUS},
	[DOCTOR_BLUETOOTHD] = {"bluetoothd", doctor_bluetoothd, DOCTOR_DBUS},
	[DOCTOR_ADAPTER] = {"adapter", doctor_adapter, DOCTOR_BLUETOOTHD},
	[DOCTOR_SCANNING] = {"scanning", doctor_scanning, DOCTOR_ADAPTER},
	[DOCTOR_ADVERTS] = {"adverts", doctor_adverts, DOCTOR_SCANNING},
	[DOCTOR_NAME] = {"name", doctor_name, DOCTOR_NAME},
	[DOCTOR_TCP] = {"TCP", doctor_tcp, DOCTOR_NAME},
	[DOCTOR_TLS] = {"TLS", doctor_tls, DOCTOR_TCP},
	[DOCTOR_UPGRADE] = {"upgrade", doctor_upgrade, DOCTOR_TLS},
	[DOCTOR_HELLO] = {"hello", doctor_hello, DOCTOR_UPGRADE},
	[DOCTOR_REPORTS] = {"reports", doctor_reports, DOCTOR_HELLO},
	[DOCTOR_DAEMON] = {"daemon", doctor_daemon, DOCTOR_DAEMON},
};

static const char *const result_names[] = {"not-checked", "ok", "failed"};

const char *doctor_check_name(enum doctor_check check)
{
	return checks[check].name;
}

void doctor_ok(struct doctor_finding *f, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(f->found, sizeof(f->found), fmt, args);
	va_end(args);
	f->result = DOCTOR_OK;
}

void doctor_fail(struct doctor_finding *f, const char *advice, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(f->found, sizeof(f->found), fmt, args);
	va_end(args);
	snprintf(f->advice, sizeof(f->advice), "%s", advice);
	f->result = DOCTOR_FAILED;
}

static void examine(struct doctor *doctor)
{
	for (unsigned i = 0; i < DOCTOR_CHECKS && doctor->signal == 0; i++) {
		enum doctor_check needs = checks[i].needs;

		doctor->check = i;
		doctor->began_ms = util_now_ms();
		/* The first that asks a daemon. */
		if (i == DOCTOR_DBUS)
			doctor_start_probe(doctor);
		if (needs == i || doctor->findings[needs].result == DOCTOR_OK)
			checks[i].look(doctor, &doctor->findings[i]);
	}
}

/* Returns the exit code; ret_verdict is to be freed. */
static int conclude(const struct doctor *doctor, char **ret_verdict)
{
	int i = 0, r;

	while (i < DOCTOR_CHECKS && doctor->findings[i].result != DOCTOR_FAILED)
		i++;
	if (i == DOCTOR_CHECKS) {
		r = asprintf(ret_verdict, "All is well: %d checks passed", DOCTOR_CHECKS);
	} else {
		const struct doctor_finding *f = &doctor->findings[i];
		const char *stop = strchr(".?!", f->found[strlen(f->found) - 1]) ? "" : ".";

		r = asprintf(ret_verdict, "%s: %s%s%s%s",
			     doctor->works ? "Working, but" : "Not working", f->found,
			     *f->advice ? stop : "", *f->advice ? " Next: " : "", f->advice);
	}
	if (r < 0)
		*ret_verdict = NULL;
	return i == DOCTOR_CHECKS ? EXIT_OK : DOCTOR_EXIT + i;
}

/* So short that the verdict stays on a screen of 24 lines. */
static void print_text(const struct doctor *doctor, const char *verdict)
{
	static const char *const marks[] = {"-", "ok", "FAIL"};
	struct ctl_page page;
	bool said = false; /* the verdict's is the first that failed */

	ctl_page_init(&page, stdout);
	ctl_line(&page, 2, "%s", verdict);
	for (int i = 0; i < DOCTOR_CHECKS; i++) {
		const struct doctor_finding *f = &doctor->findings[i];
		bool above = f->result == DOCTOR_FAILED && !said;
		const char *found = f->result == DOCTOR_NOT_CHECKED ? "not checked" : f->found;

		ctl_line(&page, INDENT, "%d  %-4s %-13s %s", DOCTOR_EXIT + i, marks[f->result],
			 checks[i].name, above ? "see above" : found);
		said = said || above;
		if (*f->advice && !above)
			ctl_line(&page, INDENT, "%*sNext: %s", INDENT, "", f->advice);
	}
}

static void add(struct json_object *o, const char *key, const char *text)
{
	if (*text)
		json_object_object_add(o, key, json_object_new_string(text));
}

static void print_json(const struct doctor *doctor, const char *verdict, int code)
{
	struct json_object *o = json_object_new_object(), *list = json_object_new_array();

	add(o, "verdict", verdict);
	json_object_object_add(o, "code", json_object_new_int(code));
	for (int i = 0; i < DOCTOR_CHECKS; i++) {
		const struct doctor_finding *f = &doctor->findings[i];
		struct json_object *check = json_object_new_object();

		add(check, "check", checks[i].name);
		add(check, "result", result_names[f->result]);
		add(check, "found", f->found);
		add(check, "advice", f->advice);
		json_object_array_add(list, check);
	}
	json_object_object_add(o, "checks", list);
	ctl_print_json(o);
	json_object_put(o);
}

enum exit_code ctl_doctor(const struct ctl *ctl)
{
	struct doctor doctor = {.ctl = ctl, .probe = {.input = -1, .log = -1}};
	_cleanup_free_ char *verdict = NULL;
	int code;

	doctor_find_daemon(&doctor);
	examine(&doctor);
	doctor_leave_daemon(&doctor);
	code = conclude(&doctor, &verdict);
	if (doctor.signal != 0)
		raise(doctor.signal);
	if (doctor.signal != 0 || !verdict)
		return EXIT_FAILED;
	if (ctl->json)
		print_json(&doctor, verdict, code);
	else
		print_text(&doctor, verdict);
	return (enum exit_code)code;
}
