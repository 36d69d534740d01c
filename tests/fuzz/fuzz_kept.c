/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/kept.h"

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
	struct kept kept, before;
	uint8_t *again;
	int r;

	memset(&kept, 0xaa, sizeof(kept));
	memcpy(&before, &kept, sizeof(kept));
	r = kept_decode(data, size, &kept);
	check(r == 0 || r == -EBADMSG || r == -EPROTONOSUPPORT);
	if (r < 0) {
		check(memcmp(&kept, &before, sizeof(kept)) == 0);
		return 0;
	}
	check(size <= KEPT_BYTES(kept.n_out + kept.n_pending));
	again = malloc(size);
	check(again != NULL);
	check(kept_encode(&kept, again, size) == size);
	check(memcmp(again, data, size) == 0);
	free(again);
	kept_done(&kept);
	return 0;
}
