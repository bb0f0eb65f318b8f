/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * log.c - one line an event, to syslog or stderr.
 *
 * Lines that a guest can cause have a budget, so that a guest cannot fill the
 * host's disk; the number of dropped lines is logged with the next line.
 *
 * Lines are sent to the system's logger without waiting. syslog() would block
 * on a logger that has stopped, and all disks with it; and it connects its
 * socket again after the logger was restarted, which the sandbox does not
 * permit. Lines that the logger does not accept are counted, and the number is
 * logged with the next line that it accepts. A logger with a stream socket,
 * which is rare, gets nothing after it was restarted.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

#define GUEST_LINES_A_SECOND 10
#define LINE_SIZE 4096

bool log_debug_control;
const char *log_socket_path = _PATH_LOG;

static const char *log_program = "tapdisk";
static bool log_to_stderr = true;
static int log_socket = -1, log_stream = -1;
static unsigned not_taken;
static uint64_t guest_second;		/* the second that guest_lines counts */
static unsigned guest_lines, guest_dropped;

static struct sockaddr_un logger_address(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	strncpy(address.sun_path, log_socket_path, sizeof(address.sun_path) - 1);
	return address;
}

/* It fails where the logger takes datagrams. */
static void connect_stream(void)
{
	struct sockaddr_un address = logger_address();

	log_stream = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (log_stream >= 0 && connect(log_stream, (struct sockaddr *)&address, sizeof(address))) {
		close(log_stream);
		log_stream = -1;
	}
}

void log_open(const char *program, bool to_stderr)
{
	const char *debug = getenv("TAPSNAP_DEBUG");

	log_program = program;
	log_to_stderr = to_stderr;
	log_debug_control = debug && strstr(debug, "control");
	if (to_stderr)
		return;
	tzset();	/* its file cannot be opened later */
	log_socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	connect_stream();
}

/* In the format of syslog(). False: the logger does not accept it now. */
static bool send_line(int priority, const char *text)
{
	struct sockaddr_un address = logger_address();
	char line[LINE_SIZE + 128], date[32];
	time_t now = time(NULL);
	struct tm parts;
	ssize_t sent;
	size_t length;

	if (!localtime_r(&now, &parts) || !strftime(date, sizeof(date), "%h %e %T", &parts))
		date[0] = '\0';
	length = (size_t)snprintf(line, sizeof(line), "<%d>%s %s[%d]: %s", priority | LOG_DAEMON, date, log_program, (int)getpid(), text);
	if (log_stream >= 0)	/* a line ends with its NUL; the kernel takes it whole or not at all */
		sent = send(log_stream, line, length + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	else
		sent = sendto(log_socket, line, length, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address, sizeof(address));
	return sent >= 0 || errno != EAGAIN;
}

static bool tell_not_taken(void)
{
	char text[64];

	snprintf(text, sizeof(text), "the logger did not take %u lines", not_taken);
	if (!send_line(LOG_WARNING, text))
		return false;
	not_taken = 0;
	return true;
}

static void __attribute__((format(printf, 2, 0))) write_line(int priority, const char *format, va_list args)
{
	char line[LINE_SIZE];

	vsnprintf(line, sizeof(line), format, args);
	if (log_to_stderr)
		fprintf(stderr, "%s: %s\n", log_program, line);
	else if ((not_taken && !tell_not_taken()) || !send_line(priority, line))
		not_taken++;
}

static void __attribute__((format(printf, 2, 3))) write_formatted(int priority, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_line(priority, format, args);
	va_end(args);
}

static int level_priority(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return LOG_ERR;
	case LOG_LEVEL_WARNING:
		return LOG_WARNING;
	default:
		return LOG_INFO;
	}
}

/* Start a new budget when the second has passed. */
static void renew_budget(void)
{
	uint64_t second = (uint64_t)clock_ms() / 1000;

	if (second == guest_second)
		return;
	guest_second = second;
	guest_lines = 0;
	if (guest_dropped)
		write_formatted(LOG_WARNING, "%u lines about guests were left out", guest_dropped);
	guest_dropped = 0;
}

void log_line(enum log_level level, const char *format, ...)
{
	va_list args;

	renew_budget();
	va_start(args, format);
	write_line(level_priority(level), format, args);
	va_end(args);
}

void log_guest(enum log_level level, const char *format, ...)
{
	va_list args;

	renew_budget();
	if (guest_lines == GUEST_LINES_A_SECOND) {
		guest_dropped++;
		return;
	}
	guest_lines++;
	va_start(args, format);
	write_line(level_priority(level), format, args);
	va_end(args);
}

void log_debug(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	write_line(LOG_DEBUG, format, args);
	va_end(args);
}
