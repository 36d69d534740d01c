/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/journal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

/* There is one form of each, so what was read is written as it was. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct journal journal, before;
	uint8_t *again;
	int r;

	memset(&journal, 0xaa, sizeof(journal));
	memcpy(&before, &journal, sizeof(journal));
	r = journal_decode(data, size, &journal);
	check(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT);
	if (r < 0) {
		check(memcmp(&journal, &before, sizeof(journal)) == 0);
		return 0;
	}
	check(size <= JOURNAL_BYTES);
	again = malloc(size);
	check(again != NULL);
	check(journal_encode(&journal, again, size) == size);
	check(memcmp(again, data, size) == 0);
	free(again);
	return 0;
}
