/* SPDX-License-Identifier: Apache-2.0 */
/* How the cloud is reached, as configured: settings made into what the uplink takes. */
#pragma once

#include <stdint.h>
#include <sys/stat.h>

#include "agent/settings.h"
#include "uplink/message.h"
#include "uplink/pin.h"
#include "uplink/proxy.h"
#include "uplink/uplink.h"

struct cloud {
	struct uplink_config config; /* points to the rest, and into the settings */
	struct pin *pins; /* owned */
	struct proxy proxy;
	struct message_location location;
	char *key_file; /* owned, NULL for none */
	int64_t certificate_end; /* of the hotspot's own, Unix time; 0 for none */
	struct stat ca, certificate; /* as the files were; all zero for none */
};

/* settings and run must outlive it. Returns 0, or -ENOMEM; to be followed by cloud_free. */
int cloud_new(const struct settings *settings, const uint8_t run[MESSAGE_RUN_LEN],
	      struct cloud **ret);
/* NULL is fine. */
void cloud_free(struct cloud *cloud);
/* Whether a file it names is another one by now, or has another content. */
bool cloud_files_changed(const struct cloud *cloud);
