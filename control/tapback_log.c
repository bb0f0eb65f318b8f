/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tapback_log.c - tapback's log lines.
 *
 * Invariant: only printable ASCII is logged, whatever a guest wrote into its
 * nodes.
 */
#include "tapback_log.h"

#include <stdarg.h>
#include <stdio.h>

static bool use_stderr = true;
static enum tapback_log_detail log_detail = TAPBACK_LOG_QUIET;

void tapback_log_open(bool to_stderr, enum tapback_log_detail detail)
{
	use_stderr = to_stderr;
	log_detail = detail;
	if (!to_stderr)
		openlog("tapback", LOG_PID, LOG_DAEMON);
}

void tapback_log_clean(char *text)
{
	for (char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

static bool log_wanted(int priority)
{
	if (priority == LOG_DEBUG)
		return log_detail >= TAPBACK_LOG_DEBUG;
	if (priority == LOG_INFO)
		return log_detail >= TAPBACK_LOG_VERBOSE;
	return true;
}

void tapback_log(int priority, const char *format, ...)
{
	char line[1024];
	va_list args;

	if (!log_wanted(priority))
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	tapback_log_clean(line);
	if (use_stderr)
		fprintf(stderr, "tapback: %s\n", line);
	else
		syslog(priority, "%s", line);
}
