/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/hello.h"

#include <string.h>

#include "agent/log.h"

size_t hello_encode(const struct hello *hello, const uint8_t nonce[MESSAGE_NONCE_LEN], uint8_t *buf,
		    size_t size)
{
	const struct uplink_identity *identity = hello->identity;
	uint8_t covered[512], signature[MESSAGE_SIGNATURE_LEN];
	const struct message_hello message = {
		.hotspot_id = identity->hotspot_id,
		.public_key = identity->public_key,
		.signature = signature,
		.run = hello->config->run,
		.agent = hello->config->agent,
		.location = hello->config->location,
		.resume = hello->resume,
		.n_resume = hello->n_resume,
	};
	size_t len = message_signed_bytes(nonce, identity->hotspot_id, hello->authority, covered,
					  sizeof(covered));
	int r = identity->sign(identity->userdata, covered, len, signature);

	if (r < 0) {
		log_error("uplink: cannot sign the hello: %s", strerror(-r));
		return 0;
	}
	return message_encode_hello(&message, buf, size);
}
