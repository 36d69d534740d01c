/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/carry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/kept.h"
#include "agent/log.h"
#include "agent/util.h"

#define BOOT_ID_FILE "/proc/sys/kernel/random/boot_id"
#define FILE_MODE    0600
#define FILE_BYTES   KEPT_BYTES(KEPT_PENDING_MAX + MESSAGE_SIGHTINGS_MAX)

static uint64_t read_clock(clockid_t id)
{
	struct timespec ts = {0};

	clock_gettime(id, &ts);
	return ts.tv_sec < 0 ? 0 : (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void read_boot_id(uint8_t ret[16])
{
	_cleanup_close_ int fd = open(BOOT_ID_FILE, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	size_t n = 0;

	memset(ret, 0, 16);
	if (fd < 0 || util_read_fd(fd, 64, &text) < 0)
		return;
	for (const char *p = text; n < 16 && *p; p += *p == '-' ? 1 : 2) {
		if (*p != '-' && sscanf(p, "%2hhx", &ret[n++]) != 1)
			break;
	}
}

static void read_clocks(struct kept_clock *ret)
{
	read_boot_id(ret->boot_id);
	ret->boottime_ms = read_clock(CLOCK_BOOTTIME);
	ret->wall_ms = read_clock(CLOCK_REALTIME);
}

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
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *data = NULL;
	struct stat st;
	ssize_t len;

	fd = util_open_regular(path, O_NOFOLLOW, &st);
	if (fd < 0)
		return fd;
	if (st.st_uid != geteuid())
		return -EPERM;
	if (st.st_size > FILE_BYTES)
		return -EFBIG;
	len = util_read_fd(fd, (size_t)st.st_size, &data);
	return len < 0 ? (int)len : kept_decode((const uint8_t *)data, (size_t)len, ret);
}

static const char *describe(int error)
{
	switch (error) {
	case -EPERM:
		return "it is no regular file of this user";
	case -EPROTONOSUPPORT:
		return "it is from another version of blecon-hotspotd";
	case -EBADMSG:
	case -EFBIG:
		return "it is damaged";
	default:
		return strerror(-error);
	}
}

/* Returns whether there is a good file, which is gone then. */
static bool take_file(const char *path, struct kept *ret)
{
	int r = read_file(path, ret), removed;

	if (r == -ENOENT)
		return false;
	removed = util_remove_file(path);
	if (r < 0)
		log_error("%s: %s; the sightings in it are lost%s%s", path, describe(r),
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

	read_clocks(&now);
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
	read_clocks(&c.kept.clock);
	if (c.kept.n_out + c.kept.n_pending > 0)
		leave(carry, &c.kept);
	kept_done(&c.kept);
}
