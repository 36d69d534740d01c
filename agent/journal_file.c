/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/journal_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/clock.h"
#include "agent/log.h"
#include "agent/loop.h"
#include "agent/own_file.h"
#include "agent/util.h"

#define FILE_MODE 0600 /* there are Device URLs in it */

struct copy {
	char *path; /* owned, NULL: there is none */
	const struct journal *journal; /* not owned */
	struct loop_timer timer;
	uint64_t due_ms; /* not before that, monotonic */
	uint64_t interval_ms;
	uint64_t sequence; /* of the journal in it */
	bool failed; /* the last write; that was told */
};

struct journal_file {
	struct copy memory, flash;
};

static int write_file(const struct copy *copy)
{
	_cleanup_free_ struct journal *journal = malloc(sizeof(*journal));
	_cleanup_free_ uint8_t *buf = malloc(JOURNAL_BYTES);
	size_t len;

	if (!journal || !buf)
		return -ENOMEM;
	*journal = *copy->journal;
	clock_read(&journal->written);
	len = journal_encode(journal, buf, JOURNAL_BYTES);
	return len == 0 ? -EFBIG : util_replace_file(copy->path, FILE_MODE, buf, len);
}

static void copy_write(struct copy *copy)
{
	int r;

	loop_timer_stop(&copy->timer);
	if (!copy->path || copy->sequence == copy->journal->sequence)
		return;
	copy->due_ms = util_now_ms() + copy->interval_ms;
	r = write_file(copy);
	if (r == 0)
		copy->sequence = copy->journal->sequence;
	else if (!copy->failed)
		log_warning("%s: cannot be written: %s; what happened may not be known after the "
			    "next start",
			    copy->path, strerror(-r));
	copy->failed = r < 0;
	if (r < 0)
		loop_timer_start(&copy->timer, copy->interval_ms);
}

static void on_due(void *userdata)
{
	copy_write(userdata);
}

static void copy_changed(struct copy *copy)
{
	uint64_t now_ms = util_now_ms();

	if (copy->path && !copy->timer.armed)
		loop_timer_start(&copy->timer, MAX(copy->due_ms, now_ms) - now_ms);
}

/* Returns whether there is a good one. */
static bool copy_read(struct copy *copy, struct journal *ret)
{
	_cleanup_free_ char *data = NULL;
	ssize_t len;
	int r;

	if (!copy->path)
		return false;
	len = own_file_read(copy->path, JOURNAL_BYTES, &data);
	r = len < 0 ? (int)len : journal_decode((const uint8_t *)data, (size_t)len, ret);
	if (r == 0)
		copy->sequence = ret->sequence;
	else if (r != -ENOENT)
		log_warning("%s: %s; what happened before may not be known", copy->path,
			    own_file_error(r));
	return r == 0;
}

/* How long what is in flash will do: a hub that crashes again and again must not wear it. It will not
 * do, if it does not say that something runs in this boot. */
static uint64_t flash_wait_ms(const struct journal *journal)
{
	struct kept_clock now;
	uint64_t age_ms;

	clock_read(&now);
	age_ms = kept_elapsed_ms(&journal->written, &now);
	if (journal->ended || !kept_same_boot(&journal->written, &now) ||
	    age_ms + JOURNAL_FILE_START_MS >= JOURNAL_FILE_FLASH_MS)
		return JOURNAL_FILE_START_MS;
	return JOURNAL_FILE_FLASH_MS - age_ms;
}

static int read_both(struct journal_file *file, struct journal *journal)
{
	_cleanup_free_ struct journal *flash = malloc(sizeof(*flash));
	bool is_there;

	if (!flash)
		return -ENOMEM;
	copy_read(&file->memory, journal);
	is_there = copy_read(&file->flash, flash);
	file->flash.due_ms =
		util_now_ms() + (is_there ? flash_wait_ms(flash) : JOURNAL_FILE_START_MS);
	if (is_there && flash->sequence > journal->sequence)
		*journal = *flash;
	return 0;
}

static int copy_init(struct copy *copy, struct loop *loop, const struct journal *journal,
		     const char *directory, uint64_t interval_ms)
{
	copy->journal = journal;
	copy->interval_ms = interval_ms;
	loop_timer_init(loop, &copy->timer, on_due, copy);
	if (directory && asprintf(&copy->path, "%s/" JOURNAL_FILE, directory) < 0) {
		copy->path = NULL;
		return -ENOMEM;
	}
	return 0;
}

static bool is_same(const char *a, const char *b)
{
	struct stat st_a, st_b;

	return a && b && stat(a, &st_a) == 0 && stat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
	       st_a.st_ino == st_b.st_ino;
}

int journal_file_new(struct loop *loop, struct journal *journal, const char *memory_dir,
		     const char *state_dir, struct journal_file **ret)
{
	struct journal_file *file = calloc(1, sizeof(*file));
	int r;

	if (!file)
		return -ENOMEM;
	/* What a file in flash can stand counts then. */
	if (is_same(memory_dir, state_dir))
		memory_dir = NULL;
	memset(journal, 0, sizeof(*journal));
	r = copy_init(&file->memory, loop, journal, memory_dir, JOURNAL_FILE_COPY_MS);
	if (r == 0)
		r = copy_init(&file->flash, loop, journal, state_dir, JOURNAL_FILE_FLASH_MS);
	if (r == 0)
		r = read_both(file, journal);
	if (r < 0) {
		journal_file_free(file);
		return r;
	}
	*ret = file;
	return 0;
}

void journal_file_changed(struct journal_file *file)
{
	copy_changed(&file->memory);
	copy_changed(&file->flash);
}

void journal_file_flush(struct journal_file *file)
{
	copy_write(&file->memory);
	copy_write(&file->flash);
}

void journal_file_free(struct journal_file *file)
{
	if (!file)
		return;
	loop_timer_stop(&file->memory.timer);
	loop_timer_stop(&file->flash.timer);
	free(file->memory.path);
	free(file->flash.path);
	free(file);
}
