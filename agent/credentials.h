/* SPDX-License-Identifier: Apache-2.0 */
/* The files by which hotspot and cloud show who they are, looked at before they are used. */
#pragma once

#include <stdint.h>

struct identity;
struct settings;

#define CREDENTIALS_ERROR 640

/*
 * Checks what is configured to be used: certificates to verify the cloud's with (uplink.ca_file),
 * the token (auth.token_file), the hotspot's certificate (auth.certificate_file) and that it is for
 * the hotspot's key. Returns 0, or -errno with ret_error naming option, file and what to do. That the
 * certificate is out of date is no error, as the clock may be wrong: there is a warning in the log.
 */
int credentials_check(const struct settings *settings, const struct identity *identity,
		      char ret_error[CREDENTIALS_ERROR]);
/* When the first certificate (PEM) in a file ends, Unix time; 0 where it cannot be read. */
int64_t credentials_certificate_end(const char *path);
