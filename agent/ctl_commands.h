/* SPDX-License-Identifier: Apache-2.0 */
/* The commands. Each prints what it finds out, or on standard error why it cannot. */
#pragma once

#include "agent/ctl.h"

enum exit_code ctl_status(const struct ctl *ctl);
enum exit_code ctl_adapters(const struct ctl *ctl);
enum exit_code ctl_uplink(const struct ctl *ctl);
enum exit_code ctl_devices(const struct ctl *ctl);
enum exit_code ctl_device(const struct ctl *ctl);
enum exit_code ctl_sessions(const struct ctl *ctl);
enum exit_code ctl_watch(const struct ctl *ctl);
enum exit_code ctl_events(const struct ctl *ctl);
enum exit_code ctl_journal(const struct ctl *ctl);
enum exit_code ctl_log(const struct ctl *ctl);
enum exit_code ctl_log_level(const struct ctl *ctl);
enum exit_code ctl_metrics(const struct ctl *ctl);
/* Also without a daemon: */
enum exit_code ctl_identity(const struct ctl *ctl);
enum exit_code ctl_doctor(const struct ctl *ctl);
enum exit_code ctl_report(const struct ctl *ctl);
