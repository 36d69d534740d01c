/* SPDX-License-Identifier: Apache-2.0 */
/* The answer to a CHALLENGE: PROTOCOL.md, sections "Connecting" and "Identity". */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "uplink/message.h"
#include "uplink/uplink.h"

struct hello {
	const struct uplink_identity *identity;
	const struct uplink_config *config;
	const char *authority; /* of the URL in use */
	const struct message_resume *resume;
	size_t n_resume;
};

/* Returns the length of the signed HELLO, or 0 where it cannot be signed. */
size_t hello_encode(const struct hello *hello, const uint8_t nonce[MESSAGE_NONCE_LEN], uint8_t *buf,
		    size_t size);
