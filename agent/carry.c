/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/carry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/clock.h"
#include "agent/kept.h"
#include "agent/log.h"
#include "agent/own_file.h"
#include "agent/util.h"

#define FILE_MODE  0600
#define FILE_BYTES KEPT_BYTES(KEPT_PENDING_MAX + MESSAGE_SIGHTINGS_MAX)

static char *path_of(const struct carry *carry)
{
	char *path;

	if (asprintf(&path, "%s/" CARRY_FILE, carry->state_dir) < 0) {
		log_error("sightings of before the restart: out of memory");
		return NULL;
	}
	return path;
}

/* Returns 0 and a *ret for kept_done, or -errno. */
static int read_file(const char *path, struct kept *ret)
{
	_cleanup_free_ char *data = NULL;
	ssize_t len = own_file_read(path, FILE_BYTES, &data);

	return len < 0 ? (int)len : kept_decode((const uint8_t *)data, (size_t)len, ret);
}

/* Returns whether there is a good file, which is gone then. */
static bool take_file(const char *path, struct kept *ret)
{
	int r = read_file(path, ret), removed;

	if (r == -ENOENT)
		return false;
	removed = util_remove_file(path);
	if (r < 0)
		log_error("%s: %s; the sightings in it are lost%s%s", path, own_file_error(r),
			  removed < 0 ? ", and it cannot be removed: " : "",
			  removed < 0 ? strerror(-removed) : "");
	else if (removed < 0)
		log_error("%s: cannot be removed: %s; the sightings in it are left out, as they "
			  "would count again after the next start",
			  path, strerror(-removed));
	if (r == 0 && removed < 0)
		kept_done(ret);
	return r == 0 && removed == 0;
}

static void restore(const struct carry *carry, const struct kept *kept)
{
	uint64_t now_ms = util_now_ms(), elapsed_ms;
	struct kept_clock now;

	clock_read(&now);
	elapsed_ms = kept_elapsed_ms(&kept->clock, &now);
	for (size_t i = 0; i < kept->n_out + kept->n_pending; i++) {
		struct device_span span = kept->spans[i];

		span.first_ms = kept_time_ms(span.first_ms, elapsed_ms, now_ms);
		span.last_ms = kept_time_ms(span.last_ms, elapsed_ms, now_ms);
		devices_restore(carry->devices, &span, i < kept->n_out);
	}
	memcpy(carry->run, kept->run, sizeof(kept->run));
	reporter_restore(carry->reporter, kept->batch);
	relay_set_next_session(carry->relay, kept->next_session);
	log_info("sightings of before the restart, %llu s ago: %zu to report, %zu to report again",
		 (unsigned long long)elapsed_ms / 1000, kept->n_pending, kept->n_out);
}

void carry_in(const struct carry *carry)
{
	_cleanup_free_ char *path = path_of(carry);
	struct kept kept;

	if (!path || !take_file(path, &kept)) {
		util_random(carry->run, MESSAGE_RUN_LEN);
		return;
	}
	restore(carry, &kept);
	kept_done(&kept);
}

struct collection {
	struct kept kept;
	uint64_t now_ms;
};

static void collect(struct collection *c, const struct device_span *span, size_t *n)
{
	struct device_span *copy = &c->kept.spans[c->kept.n_out + c->kept.n_pending];

	*copy = *span;
	copy->first_ms = c->now_ms - span->first_ms;
	copy->last_ms = c->now_ms - span->last_ms;
	++*n;
}

static void collect_out(void *userdata, const struct device *device)
{
	struct collection *c = userdata;

	collect(c, &device->sent, &c->kept.n_out);
}

static void collect_pending(void *userdata, const struct device *device)
{
	struct collection *c = userdata;

	if (device->is_dirty)
		collect(c, &device->pending, &c->kept.n_pending);
}

static int write_file(const char *path, const struct kept *kept)
{
	size_t size = KEPT_BYTES(kept->n_out + kept->n_pending), len;
	_cleanup_free_ uint8_t *buf = malloc(size);

	if (!buf)
		return -ENOMEM;
	len = kept_encode(kept, buf, size);
	return len == 0 ? -EFBIG : util_replace_file(path, FILE_MODE, buf, len);
}

static void leave(const struct carry *carry, const struct kept *kept)
{
	_cleanup_free_ char *path = path_of(carry);
	int r;

	if (!path)
		return;
	r = write_file(path, kept);
	if (r < 0)
		log_error("%s: %s; sightings of %zu devices are lost", path, strerror(-r),
			  kept->n_pending + kept->n_out);
	else
		log_info("%s: sightings kept for the next start: %zu, and %zu not acknowledged",
			 path, kept->n_pending, kept->n_out);
}

void carry_out(const struct carry *carry)
{
	struct collection c = {.now_ms = util_now_ms()};
	struct devices_counters counters;

	devices_get_counters(carry->devices, &counters);
	c.kept.spans = calloc(counters.dirty + MESSAGE_SIGHTINGS_MAX, sizeof(*c.kept.spans));
	if (!c.kept.spans) {
		log_error("sightings: out of memory; those of %zu devices are lost",
			  counters.dirty);
		return;
	}
	devices_batch_each(carry->devices, collect_out, &c);
	devices_each(carry->devices, collect_pending, &c);
	memcpy(c.kept.run, carry->run, sizeof(c.kept.run));
	c.kept.batch = reporter_batch(carry->reporter);
	c.kept.next_session = relay_next_session(carry->relay);
	clock_read(&c.kept.clock);
	if (c.kept.n_out + c.kept.n_pending > 0)
		leave(carry, &c.kept);
	kept_done(&c.kept);
}
