// SPDX-License-Identifier: Apache-2.0
// Preloaded into btvirt: its advertising reports say RSSI 127, "not available", which the kernel
// drops wherever a discovery filter has an RSSI threshold. This makes them say -60 dBm.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

#define H4_EVENT      0x04
#define EVT_LE_META   0x3e
#define LE_ADV_REPORT 0x02
#define RSSI_DBM      (-60)

// H4 type, event code, length, LE subevent, one report, whose last byte is the RSSI.
ssize_t writev(int fd, const struct iovec *parts, int count)
{
	static ssize_t (*next)(int, const struct iovec *, int);
	uint8_t packet[4];
	size_t filled = 0;

	if (!next)
		next = (ssize_t(*)(int, const struct iovec *, int))dlsym(RTLD_NEXT, "writev");
	for (int i = 0; i < count && filled < sizeof(packet); i++) {
		size_t n = parts[i].iov_len;

		if (n > sizeof(packet) - filled)
			n = sizeof(packet) - filled;
		memcpy(packet + filled, parts[i].iov_base, n);
		filled += n;
	}
	if (filled == sizeof(packet) && packet[0] == H4_EVENT && packet[1] == EVT_LE_META &&
	    packet[3] == LE_ADV_REPORT) {
		const struct iovec *last = &parts[count - 1];

		((int8_t *)last->iov_base)[last->iov_len - 1] = RSSI_DBM;
	}
	return next(fd, parts, count);
}
