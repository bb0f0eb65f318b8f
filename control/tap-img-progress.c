/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-img-progress.c - shows the progress of long work, and interrupts it:
 * after a signal the work ends with -EINTR at its next step and cleans up, and
 * then the program dies of that signal.
 *
 * A terminal gets a bar on stderr. Without a terminal nothing is printed,
 * except with -p: then a line from time to time.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "tap-img.h"

#define BAR_WIDTH 30
#define TERMINAL_PERIOD 0.1		/* seconds between two updates */
#define PIPE_PERIOD 1.0

void progress_begin(struct progress *progress, const char *what, bool always)
{
	*progress = (struct progress){ .what = what, .terminal = isatty(STDERR_FILENO), .always = always };
	progress->started = progress->shown = (double)clock_ns() / 1e9;
	interrupts_catch();
}

void progress_line(const struct progress *progress, double seconds, uint64_t done, uint64_t total, char *line, size_t size)
{
	double part = total && done < total ? (double)done / (double)total : 1, left = part > 0 ? seconds / part - seconds : 0;
	unsigned filled = (unsigned)(part * BAR_WIDTH);
	char bar[BAR_WIDTH + 1];

	memset(bar, ' ', BAR_WIDTH);
	memset(bar, '=', filled);
	if (filled < BAR_WIDTH)
		bar[filled] = '>';
	bar[BAR_WIDTH] = 0;
	snprintf(line, size, "%-8s [%s] %5.1f%%  %7.1f MiB/s  %u:%02u left", progress->what, bar, part * 100,
		 seconds > 0 ? (double)done / seconds / (1 << 20) : 0.0, (unsigned)(left / 60), (unsigned)left % 60);
}

int progress_step(struct progress *progress, uint64_t done, uint64_t total)
{
	double at = (double)clock_ns() / 1e9;
	char line[160];

	if (interrupts_caught())
		return -EINTR;
	if ((!progress->terminal && !progress->always) ||
	    (at - progress->shown < (progress->terminal ? TERMINAL_PERIOD : PIPE_PERIOD) && done < total))
		return 0;
	progress->shown = at;
	progress_line(progress, at - progress->started, done, total, line, sizeof(line));
	fprintf(stderr, progress->terminal ? "\r%s" : "%s\n", line);
	progress->drawn = progress->terminal;
	return 0;
}

void progress_end(struct progress *progress)
{
	if (progress->drawn)
		fprintf(stderr, "\r%*s\r", 100, "");
	progress->drawn = false;
}
