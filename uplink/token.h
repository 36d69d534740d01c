/* SPDX-License-Identifier: Apache-2.0 */
/* The file that holds a bearer token (RFC 6750, section 2.1). */
#pragma once

#define TOKEN_MAX   4096 /* bytes of the longest token */
#define TOKEN_ERROR 512

/* Reads the token: one line, with or without its end. Links are followed, as a mounted secret may be
 * one. Returns 0, or -errno with ret_error naming the file and what is wrong with it, never the
 * token, and nothing in ret. It is a secret: the caller wipes ret, and does not log it. */
int token_read(const char *path, char ret[TOKEN_MAX + 1], char ret_error[TOKEN_ERROR]);
