/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-tls.c - starts tapdisk-tls, the TLS proxy between a network and an
 * export on a Unix socket.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client_internal.h"
#include "tap-ctl.h"

#define PROGRAM "tapdisk-tls"

/* Options and their arguments are separate words, because a path may begin with a dash. */
int tls_start(const struct arguments *args, int listener, const char *server, struct error_text *text)
{
	char path[PATH_MAX], directory[PATH_MAX], line[1024], pid[16], *arguments[16];
	const char *given = args->tls_x509 ? args->tls_x509 : args->tls_psk;
	unsigned count = 0;
	int error;

	if (!client_program_beside(PROGRAM, path))
		strcpy(path, PROGRAM);		/* in $PATH */
	if (!realpath(given, directory))
		return error_set(text, -errno, "%s: %s", given, strerror(errno));
	snprintf(pid, sizeof(pid), "%d", args->pid);
	arguments[count++] = path;
	arguments[count++] = "--ready-fd";
	arguments[count++] = "3";
	arguments[count++] = "--listen-fd";
	arguments[count++] = "4";
	arguments[count++] = "--server";
	arguments[count++] = (char *)server;
	arguments[count++] = "--pid";
	arguments[count++] = pid;
	arguments[count++] = args->tls_x509 ? "--tls-x509" : "--tls-psk";
	arguments[count++] = directory;
	if (args->tls_verify)
		arguments[count++] = "--tls-verify";
	arguments[count] = NULL;
	error = client_start_daemon(arguments, listener, line, sizeof(line), text);
	if (error || !strcmp(line, "ready"))
		return error;
	return error_set(text, -EIO, PROGRAM " ended before it was ready");
}
