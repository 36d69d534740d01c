/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands of blecon-hotspotctl share. */
#pragma once

#include <stdbool.h>

#define CTL_SOCKET "/run/blecon-hotspot/status.sock" /* where nothing else is given */
#define CTL_CONFIG "/etc/blecon-hotspot.conf"

enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* no answer, no identity, or it could not be written out */
	EXIT_USAGE = 2, /* command line or configuration */
	EXIT_NOT_WORKING = 3, /* the daemon answers, and says it does not work */
};

enum ctl_sort { CTL_SORT_RSSI, CTL_SORT_SEEN, CTL_SORT_ID };

/* A command line. Nothing in it is owned. */
struct ctl {
	const char *socket; /* given, or the configuration's, or the default */
	const char *config; /* given, or the default */
	bool json;
	bool csr; /* identity */
	bool follow; /* events */
	enum ctl_sort sort; /* devices, watch */
	const char *output; /* a file, "-" for standard output, NULL for not given */
	const char *argument; /* the word after the command, NULL for none */
};
