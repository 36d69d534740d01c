/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* blecon-hotspotctl, as main is called. */
int ctl_main(int argc, char **argv);
