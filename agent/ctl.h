/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of blecon-hotspotctl share. */
#pragma once

enum exit_code {
	EXIT_OK = 0,
	EXIT_FAILED = 1, /* no answer, no identity, or it could not be written out */
	EXIT_USAGE = 2, /* command line or configuration */
	EXIT_NOT_WORKING = 3, /* status: the daemon answers, and says it does not work */
};
