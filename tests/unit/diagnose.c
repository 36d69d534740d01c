/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/diagnose.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "agent/loop.h"
#include "tests/unit/common.h"

struct run {
	struct loop *loop;
	struct diagnosis *diagnosis;
	bool cancel_within;
	unsigned calls;
};

static char text[DIAGNOSIS_TEXT];
static enum failure_cause cause;
static enum websocket_step step;

static void on_done(void *userdata, const char *result)
{
	struct run *run = userdata;

	run->calls++;
	cause = diagnosis_cause(run->diagnosis);
	step = diagnosis_step(run->diagnosis);
	assert_non_null(memchr(result, 0, sizeof(text)));
	snprintf(text, sizeof(text), "%s", result);
	assert_null(strpbrk(text, "\r\n"));
	if (run->cancel_within)
		diagnosis_cancel(TAKE_PTR(run->diagnosis));
	loop_quit(run->loop);
}

static void on_deadline(void *userdata)
{
	(void)userdata;
	fail_msg("no result in time");
}

const char *diagnose(const struct diagnose *what)
{
	struct run run = {.cancel_within = what->cancel_within};
	struct loop_timer deadline = {0};
	unsigned before;

	assert_int_equal(loop_new(&run.loop), 0);
	before = open_descriptors();
	loop_timer_init(run.loop, &deadline, on_deadline, NULL);
	loop_timer_start(&deadline, 3 * DIAGNOSE_MS);
	assert_int_equal(diagnosis_start(run.loop, &what->config, &what->target,
					 what->timeout_ms ? what->timeout_ms : DIAGNOSE_MS, on_done,
					 &run, &run.diagnosis),
			 0);
	assert_int_equal(run.calls, 0);
	assert_int_equal(loop_run(run.loop), 0);
	assert_int_equal(run.calls, 1);
	diagnosis_cancel(run.diagnosis);
	loop_timer_stop(&deadline);
	/* Not afterwards: libwebsockets 4.3 leaves one of its own. */
	assert_int_equal(open_descriptors(), before);
	loop_free(run.loop);
	return text;
}

enum failure_cause diagnose_cause(void)
{
	return cause;
}

enum websocket_step diagnose_step(void)
{
	return step;
}
