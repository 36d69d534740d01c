/* SPDX-License-Identifier: Apache-2.0 */
/* However often and in whatever way the connection ends, nothing of it stays. */
#include "uplink/uplink.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "agent/log.h"
#include "agent/loop.h"
#include "agent/util.h"
#include "tests/unit/certificates.h"
#include "tests/unit/common.h"
#include "tests/unit/ending_cloud.h"
#include "uplink/pin.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SANITIZED true /* freed memory stays for a while; for leaks there is LeakSanitizer */
#else
#define SANITIZED false
#endif

#ifndef CONNECTIONS /* fewer where the machine is slow */
#define CONNECTIONS (SANITIZED ? 2000 : 10000) /* that come as far as WELCOME */
#endif
#define WARM_UP	      500
#define LOOK_EACH     2000
#define BY_NAME	      200 /* connections whose host has to be resolved */
#define GROWTH_MAX_KB 256 /* after the warm-up; 10,000 leaks of 26 bytes would be more */
#define SETTLE_MS     20
#define SETTLES_MAX   100
#define DEADLINE_MS   300000

struct usage {
	unsigned descriptors, children;
	long rss_kb;
};

struct fixture {
	struct loop *loop;
	struct uplink *uplink;
	struct loop_timer deadline, settle;
	unsigned wanted; /* connections */
	unsigned ups, downs;
	unsigned settles; /* since it came up, to look at what there is */
	bool message_due;
	bool stopped;
	struct usage first; /* after the warm-up */
};

/* Processes whose parent is this one, zombies too. */
static unsigned count_children(void)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	unsigned n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		char path[300], line[512] = "", *end;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		file = *entry->d_name >= '0' && *entry->d_name <= '9' ? fopen(path, "re") : NULL;
		if (!file)
			continue;
		/* "pid (name) state ppid" */
		end = fgets(line, sizeof(line), file) ? strrchr(line, ')') : NULL;
		n += end && strlen(end) > 4 && strtol(end + 4, NULL, 10) == getpid();
		fclose(file);
	}
	closedir(dir);
	return n;
}

static long rss_kb(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	long pages = 0;

	assert_non_null(file);
	assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
	fclose(file);
	return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static struct usage look(void)
{
	return (struct usage){
		.descriptors = open_descriptors(),
		.children = count_children(),
		.rss_kb = rss_kb(),
	};
}

static bool is_judged(const struct fixture *f)
{
	return f->ups == WARM_UP || (f->ups > WARM_UP && f->ups % LOOK_EACH == 0);
}

static void judge(struct fixture *f, const struct usage *usage)
{
	struct uplink_status status;

	if (f->ups == WARM_UP)
		f->first = *usage;
	uplink_get_status(f->uplink, &status);
	fprintf(stderr, "%5u connections of %llu attempts: %ld KB, %+ld KB; %u fds, %u child\n",
		f->ups, (unsigned long long)status.attempts, usage->rss_kb,
		usage->rss_kb - f->first.rss_kb, usage->descriptors, usage->children);
	assert_int_equal(status.connects, f->ups);
	assert_int_equal(usage->descriptors, f->first.descriptors);
	assert_int_equal(usage->children, 1); /* the cloud */
	if (!SANITIZED)
		assert_in_range(MAX(usage->rss_kb - f->first.rss_kb, 0L), 0, GROWTH_MAX_KB);
}

static void go_on(struct fixture *f)
{
	f->message_due = true;
	uplink_want_write(f->uplink);
}

/* The cloud waits meanwhile. What was closed a moment ago may still be there. */
static void on_settle(void *userdata)
{
	struct fixture *f = userdata;
	struct usage usage = look();
	bool settled = f->ups == WARM_UP ? f->settles >= SETTLES_MAX / 4
					 : usage.descriptors == f->first.descriptors;

	if (!settled && f->settles++ < SETTLES_MAX) {
		loop_timer_start(&f->settle, SETTLE_MS);
		return;
	}
	judge(f, &usage);
	go_on(f);
}

static size_t on_hello(void *userdata, struct message_resume *ret)
{
	(void)userdata;
	(void)ret;
	return 0;
}

static void on_up(void *userdata, const struct message_settings *settings)
{
	struct fixture *f = userdata;

	(void)settings;
	f->ups++;
	if (!is_judged(f)) {
		go_on(f);
		return;
	}
	f->settles = 0;
	loop_timer_start(&f->settle, SETTLE_MS);
}

static void on_goaway(void *userdata)
{
	(void)userdata;
}

static void on_stopped(void *userdata)
{
	struct fixture *f = userdata;

	f->stopped = true;
	loop_quit(f->loop);
}

static void on_stop(void *userdata)
{
	struct fixture *f = userdata;

	uplink_stop(f->uplink, 1000, on_stopped);
}

static void on_down(void *userdata)
{
	struct fixture *f = userdata;

	f->downs++;
	assert_int_equal(f->downs, f->ups);
	f->message_due = false;
	if (f->ups < f->wanted || f->settle.armed)
		return;
	loop_timer_init(f->loop, &f->settle, on_stop, f);
	loop_timer_start(&f->settle, 0);
}

static void on_message(void *userdata, const struct message *message)
{
	(void)userdata;
	fail_msg("a message of type %d", message->type);
}

/* Anything: the cloud waits for it. */
static size_t on_writable(void *userdata, uint8_t *buf, size_t size)
{
	const struct message_counter counter = {"x", 1};
	struct fixture *f = userdata;

	if (!f->message_due)
		return 0;
	f->message_due = false;
	return message_encode_stats(&counter, 1, buf, size);
}

static int sign(void *userdata, const uint8_t *data, size_t len,
		uint8_t ret_signature[MESSAGE_SIGNATURE_LEN])
{
	(void)userdata;
	(void)data;
	(void)len;
	memset(ret_signature, 1, MESSAGE_SIGNATURE_LEN);
	return 0;
}

static void on_deadline(void *userdata)
{
	struct fixture *f = userdata;

	fail_msg("%u connections in %d s", f->ups, DEADLINE_MS / 1000);
}

/* Connects again and again, from nothing to nothing. */
static void reconnect(struct fixture *f, const struct uplink_config *config, unsigned times)
{
	static const struct uplink_handler handler = {
		.on_hello = on_hello,
		.on_up = on_up,
		.on_goaway = on_goaway,
		.on_down = on_down,
		.on_message = on_message,
		.on_writable = on_writable,
	};
	static const struct uplink_identity identity = {.sign = sign};
	unsigned before;

	*f = (struct fixture){.wanted = times};
	assert_int_equal(loop_new(&f->loop), 0);
	/* libwebsockets 4.3 itself leaves one behind, at the end of the loop. */
	before = open_descriptors();
	loop_timer_init(f->loop, &f->deadline, on_deadline, f);
	loop_timer_init(f->loop, &f->settle, on_settle, f);
	loop_timer_start(&f->deadline, DEADLINE_MS);
	assert_int_equal(uplink_new(f->loop, config, &identity, &handler, f, &f->uplink), 0);
	assert_int_equal(loop_run(f->loop), 0);
	assert_true(f->stopped);
	assert_int_equal(f->downs, f->ups);
	loop_timer_stop(&f->deadline);
	loop_timer_stop(&f->settle);
	uplink_free(f->uplink);
	assert_int_equal(open_descriptors(), before);
	loop_free(f->loop);
	assert_int_equal(count_children(), 1);
}

static struct uplink_config config_with(const char *const *url)
{
	static const uint8_t run[MESSAGE_RUN_LEN] = {1};

	return (struct uplink_config){
		.urls = url,
		.n_urls = 1,
		.agent = "test",
		.run = run,
		.ping_interval_ms = 0, /* the cloud ends a connection at whatever comes */
		.ping_timeout_ms = 10000,
		.connect_timeout_ms = 10000,
		.backoff_min_ms = 1,
		.backoff_max_ms = 1,
	};
}

static void start_cloud(struct ending_cloud *cloud)
{
	char certificate[CERTIFICATE_PATH], key[CERTIFICATE_PATH];

	ending_cloud_start(cloud, certificate_path("good.pem", certificate),
			   certificate_path("leaf.key", key));
}

static void stays_the_same_over_10000_reconnects(void **state)
{
	char ca[CERTIFICATE_PATH], url[64];
	const char *const urls = url;
	struct uplink_config config = config_with(&urls);
	struct ending_cloud cloud;
	struct fixture f;

	(void)state;
	start_cloud(&cloud);
	snprintf(url, sizeof(url), "wss://127.0.0.1:%u/", cloud.port);
	config.ca_file = certificate_path("ca.pem", ca);
	reconnect(&f, &config, CONNECTIONS);
	assert_true(f.ups >= CONNECTIONS);
	ending_cloud_stop(&cloud);
}

/* A child for each attempt, several addresses, and a pin instead of a name. */
static void leaves_no_resolver_behind(void **state)
{
	char path[CERTIFICATE_PATH], text[PIN_TEXT] = "", url[64];
	const char *const urls = url;
	struct uplink_config config = config_with(&urls);
	struct ending_cloud cloud;
	struct fixture f;
	struct pin pin;
	FILE *file;

	(void)state;
	start_cloud(&cloud);
	file = fopen(certificate_path("leaf.pin", path), "re");
	assert_non_null(file);
	assert_non_null(fgets(text, sizeof(text), file));
	fclose(file);
	assert_int_equal(pin_parse(text, &pin), 0);
	snprintf(url, sizeof(url), "wss://localhost:%u/", cloud.port);
	config.ca_file = "/none";
	config.pins = &pin;
	config.n_pins = 1;
	reconnect(&f, &config, BY_NAME);
	assert_true(f.ups >= BY_NAME);
	ending_cloud_stop(&cloud);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(stays_the_same_over_10000_reconnects),
		cmocka_unit_test(leaves_no_resolver_behind),
	};

	log_set_level(LOG_LEVEL_ERROR);
	return cmocka_run_group_tests_name("uplink, reconnects", tests, make_certificates,
					   remove_certificates);
}
