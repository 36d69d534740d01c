/* SPDX-License-Identifier: Apache-2.0 */
/* The hotspot's identity in the forms that people and certificate authorities take. */
#pragma once

#include <stdint.h>

#include "agent/identity.h"
#include "uplink/pin.h"

#define IDENTITY_TEXT_SPKI_LEN 91
#define IDENTITY_TEXT_PEM      512 /* bytes of the longest PEM here, NUL included */

/* SubjectPublicKeyInfo (RFC 5480, section 2) in DER. */
void identity_text_spki(const struct identity *identity, uint8_t ret[IDENTITY_TEXT_SPKI_LEN]);
/* "sha256//...", as pins are written. Returns 0 or -EIO. */
int identity_text_fingerprint(const struct identity *identity, char ret[PIN_TEXT]);
/* The public key as PEM. Returns 0 or -EIO. */
int identity_text_public(const struct identity *identity, char ret[IDENTITY_TEXT_PEM]);
/* A certificate request (PKCS #10, RFC 2986) for the key, its subject CN=<hotspot_id>, as PEM.
 * Returns 0 or -EIO. */
int identity_text_csr(const struct identity *identity, char ret[IDENTITY_TEXT_PEM]);
