/* SPDX-License-Identifier: Apache-2.0 */
#include "ble/rfkill.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/util.h"

#define PATH_SIZE 96 /* "/sys/class/bluetooth/hciN/rfkillM/soft" and NUL, with room */

static bool says_yes(const char *directory, const char *rfkill, const char *file)
{
	_cleanup_close_ int fd = -1;
	char path[2 * PATH_SIZE], text[2];

	snprintf(path, sizeof(path), "%s/%s/%s", directory, rfkill, file);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	return fd >= 0 && util_read(fd, text, sizeof(text)) > 0 && text[0] == '1';
}

bool rfkill_blocks(const char *sysfs, unsigned index)
{
	char path[PATH_SIZE];
	struct dirent *entry;
	bool blocks = false;
	DIR *directory;

	snprintf(path, sizeof(path), "%s/hci%u", sysfs, index);
	directory = opendir(path);
	if (!directory)
		return false;
	while (!blocks && (entry = readdir(directory))) {
		if (strncmp(entry->d_name, "rfkill", strlen("rfkill")) == 0)
			blocks = says_yes(path, entry->d_name, "soft") ||
				 says_yes(path, entry->d_name, "hard");
	}
	closedir(directory);
	return blocks;
}
