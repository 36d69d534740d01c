/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who this hotspot is: a P-256 key of its own, made on the first start and kept in a PEM file
 * (RFC 5915) that only its user can read. Signing goes through mbedTLS's PSA API.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define IDENTITY_FILE	    "hotspot.key" /* in the state directory */
#define IDENTITY_PUBLIC_LEN 65 /* uncompressed point (SEC 1, section 2.3.3) */
#define IDENTITY_ERROR	    512

struct identity {
	uint8_t hotspot_id[16]; /* UUIDv8 out of the public key: PROTOCOL.md, "Identity" */
	uint8_t public_key[IDENTITY_PUBLIC_LEN];
	uint32_t key; /* a volatile PSA key */
};

/* Reads the key, or makes one where the file does not exist. The directory is made, 0700, where
 * only it is missing. A file that is there and not good is never replaced. Returns 0, or -errno
 * with ret_error saying what is wrong and what to do. To be followed by identity_done. */
int identity_load(const char *state_dir, struct identity *ret, char ret_error[IDENTITY_ERROR]);
/* For those who only look: never makes a key or a directory, and root may look at a key of the
 * daemon's user. Otherwise like identity_load. */
int identity_read(const char *state_dir, struct identity *ret, char ret_error[IDENTITY_ERROR]);
/* All zero is fine. */
void identity_done(struct identity *identity);
/* ECDSA with SHA-256 over data, r||s. Returns 0 or -EIO. */
int identity_sign(const struct identity *identity, const uint8_t *data, size_t len,
		  uint8_t ret_signature[64]);
