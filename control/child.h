/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * child.h - runs programs and waits for them. client_daemon.c starts those
 * that run in the background.
 */
#ifndef TAPSNAP_CHILD_H
#define TAPSNAP_CHILD_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Start a program, found in PATH unless its name has a slash, with default signals and no other descriptors: @in is its
 * stdin, @out its stdout and stderr; -1: /dev/null. @flags: of posix_spawn, besides those for signals. 0 or -errno.
 */
int child_start(pid_t *pid, const char *const arguments[], int in, int out, short flags);
/* Wait for its end. Returns the status of waitpid(), or -errno. */
int child_wait(pid_t pid);
/* An unnamed file for its output, or -errno. A pipe could fill up, and a daemon that it leaves behind would keep it open. */
int child_output(void);
/* The first line of its output; "": none. */
void child_first_line(int output, char *line, size_t size);

#endif
