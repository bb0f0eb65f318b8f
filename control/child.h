/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * child.h - programs that are waited for. What goes on by itself is started
 * by client_daemon.c.
 */
#ifndef TAPSNAP_CHILD_H
#define TAPSNAP_CHILD_H

#include <stddef.h>
#include <sys/types.h>

/*
 * A program, looked for in PATH unless its name has a slash, with the usual signals and no more files than these: it reads
 * @in and writes to @out; -1: /dev/null. @flags: of posix_spawn, beside those for signals. 0 or -errno.
 */
int child_start(pid_t *pid, const char *const arguments[], int in, int out, short flags);
/* Until it ends: its status, as waitpid() has it, or -errno. */
int child_wait(pid_t pid);
/* A file without a name for what it says, or -errno. A pipe would get full, and a daemon that it leaves behind would keep it open. */
int child_output(void);
/* The first line of what it said; "": nothing. */
void child_first_line(int output, char *line, size_t size);

#endif
