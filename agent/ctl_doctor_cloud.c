/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon says of the way to the cloud. */
#include "agent/ctl_doctor.h"

#include <stdio.h>
#include <string.h>

#include "agent/ctl_text.h"

static struct json_object *uplink_of(const struct doctor *doctor)
{
	return ctl_get(doctor->status, "uplink");
}

static bool is_state(const struct doctor *doctor, const char *state)
{
	return strcmp(ctl_text(uplink_of(doctor), "state"), state) == 0;
}

/* Whether an attempt goes on, or one comes that will say more. */
static bool is_under_way(const struct doctor *doctor)
{
	struct json_object *uplink = uplink_of(doctor);

	if (is_state(doctor, "waiting"))
		return !ctl_has(uplink, "error") ||
		       strcmp(ctl_text(uplink, "failed_at"), "up") == 0;
	return !is_state(doctor, "up") && !is_state(doctor, "unconfigured");
}

/* Where an attempt stands that goes on for too long. */
static enum doctor_check guess(const struct doctor *doctor)
{
	if (is_state(doctor, "authenticating"))
		return DOCTOR_HELLO;
	return ctl_has(uplink_of(doctor), "address") ? DOCTOR_TCP : DOCTOR_NAME;
}

/* The first step that failed, DOCTOR_REPORTS for none. */
static enum doctor_check failed(const struct doctor *doctor)
{
	static const struct {
		const char *name;
		enum doctor_check check;
	} steps[] = {
		{"resolve", DOCTOR_NAME}, {"tcp", DOCTOR_TCP},	       {"proxy", DOCTOR_TCP},
		{"tls", DOCTOR_TLS},	  {"upgrade", DOCTOR_UPGRADE}, {"hello", DOCTOR_HELLO},
		{"up", DOCTOR_HELLO},
	};
	const char *at = ctl_text(uplink_of(doctor), "failed_at");

	if (is_state(doctor, "up"))
		return DOCTOR_REPORTS;
	if (is_state(doctor, "unconfigured"))
		return DOCTOR_NAME;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if (strcmp(at, steps[i].name) == 0)
			return steps[i].check;
	}
	return guess(doctor);
}

static void fail(const struct doctor *doctor, struct doctor_finding *f)
{
	struct json_object *uplink = uplink_of(doctor);
	const char *error = ctl_text(uplink, "error"), *advice = ctl_text(uplink, "advice");
	bool broke = strcmp(ctl_text(uplink, "failed_at"), "up") == 0;

	if (is_state(doctor, "unconfigured"))
		doctor_fail(f, *advice ? advice : "set uplink.url in the configuration",
			    "uplink.url is not set");
	else if (*error)
		doctor_fail(f, advice, "%s%s", broke ? "the connection broke: " : "", error);
	else
		doctor_fail(f, advice, "no connection in %d s: still %s", DOCTOR_CONNECT_MS / 1000,
			    ctl_text(uplink, "state"));
}

/* Fills in a failure if it is of this step. Those before are ok. */
static bool failed_here(const struct doctor *doctor, enum doctor_check step,
			struct doctor_finding *f)
{
	if (failed(doctor) > step)
		return false;
	fail(doctor, f);
	return true;
}

/* The host of a URL. */
static void host_of(const char *url, char *ret, size_t size)
{
	const char *host = strstr(url, "://"), *end;

	host = host ? host + 3 : url;
	end = host + strcspn(host, "/");
	snprintf(ret, size, "%.*s", (int)(end - host), host);
}

void doctor_name(struct doctor *doctor, struct doctor_finding *f)
{
	struct json_object *uplink;
	char host[256];

	if (!doctor->status)
		return;
	while (is_under_way(doctor) && doctor_waited_ms(doctor) < DOCTOR_CONNECT_MS &&
	       doctor_wait(doctor))
		;
	if (failed_here(doctor, DOCTOR_NAME, f))
		return;
	uplink = uplink_of(doctor);
	host_of(ctl_text(uplink, "url"), host, sizeof(host));
	if (ctl_has(uplink, "proxy"))
		doctor_ok(f, "%s, by way of the proxy %s", host, ctl_text(uplink, "proxy"));
	else
		doctor_ok(f, "%s%s%s", host, ctl_has(uplink, "address") ? " is " : "",
			  ctl_text(uplink, "address"));
}

void doctor_tcp(struct doctor *doctor, struct doctor_finding *f)
{
	if (!failed_here(doctor, DOCTOR_TCP, f))
		doctor_ok(f, "%s",
			  ctl_has(uplink_of(doctor), "proxy") ? "connected through the proxy"
							      : "connected");
}

void doctor_tls(struct doctor *doctor, struct doctor_finding *f)
{
	struct json_object *uplink = uplink_of(doctor);
	const char *until = ctl_text(uplink, "certificate_until");
	const char *own_until = ctl_text(uplink, "own_certificate_until");

	if (!failed_here(doctor, DOCTOR_TLS, f))
		doctor_ok(f, "%s%s%s%s", *until ? "certificate until " : "encrypted", until,
			  *own_until ? "; the hotspot's own until " : "", own_until);
}

void doctor_upgrade(struct doctor *doctor, struct doctor_finding *f)
{
	if (!failed_here(doctor, DOCTOR_UPGRADE, f))
		doctor_ok(f, "to WebSocket");
}

void doctor_hello(struct doctor *doctor, struct doctor_finding *f)
{
	const char *name = ctl_text(uplink_of(doctor), "hotspot_name");

	if (doctor->no_key)
		return;
	if (!failed_here(doctor, DOCTOR_HELLO, f))
		doctor_ok(f, "welcomed%s%s", *name ? " as " : "", name);
}

/* Whether the cloud still has time to acknowledge something. What is out is acknowledged in moments,
 * or never; a device heard for the first time is reported at once, if there is budget. */
static bool owes(struct json_object *s)
{
	if (ctl_has(s, "unacknowledged_s"))
		return ctl_seconds(s, "unacknowledged_s") <= DOCTOR_UNACKED_S;
	return ctl_number(s, "devices") > 0 && ctl_number(s, "reported") == 0 &&
	       !ctl_has(ctl_get(s, "budget"), "waits_s");
}

void doctor_reports(struct doctor *doctor, struct doctor_finding *f)
{
	struct json_object *s;
	double waits_s;
	char t[24];

	while (owes(ctl_get(doctor->status, "sightings")) &&
	       doctor_waited_ms(doctor) < (DOCTOR_UNACKED_S + 5) * 1000 && doctor_wait(doctor))
		;
	s = ctl_get(doctor->status, "sightings");
	waits_s = ctl_seconds(s, "unacknowledged_s");
	if (waits_s > DOCTOR_UNACKED_S)
		doctor_fail(f,
			    "ask who runs the cloud: it takes the connection, but not what devices "
			    "were seen; nothing is lost here meanwhile",
			    "the cloud does not acknowledge reports, for %s now",
			    ctl_duration(waits_s, t));
	else if (ctl_has(s, "acknowledged_s"))
		doctor_ok(f, "acknowledged %s ago",
			  ctl_duration(ctl_seconds(s, "acknowledged_s"), t));
	else
		doctor_ok(f, "%s",
			  ctl_number(s, "reported") > 0 ? "acknowledged" : "nothing to report yet");
}
