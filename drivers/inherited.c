/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * inherited.c - repairs that each program does first.
 */
#include "inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <paths.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Without this an image or a store could be opened as descriptor 2, and messages for the standard error output would
 * be written into it. A closed descriptor is opened in the wrong direction, so that its use fails as before: lost output
 * must not look like success. open() takes the lowest free number, which is this one: those before it are open.
 */
static void standard_descriptor_sanitize(int number)
{
	int flags = number == STDIN_FILENO ? O_WRONLY : O_RDONLY;

	if (fcntl(number, F_GETFD) >= 0 || errno != EBADF)
		return;
	if (open(_PATH_DEVNULL, flags) != number)
		_exit(EXIT_FAILURE);	/* no descriptor for a message, and it is not safe to continue */
}

void process_sanitize_fds(void)
{
	int number;

	for (number = STDIN_FILENO; number <= STDERR_FILENO; number++)
		standard_descriptor_sanitize(number);
	/* exec keeps SIG_IGN, with which children vanish before they were waited for */
	signal(SIGCHLD, SIG_DFL);
}
