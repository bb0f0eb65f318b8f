/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inherited.c - what each program sets right before it does anything else.
 */
#include "inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <paths.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Without this an image or a store could be opened as descriptor 2, and a line for the standard error output be
 * written into it. What was closed is opened the wrong way round, so that its use fails as before: output that nobody
 * gets is no success. open() takes the lowest number that is free, which is this one: those before it are open.
 */
static void standard_descriptor_sanitize(int number)
{
	int flags = number == STDIN_FILENO ? O_WRONLY : O_RDONLY;

	if (fcntl(number, F_GETFD) >= 0 || errno != EBADF)
		return;
	if (open(_PATH_DEVNULL, flags) != number)
		_exit(EXIT_FAILURE);	/* nobody can be told, and to go on is not safe */
}

void process_sanitize_fds(void)
{
	int number;

	for (number = STDIN_FILENO; number <= STDERR_FILENO; number++)
		standard_descriptor_sanitize(number);
	/* ignored, which exec leaves so, it lets children vanish before anybody has waited for them */
	signal(SIGCHLD, SIG_DFL);
}
