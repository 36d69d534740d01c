/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates for the unit tests of TLS, made by openssl in the program's own directory. */
#pragma once

#include "tests/unit/common.h"

#define CERTIFICATE_PATH (sizeof(directory) + 32)

/* Group setup and teardown, with that of the directory. What there is stands in the script. */
int make_certificates(void **state);
int remove_certificates(void **state);
/* The path of one of its files. */
const char *certificate_path(const char *name, char ret[CERTIFICATE_PATH]);
