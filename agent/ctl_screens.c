/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ctl_screens.h"

#include <string.h>

#include "agent/ctl_client.h"

bool ctl_is_said(const char *said, const char *text)
{
	return said && strstr(said, text) != NULL;
}

enum exit_code ctl_show(const struct ctl *ctl, const char *request,
			void (*screen)(const struct ctl_page *page, struct json_object *o))
{
	_cleanup_free_ char *line = NULL;
	struct json_object *o = ctl_client_request(ctl, request, &line);
	struct ctl_page page;
	bool works;

	if (!o)
		return EXIT_FAILED;
	ctl_page_init(&page, stdout);
	if (ctl->json)
		puts(line);
	else
		screen(&page, o);
	works = !ctl_has(o, "working") || ctl_truth(o, "working");
	json_object_put(o);
	return works ? EXIT_OK : EXIT_NOT_WORKING;
}

/* Takes part. */
static void print_part(const char *name, struct json_object *part)
{
	struct json_object *o = json_object_new_object();

	json_object_object_add(o, name, part);
	ctl_print_json(o);
	json_object_put(o);
}

enum exit_code ctl_show_part(const struct ctl *ctl, const char *part, const char *working,
			     void (*screen)(const struct ctl_page *page, struct json_object *o))
{
	struct json_object *o = ctl_client_request(ctl, "status", NULL);
	struct ctl_page page;
	bool works;

	if (!o)
		return EXIT_FAILED;
	ctl_page_init(&page, stdout);
	if (ctl->json)
		print_part(part, json_object_get(ctl_get(o, part)));
	else
		screen(&page, o);
	works = strcmp(ctl_text(ctl_get(o, part), "state"), working) == 0;
	json_object_put(o);
	return works ? EXIT_OK : EXIT_NOT_WORKING;
}
