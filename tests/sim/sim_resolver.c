/* SPDX-License-Identifier: Apache-2.0 */
/* uplink/resolver.h over the simulated network. */
#include "uplink/resolver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/sim_conn.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_random.h"

#define DNS_GIVES_UP_MS 8000 /* libc's resolver, of servers that say nothing useful */

struct resolver {
	struct sim_net *net; /* not owned */
	char host[256];
	void (*on_done)(void *userdata, const struct resolver_result *result);
	void *userdata; /* not owned */
	struct loop_timer timer;
};

static void on_answer(void *userdata)
{
	struct resolver *resolver = userdata;
	struct sim_net *net = resolver->net;
	struct sim_host *host = sim_net_find(net, resolver->host);
	struct resolver_result result = {
		.error = "Temporary failure in name resolution",
		.cause = FAILURE_NO_DNS,
	};

	/* Of silence the caller's deadline makes an end. */
	if (net->dns == SIM_DNS_SILENT || net->stalled)
		return;
	if (net->dns == SIM_DNS_FAILS || !host) {
		net->dns_failed++;
	} else {
		result.n = 1;
		snprintf(result.addresses[0], RESOLVER_TEXT, "192.0.2.%zu",
			 (size_t)(host - net->hosts) + 1);
	}
	resolver->on_done(resolver->userdata, &result);
}

int resolver_start(struct loop *loop, const char *host,
		   void (*on_done)(void *userdata, const struct resolver_result *result),
		   void *userdata, struct resolver **ret)
{
	struct resolver *resolver = calloc(1, sizeof(*resolver));

	if (!resolver)
		return -ENOMEM;
	resolver->net = loop->net;
	snprintf(resolver->host, sizeof(resolver->host), "%s", host);
	resolver->on_done = on_done;
	resolver->userdata = userdata;
	loop_timer_init(loop, &resolver->timer, on_answer, resolver);
	loop_timer_start(&resolver->timer, loop->net->dns == SIM_DNS_FAILS
						   ? sim_between(1, DNS_GIVES_UP_MS)
						   : 2 * sim_net_latency(loop->net));
	*ret = resolver;
	return 0;
}

void resolver_cancel(struct resolver *resolver)
{
	if (!resolver)
		return;
	loop_timer_stop(&resolver->timer);
	free(resolver);
}
