/* SPDX-License-Identifier: Apache-2.0 */
/* Where the status socket listens: its directory, its file, and whom that is for. */
#pragma once

#include <sys/un.h>

/* May ask, where there is such a group and the daemon may give the socket to it. */
#define STATUS_PATH_GROUP "blecon-hotspot"
/* Clients that the kernel keeps for us to accept; a non-blocking connect of one more fails. */
#define STATUS_PATH_WAITING 64

/* Listens at the address, for user and group. The last directory of its path is made, 0755, where
 * it is missing; what an earlier run left there is replaced. Returns a non-blocking fd, or
 * -errno: -EADDRINUSE where another process answers there, -EEXIST where something else is. */
int status_path_listen(const struct sockaddr_un *address);
