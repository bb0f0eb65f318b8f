/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tls_process.c - a client's process: drops its rights before it reads the
 * first byte, and reports why it ended.
 *
 * From then on it has only the client's socket, the connector's, which passes
 * it the NBD server's, the writing end of a pipe for one line, the keys in its
 * memory, and the about 30 system calls that moving bytes needs: no file, no
 * other process, no capability.
 */
#include "tls.h"

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"
#include "sandbox.h"

/* Does not use stdio, which would call fstat() on the descriptor. */
void tls_report(int reports, const char *problem)
{
	char line[600];
	int length = snprintf(line, sizeof(line), "%s\n", problem);

	if (write(reports, line, length) < 0)	/* dropped if the pipe is full */
		return;
}

static int give_up(const struct sock_fprog *filter, struct error_text *text)
{
	int error = confine_to_session(text);

	if (error)
		return error;
	prctl(PR_SET_PDEATHSIG, SIGKILL);	/* again, because changing the user clears it */
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
	syscall(SYS_exit_group, problem ? 1 : 0);	/* not _exit(), where AddressSanitizer makes forbidden calls */
	__builtin_unreachable();
}
