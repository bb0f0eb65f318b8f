/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_log.h - tapback's log: syslog, or stderr with --foreground, one
 * line per event. Lines may quote a guest's strings, so control characters
 * are replaced.
 */
#ifndef TAPBACK_LOG_H
#define TAPBACK_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <syslog.h>

enum tapback_log_detail { TAPBACK_LOG_QUIET, TAPBACK_LOG_VERBOSE, TAPBACK_LOG_DEBUG };

/* @to_stderr: stderr instead of syslog. */
void tapback_log_open(bool to_stderr, enum tapback_log_detail detail);
/* @priority: LOG_ERR, LOG_WARNING, LOG_NOTICE always; LOG_INFO with --verbose; LOG_DEBUG with --debug. */
void tapback_log(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Replace every character that is not printable ASCII by '?'. */
void tapback_log_clean(char *text);

#endif
