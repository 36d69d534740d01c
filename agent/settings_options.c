/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/settings_options.h"

#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "agent/log.h"
#include "agent/util.h"
#include "uplink/endpoint.h"
#include "uplink/message.h"
#include "uplink/pin.h"
#include "uplink/proxy.h"
#include "uplink/urls.h"

static bool valid_url(const char *value, const char **ret_what)
{
	struct endpoint endpoint;

	return endpoint_parse(value, &endpoint, ret_what) == 0;
}

static bool valid_pin(const char *value, const char **ret_what)
{
	struct pin pin;

	*ret_what = "that is no SHA-256 in base64";
	return pin_parse(value, &pin) == 0;
}

static bool valid_proxy(const char *value, const char **ret_what)
{
	struct proxy proxy;

	return !*value || strcmp(value, "none") == 0 || proxy_parse(value, &proxy, ret_what) == 0;
}

static bool valid_mode(const char *value, const char **ret_what)
{
	*ret_what = "no such mode";
	return strcmp(value, "key") == 0 || strcmp(value, "token") == 0 ||
	       strcmp(value, "certificate") == 0;
}

static bool valid_path(const char *value, const char **ret_what)
{
	*ret_what = "the path is not absolute";
	return value[0] == '/';
}

static bool valid_optional_path(const char *value, const char **ret_what)
{
	return !*value || valid_path(value, ret_what);
}

static bool valid_label(const char *value, const char **ret_what)
{
	*ret_what = "the text is longer, or not in UTF-8";
	return strlen(value) <= MESSAGE_NAME_MAX && util_is_utf8(value, strlen(value));
}

static bool valid_socket(const char *value, const char **ret_what)
{
	const struct sockaddr_un *address = NULL;

	if (!valid_path(value, ret_what))
		return false;
	*ret_what = "the path is longer than a Unix socket's may be";
	return strlen(value) < sizeof(address->sun_path);
}

static bool valid_level(const char *value, const char **ret_what)
{
	enum log_level level;

	*ret_what = "no such level";
	return log_level_parse(value, &level) == 0;
}

static bool valid_adapter(const char *value, const char **ret_what)
{
	unsigned byte[6], index;
	int end = 0;

	*ret_what = "no adapter has such a name";
	/* sscanf by itself would take spaces and signs too. */
	if (strspn(value, "hci0123456789") == strlen(value))
		return sscanf(value, "hci%3u%n", &index, &end) == 1 && !value[end] &&
		       (value[3] != '0' || end == 4);
	return strspn(value, "0123456789abcdefABCDEF:") == 17 &&
	       sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x%n", &byte[0], &byte[1], &byte[2], &byte[3],
		      &byte[4], &byte[5], &end) == 6 &&
	       end == 17 && !value[end];
}

static bool valid_bearer(const char *value, const char **ret_what)
{
	*ret_what = "no such bearer";
	return strcmp(value, "auto") == 0 || strcmp(value, "l2cap") == 0 ||
	       strcmp(value, "gatt") == 0;
}

/* clang-format off */
#define OPTION(option, member, kind, change)                                                       \
	.name = (option), .type = (kind), .effect = SETTINGS_##change,                             \
	.offset = offsetof(struct settings, member)
/* Name, effect of a change, range, default, unit. */
#define NUMBER(member, change, least, most, value, unit)                                           \
	{OPTION(#member, member, OPTION_INT, change), .min = (least), .max = (most),               \
	 .number = (value), .expected = (unit)}
#define DEGREES(member, change, least, most, unit)                                                 \
	{OPTION(#member, member, OPTION_FLOAT, change), .min = (least), .max = (most),             \
	 .expected = (unit)}
#define BOOLEAN(member, change, value)                                                             \
	{OPTION(#member, member, OPTION_BOOL, change), .number = (value)}
/* Name, effect of a change, default, what it must be, and whether it is. */
#define TEXT(member, change, value, what, check)                                                   \
	{OPTION(#member, member, OPTION_STRING, change), .text = (value), .expected = (what),      \
	 .valid = (check)}
#define LIST(option, member, change, most, what, check)                                            \
	{OPTION(option, member, OPTION_LIST, change), .max = (most), .expected = (what),           \
	 .valid = (check)}

const struct option settings_options[] = {
	TEXT(state_dir, RESTART, "/var/lib/blecon-hotspot", "an absolute path", valid_path),
	TEXT(status_socket, RESTART, "/run/blecon-hotspot/status.sock",
	     "an absolute path", valid_socket),
	TEXT(log_level, LIVE, "info",
	     "\"error\", \"warning\", \"info\" or \"debug\"", valid_level),
	LIST("uplink.url", uplink.urls, REACH, URLS_MAX,
	     "\"wss://host[:port]/path\"", valid_url),
	TEXT(uplink.ca_file, REACH, "/etc/ssl/certs/ca-certificates.crt",
	     "an absolute path", valid_path),
	LIST("uplink.pins", uplink.pins, REACH, 16,
	     "\"sha256//\" and 44 letters of base64", valid_pin),
	{OPTION("uplink.proxy", uplink.proxy, OPTION_STRING, REACH), .text = "",
	 .expected = "\"http://[user:password@]host[:port]\", \"none\" or \"\"",
	 .valid = valid_proxy, .secret = true},
	NUMBER(uplink.connect_timeout_s, CONNECTION, 1, 300, 15, "seconds"),
	NUMBER(uplink.ping_interval_s, CONNECTION, 0, 86400, 30, "seconds, 0 for never"),
	NUMBER(uplink.ping_timeout_s, CONNECTION, 1, 300, 10, "seconds"),
	NUMBER(uplink.backoff_min_ms, CONNECTION, 100, 60000, 1000, "milliseconds"),
	NUMBER(uplink.backoff_max_s, CONNECTION, 1, 86400, 300, "seconds"),
	NUMBER(uplink.report_interval_s, LIVE, 0, 86400, 60, "seconds, 0 for never"),
	NUMBER(uplink.stats_interval_s, LIVE, 0, 86400, 3600, "seconds, 0 for never"),
	NUMBER(uplink.sightings_kb_per_day, LIVE, 0, 10000000, 0, "kilobytes, 0 for no limit"),
	NUMBER(uplink.reload_revert_s, LIVE, 0, 3600, 30, "seconds, 0 for never"),
	TEXT(auth.mode, REACH, "key", "\"key\", \"token\" or \"certificate\"", valid_mode),
	TEXT(auth.token_file, REACH, "", "an absolute path", valid_optional_path),
	TEXT(auth.certificate_file, REACH, "", "an absolute path", valid_optional_path),
	DEGREES(location.latitude, CONNECTION, -90, 90, "degrees, north"),
	DEGREES(location.longitude, CONNECTION, -180, 180, "degrees, east"),
	NUMBER(location.accuracy_m, CONNECTION, 0, 1000000, 0, "metres, 0 for not known"),
	TEXT(location.floor, CONNECTION, "", "at most 64 bytes of UTF-8", valid_label),
	TEXT(location.zone, CONNECTION, "", "at most 64 bytes of UTF-8", valid_label),
	TEXT(location.name, CONNECTION, "", "at most 64 bytes of UTF-8", valid_label),
	LIST("bluetooth.adapters", bluetooth.adapters, RESTART, 64,
	     "a name like \"hci0\" or an address like \"00:11:22:AA:BB:CC\"", valid_adapter),
	BOOLEAN(bluetooth.duplicate_data, RESTART, false),
	NUMBER(bluetooth.silence_s, RESTART, 0, 86400, 90, "seconds, 0 for never"),
	NUMBER(devices.max, RESTART, 16, 65536, 1000, "devices"),
	NUMBER(devices.lost_after_s, LIVE, 1, 86400, 60, "seconds"),
	TEXT(relay.bearer, LIVE, "auto", "\"auto\", \"l2cap\" or \"gatt\"", valid_bearer),
	NUMBER(relay.max_links, LIVE, 0, 16, 8, "links, 0 to connect no device"),
	NUMBER(relay.max_links_per_adapter, LIVE, 1, 16, 4, "links"),
	NUMBER(relay.holdoff_ms, LIVE, 0, 5000, 1000, "milliseconds"),
	NUMBER(relay.resume_max_s, LIVE, 0, 600, 60, "seconds"),
	NUMBER(relay.rssi_floor_dbm, LIVE, -127, 20, -95, "dBm"),
	NUMBER(relay.idle_timeout_s, LIVE, 1, 3600, 30, "seconds"),
	NUMBER(relay.max_duration_s, LIVE, 1, 86400, 600, "seconds"),
	NUMBER(relay.retry_min_s, LIVE, 1, 3600, 5, "seconds"),
	NUMBER(relay.retry_max_s, LIVE, 1, 86400, 300, "seconds"),
};
/* clang-format on */

const size_t settings_n_options = ARRAY_SIZE(settings_options);
