/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/urls.h"

#include <errno.h>
#include <string.h>

#include "agent/util.h"

int urls_init(struct urls *urls, const char *const *texts, size_t n, uint32_t backoff_min_ms,
	      uint32_t backoff_max_ms, size_t *ret_index, const char **ret_what)
{
	memset(urls, 0, sizeof(*urls));
	*ret_index = 0;
	*ret_what = "too many URLs";
	if (n > URLS_MAX)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		struct url *url = &urls->urls[i];

		*ret_index = i;
		if (endpoint_parse(texts[i], &url->endpoint, ret_what) < 0)
			return -EINVAL;
		url->text = texts[i];
		backoff_init(&url->backoff, backoff_min_ms, backoff_max_ms);
	}
	urls->n = n;
	return 0;
}

struct url *urls_next(struct urls *urls, uint64_t now_ms)
{
	struct url *first = &urls->urls[0];

	for (size_t i = 0; i < urls->n; i++) {
		struct url *url = &urls->urls[i];

		if (url->retry_ms <= now_ms)
			return url;
		if (url->retry_ms < first->retry_ms)
			first = url;
	}
	return first;
}

uint32_t url_failed(struct url *url, uint64_t now_ms, bool hopeless, uint32_t at_least_ms,
		    uint32_t random)
{
	uint32_t wait_ms = hopeless ? backoff_longest(&url->backoff, random)
				    : backoff_next(&url->backoff, random);

	/* Jitter on top, as many hubs were told the same. */
	if (at_least_ms > 0)
		wait_ms = MAX(wait_ms, at_least_ms + random % (at_least_ms / 4 + 1));
	url->failures++;
	url->error_ms = now_ms;
	url->retry_ms = now_ms + wait_ms;
	return wait_ms;
}

void urls_disperse(struct urls *urls, uint64_t now_ms, uint32_t random)
{
	for (size_t i = 0; i < urls->n; i++) {
		struct url *url = &urls->urls[i];
		uint64_t spread_ms = URLS_SPREAD * (uint64_t)url->backoff.min_ms;
		uint64_t soonest_ms = now_ms + random % (spread_ms + 1);

		url->retry_ms = MAX(url->retry_ms, soonest_ms);
	}
}

void url_good(struct url *url)
{
	backoff_reset(&url->backoff);
	url->retry_ms = 0;
}
