/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tls_process.c - the process that has a client: what it gives up before it
 * reads the first byte, and how it ends.
 *
 * From then on it has what it was made with and no way to more: the client's
 * socket, the connector's, which brings the NBD server's, and the end of a pipe
 * for one line; the keys, which are in its memory; no file, no other process,
 * no right, and the about 30 system calls that moving bytes takes.
 */
#include "tls.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"
#include "sandbox.h"

/* Without stdio, which would have a look at the descriptor first. */
void tls_report(int reports, const char *problem)
{
	char line[600];
	int length = snprintf(line, sizeof(line), "%s\n", problem);

	if (write(reports, line, length) < 0)	/* what is too much is not told */
		return;
}

static int give_up(const struct sock_fprog *filter, struct error_text *text)
{
	int error = confine_to_session(text);

	if (error)
		return error;
	prctl(PR_SET_PDEATHSIG, SIGKILL);	/* which another user does not inherit */
	return sandbox_enter(filter, text);
}

void tls_process_run(const struct tls_credentials *credentials, const struct sock_fprog *filter, int client, int connector,
		     int reports)
{
	struct error_text text = { "" };
	const char *problem = text.text;

	if (!give_up(filter, &text))
		problem = tls_session_run(credentials, client, connector);
	if (problem)
		tls_report(reports, problem);
	syscall(SYS_exit_group, problem ? 1 : 0);	/* AddressSanitizer would look for leaks in _exit(), with calls that are not allowed */
	__builtin_unreachable();
}
