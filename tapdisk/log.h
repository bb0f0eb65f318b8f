/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * log.h - tapdisk's log: to syslog, or to stderr with --log-stderr, one line per
 * event. TAPSNAP_DEBUG=control adds a line for each command; the data path only
 * logs errors.
 */
#ifndef TAPDISK_LOG_H
#define TAPDISK_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO };

extern bool log_debug_control;
extern const char *log_socket_path;	/* the system's logger; tests set it */

/* @program: the name before each line. @to_stderr: stderr instead of syslog. */
void log_open(const char *program, bool to_stderr);
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* For events that a guest can cause: at most 10 lines a second, then the number of dropped lines. */
void log_guest(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define log_error(...)   log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_control(...) do { if (log_debug_control) log_debug(__VA_ARGS__); } while (0)

#endif
