/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * path.h - whatever is done by a file's name: opened, looked at, renamed,
 * removed. The tools do it themselves. A tapdisk that has given up root's
 * powers asks its opener, a process that does nothing else and has kept what
 * that takes (tapdisk/opener.c).
 *
 * The calls are libc's, errno included, and wait for their answer; any thread
 * may call them. Those that change nothing wait for an opener no longer than
 * path_timeout_ms, and end with ETIMEDOUT; its descriptor the opener closes if
 * it has one later. What changes something may not be done after it was said
 * to have failed, and is waited for. What there is to read in /proc and /sys is world-readable
 * and opened directly, except for /proc/self/fd/N: that is this process' own
 * descriptor here as elsewhere. An opener that has gone: ECONNRESET.
 */
#ifndef TAPSNAP_PATH_H
#define TAPSNAP_PATH_H

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/vfs.h>

int path_open(const char *path, int flags, mode_t mode);	/* always O_CLOEXEC */
DIR *path_opendir(const char *path);
int path_stat(const char *path, struct stat *st);
int path_lstat(const char *path, struct stat *st);
int path_statfs(const char *path, struct statfs *fs);
char *path_real(const char *path, char real[PATH_MAX]);		/* realpath() */
int path_mkdir(const char *path, mode_t mode);
int path_rmdir(const char *path);
int path_remove(const char *path);
int path_rename(const char *from, const char *to);
int path_bind(int socket, const char *path);			/* a Unix socket; its mode is 0600 then */

/* Both name one file or block device. False when that cannot be seen. */
bool path_same_image(const char *one, const char *other);

/* Durable: all of the file, its times too, or the names in a directory; the name @path in its directory. 0 or -errno. */
int path_sync(const char *path);
int path_sync_name(const char *path);

/* What is there until a reboot, and what lasts beyond: RUN_DIR_DEFAULT and STATE_DIR_DEFAULT, or what the environment says
 * (protocol.h). */
const char *path_run_dir(void);
const char *path_state_dir(void);

/* The owner of what the calls above make. */
uid_t path_uid(void);

/* From now on @socket's other end, a process of that user, does it all. Once, while there is one thread. */
void path_set_opener(int socket, uid_t uid);
bool path_has_opener(void);

extern unsigned path_timeout_ms;		/* tests set it */
/* Nothing waits for the calling thread: it waits for as long as it takes. */
void path_no_timeout(void);

#endif
