/* SPDX-License-Identifier: Apache-2.0 */
/* The journal: the daemon's, or without a daemon as it was left. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/ctl_client.h"
#include "agent/ctl_commands.h"
#include "agent/ctl_journal.h"
#include "agent/ctl_screens.h"
#include "agent/journal_file.h"
#include "agent/journal_json.h"
#include "agent/settings.h"
#include "agent/util.h"

/* Returns 0 or -errno. */
static int read_copy(const char *path, struct journal *ret)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *data = NULL;
	struct stat st;
	ssize_t len;

	fd = util_open_regular(path, O_NOFOLLOW, &st);
	if (fd < 0)
		return fd;
	len = util_read_fd(fd, JOURNAL_BYTES, &data);
	return len < 0 ? (int)len : journal_decode((const uint8_t *)data, (size_t)len, ret);
}

/* Takes it where it is newer. Returns 0, or -errno after saying why it cannot be read. */
static int take_copy(const char *directory, size_t len, struct journal *journal)
{
	_cleanup_free_ struct journal *copy = malloc(sizeof(*copy));
	_cleanup_free_ char *path = NULL;
	int r;

	if (!copy || asprintf(&path, "%.*s/" JOURNAL_FILE, (int)len, directory) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	r = read_copy(path, copy);
	if (r == 0 && copy->sequence > journal->sequence)
		*journal = *copy;
	if (r < 0 && r != -ENOENT)
		fprintf(stderr, "blecon-hotspotctl: %s: %s\n", path, strerror(-r));
	return r;
}

struct json_object *ctl_journal_left(const struct ctl *ctl)
{
	_cleanup_free_ struct journal *journal = calloc(1, sizeof(*journal));
	char error[SETTINGS_ERROR];
	struct settings settings;
	const char *slash;
	int r;

	if (!journal)
		return NULL;
	if (settings_load(ctl->config, &settings, error) < 0) {
		fprintf(stderr, "blecon-hotspotctl: %s\n", error);
		return NULL;
	}
	slash = strrchr(settings.status_socket, '/');
	r = take_copy(settings.state_dir, strlen(settings.state_dir), journal);
	if (take_copy(settings.status_socket, (size_t)(slash - settings.status_socket), journal) ==
	    0)
		r = 0;
	settings_done(&settings);
	return r == 0 ? journal_json(journal) : NULL;
}

static enum exit_code show_left(const struct ctl *ctl)
{
	struct json_object *o = ctl_journal_left(ctl);
	struct ctl_page page;

	if (!o)
		return EXIT_FAILED;
	ctl_page_init(&page, stdout);
	if (ctl->json)
		ctl_print_json(o);
	else
		ctl_screen_journal(&page, o);
	json_object_put(o);
	return EXIT_OK;
}

enum exit_code ctl_journal(const struct ctl *ctl)
{
	char error[CTL_CLIENT_ERROR];
	struct ctl_client client;
	int r = ctl_client_open(&client, ctl->socket, error);

	if (r == -ENOENT || r == -ECONNREFUSED) {
		fprintf(stderr, "blecon-hotspotctl: %s; this is the journal it left\n", error);
		return show_left(ctl);
	}
	if (r == 0)
		ctl_client_close(&client);
	return ctl_show(ctl, "journal", ctl_screen_journal);
}
