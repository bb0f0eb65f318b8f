/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_interrupt.c - lets a command clean up after a signal: the signal ends
 * only its waits, the command undoes its work, and then the program dies of
 * the signal. A second signal does not interrupt the cleanup: some signals
 * come twice, from the terminal and from the parent.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "array.h"
#include "client_interrupt.h"
#include "tapctl.h"

static volatile sig_atomic_t caught;
static int pipe_fds[2] = { -1, -1 };	/* wakes poll(), also for a signal that came just before it */

static void note_signal(int number)
{
	int error = errno;

	caught = number;
	if (write(pipe_fds[1], "", 1) < 0)
		errno = error;		/* there is no pipe: waits are not interrupted */
}

void interrupts_catch(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	const struct sigaction action = { .sa_handler = note_signal };
	struct sigaction before;
	size_t i;

	if (pipe_fds[0] >= 0 || pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK))
		return;
	tapctl_set_interrupt(pipe_fds[0]);
	for (i = 0; i < ARRAY_SIZE(signals); i++) {
		if (!sigaction(signals[i], NULL, &before) && before.sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
	}
}

bool interrupts_caught(void)
{
	return caught;
}

bool interrupts_stop(void)
{
	tapctl_set_interrupt(-1);
	return caught;
}

void interrupts_die(void)
{
	if (!caught)
		return;
	signal(caught, SIG_DFL);
	raise(caught);
}
