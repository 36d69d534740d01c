/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_commands.h"
#include "agent/ctl_text.h"

#include <errno.h>
#include <stdio.h>

#include <json-c/json.h>

#include "agent/identity.h"
#include "agent/identity_text.h"
#include "agent/settings.h"
#include "agent/util.h"

struct texts {
	char id[UTIL_UUID_TEXT];
	char public_key[IDENTITY_TEXT_PEM];
	char fingerprint[PIN_TEXT];
	char csr[IDENTITY_TEXT_PEM];
};

static int fill_in(const struct identity *identity, struct texts *ret)
{
	int r = identity_text_public(identity, ret->public_key);

	util_uuid_text(identity->hotspot_id, ret->id);
	if (r == 0)
		r = identity_text_fingerprint(identity, ret->fingerprint);
	if (r == 0)
		r = identity_text_csr(identity, ret->csr);
	return r;
}

static enum exit_code read_identity(const char *config, struct texts *ret)
{
	char error[MAX(SETTINGS_ERROR, IDENTITY_ERROR)];
	struct identity identity;
	struct settings settings;
	int r = settings_load(config, &settings, error);

	if (r < 0) {
		fprintf(stderr, "blecon-hotspotctl: %s%s\n", error,
			r == -EACCES ? ": you must be root or the daemon's user" : "");
		return EXIT_USAGE;
	}
	r = identity_read(settings.state_dir, &identity, error);
	settings_done(&settings);
	if (r < 0) {
		fprintf(stderr, "blecon-hotspotctl: %s\n", error);
		return EXIT_FAILED;
	}
	r = fill_in(&identity, ret);
	identity_done(&identity);
	if (r == 0)
		return EXIT_OK;
	fputs("blecon-hotspotctl: mbedTLS cannot work with the hotspot's key\n", stderr);
	return EXIT_FAILED;
}

static void print_json(const struct texts *texts, bool csr)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, "hotspot_id", json_object_new_string(texts->id));
	json_object_object_add(o, "public_key", json_object_new_string(texts->public_key));
	json_object_object_add(o, "fingerprint", json_object_new_string(texts->fingerprint));
	if (csr)
		json_object_object_add(o, "csr", json_object_new_string(texts->csr));
	ctl_print_json(o);
	json_object_put(o);
}

enum exit_code ctl_identity(const struct ctl *ctl)
{
	struct texts texts;
	enum exit_code code = read_identity(ctl->config, &texts);

	if (code != EXIT_OK)
		return code;
	if (ctl->json)
		print_json(&texts, ctl->csr);
	else if (ctl->csr)
		fputs(texts.csr, stdout);
	else /* the PEM is not indented, as not everything takes it so */
		printf("id           %s\nfingerprint  %s\npublic key\n%s", texts.id,
		       texts.fingerprint, texts.public_key);
	return EXIT_OK;
}
