/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon says of D-Bus, bluetoothd, the adapters and what they hear. */
#include "agent/ctl_doctor.h"

#include <stdio.h>
#include <string.h>

#include "agent/ctl_text.h"

#define NAMES_MAX 400

static struct json_object *bluetooth_of(const struct doctor *doctor)
{
	return ctl_get(doctor->status, "bluetooth");
}

static bool is_state(const struct doctor *doctor, const char *state)
{
	return strcmp(ctl_text(bluetooth_of(doctor), "state"), state) == 0;
}

/* As the daemon says, or with what there is to do where it does not know. */
static void fail(const struct doctor *doctor, struct doctor_finding *f, const char *advice)
{
	struct json_object *bluetooth = bluetooth_of(doctor);
	const char *reason = ctl_text(bluetooth, "reason");
	const char *own = ctl_text(bluetooth, "advice");

	doctor_fail(f, *own ? own : advice, "%s", *reason ? reason : ctl_text(bluetooth, "state"));
}

/* The adapters in use for which is(), with their addresses if that is wanted. */
static void list_adapters(const struct doctor *doctor, bool (*is)(struct json_object *a),
			  bool with_address, char ret[NAMES_MAX])
{
	struct json_object *adapters = ctl_get(bluetooth_of(doctor), "adapters");

	*ret = '\0';
	for (size_t i = 0; i < json_object_array_length(adapters); i++) {
		struct json_object *a = json_object_array_get_idx(adapters, i);
		size_t len = strlen(ret);

		if (ctl_truth(a, "used") && is(a))
			snprintf(ret + len, NAMES_MAX - len, "%s%s%s%s", len > 0 ? ", " : "",
				 ctl_text(a, "name"), with_address ? " " : "",
				 with_address ? ctl_text(a, "address") : "");
	}
}

static bool is_powered(struct json_object *a)
{
	const char *state = ctl_text(a, "state");

	if (ctl_has(a, "powered"))
		return ctl_truth(a, "powered");
	return strcmp(state, "off") != 0 && strcmp(state, "blocked") != 0;
}

static bool is_scanning(struct json_object *a)
{
	return strcmp(ctl_text(a, "state"), "scanning") == 0;
}

void doctor_dbus(struct doctor *doctor, struct doctor_finding *f)
{
	if (!doctor->status)
		return;
	/* A radio that has just been found is not scanning yet. */
	while (!is_state(doctor, "scanning") &&
	       ctl_seconds(bluetooth_of(doctor), "since_s") < DOCTOR_SETTLE_S &&
	       doctor_waited_ms(doctor) < DOCTOR_RADIO_MS && doctor_wait(doctor))
		;
	if (is_state(doctor, "no-bus"))
		fail(doctor, f, "start dbus-daemon");
	else
		doctor_ok(f, "the system bus answers");
}

void doctor_bluetoothd(struct doctor *doctor, struct doctor_finding *f)
{
	const char *version = ctl_text(bluetooth_of(doctor), "version");

	if (is_state(doctor, "no-bluetoothd"))
		fail(doctor, f, "start the bluetooth service");
	else if (is_state(doctor, "no-access"))
		fail(doctor, f, "put the daemon's user into the group bluetooth");
	else
		doctor_ok(f, "%s%s", *version ? "version " : "answers", version);
}

void doctor_adapter(struct doctor *doctor, struct doctor_finding *f)
{
	char names[NAMES_MAX];

	list_adapters(doctor, is_powered, true, names);
	if (is_state(doctor, "no-adapter"))
		fail(doctor, f, "plug one in, or see bluetooth.adapters in the configuration");
	else if (!*names)
		fail(doctor, f, "see dmesg for its firmware and USB power");
	else
		doctor_ok(f, "%s", names);
}

void doctor_scanning(struct doctor *doctor, struct doctor_finding *f)
{
	const char *reason = ctl_text(bluetooth_of(doctor), "reason");
	char names[NAMES_MAX];

	list_adapters(doctor, is_scanning, false, names);
	if (is_state(doctor, "scanning"))
		doctor_ok(f, "%s%s%s", names, *reason ? "; but " : "", reason);
	else
		fail(doctor, f, "restart bluetoothd, or plug the adapter out and in");
}

/* --- Adverts --- */

struct heard {
	int64_t adverts, others; /* since the daemon's start */
	double last_s; /* age of the last advert, -1: never */
};

static void count(const struct doctor *doctor, struct heard *ret)
{
	struct json_object *adapters = ctl_get(bluetooth_of(doctor), "adapters");

	*ret = (struct heard){.last_s = -1};
	for (size_t i = 0; i < json_object_array_length(adapters); i++) {
		struct json_object *a = json_object_array_get_idx(adapters, i);
		double last_s = ctl_seconds(a, "last_advert_s");

		ret->adverts += ctl_number(a, "adverts");
		ret->others += ctl_number(a, "others");
		if (ctl_has(a, "last_advert_s") && (ret->last_s < 0 || last_s < ret->last_s))
			ret->last_s = last_s;
	}
}

/* bluetoothd tells of others only while another program scans too, so silence proves nothing. */
static void fail_silent(struct doctor_finding *f, int64_t others, double last_s)
{
	char t[CTL_SHORT], last[64] = "";

	if (last_s >= 0)
		snprintf(last, sizeof(last), " (the last %s)", ctl_ago(last_s, t));
	if (others > 0)
		doctor_fail(f,
			    "is a Blecon device switched on, and within some 10 m? Other devices "
			    "are heard, so the radio works",
			    "no Blecon device in %d s%s, but %lld signals of other devices: the "
			    "radio hears",
			    DOCTOR_ADVERT_S, last, (long long)others);
	else
		doctor_fail(f,
			    "bring a Blecon device within some 10 m; if bluetoothctl scan on shows "
			    "no other device either, see the antenna and try another adapter",
			    "no Blecon device in %d s%s, and nothing of any other device",
			    DOCTOR_ADVERT_S, last);
}

void doctor_adverts(struct doctor *doctor, struct doctor_finding *f)
{
	struct heard before, now;
	char t[24];

	count(doctor, &before);
	now = before;
	while ((now.last_s < 0 || now.last_s > DOCTOR_ADVERT_S) &&
	       doctor_waited_ms(doctor) < DOCTOR_ADVERT_S * 1000 && doctor_wait(doctor))
		count(doctor, &now);
	if (now.last_s >= 0 && now.last_s <= DOCTOR_ADVERT_S)
		doctor_ok(f, "%lld heard, the last %s ago", (long long)now.adverts,
			  ctl_duration(now.last_s, t));
	else
		fail_silent(f, now.others - before.others, now.last_s);
}
