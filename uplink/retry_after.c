/* SPDX-License-Identifier: Apache-2.0 */
#include "uplink/retry_after.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/util.h"

/* An HTTP date as it is written today (RFC 9110, section 5.6.7). */
static bool parse_date(const char *text, time_t *ret)
{
	struct tm tm = {0};
	const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &tm);

	if (!end || *end)
		return false;
	*ret = timegm(&tm);
	return true;
}

uint32_t retry_after_parse(const char *value, const char *date)
{
	time_t until, now;

	if (*value && strspn(value, "0123456789") == strlen(value))
		return (uint32_t)MIN(strtoull(value, NULL, 10),
				     (unsigned long long)RETRY_AFTER_MAX_S);
	if (!date || !parse_date(value, &until) || !parse_date(date, &now) || until <= now)
		return 0;
	return (uint32_t)MIN((long long)(until - now), (long long)RETRY_AFTER_MAX_S);
}
