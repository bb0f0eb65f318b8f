/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * path.h - operations on a file by name: open, stat, rename, remove. The
 * tools do them directly. A tapdisk that has given up root's powers asks its
 * opener, a process that does nothing else and has kept the rights for it
 * (tapdisk/opener.c).
 *
 * The calls are libc's, errno included, and block; any thread may call them.
 * Those that change nothing wait for the opener at most path_timeout_ms, then
 * fail with ETIMEDOUT; the opener closes a descriptor that it gets later. Those
 * that change something wait without a limit: a change must not happen after
 * its call was reported as failed. Files in /proc and /sys are world-readable
 * and opened directly, except for /proc/self/fd/N, which the opener would take
 * for its own descriptor. ECONNRESET: the opener has died.
 */
#ifndef TAPSNAP_PATH_H
#define TAPSNAP_PATH_H

#include <dirent.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/vfs.h>

#include "error.h"

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
int path_bind(int socket, const char *path);			/* a Unix socket; sets its mode to 0600 */

/* True if both name one file or block device. False also if that cannot be determined. */
bool path_same_image(const char *one, const char *other);

/* Make a file, its times too, or the names in a directory durable; or the name @path in its directory. 0 or -errno. */
int path_sync(const char *path);
int path_sync_name(const char *path);

/* The directory of runtime files, and of those that outlast a boot: RUN_DIR_DEFAULT and STATE_DIR_DEFAULT, or from the
 * environment (protocol.h). */
const char *path_run_dir(void);
const char *path_state_dir(void);
/* Make a directory, which may exist. Lasting ones have a durable name afterwards, even if the process that made it was killed
 * before that: @path, whose parent exists; the state directory, and @below in it, or NULL. 0 or -errno with a text. */
int path_make_run_dir(struct error_text *text);
int path_make_lasting_directory(const char *path, struct error_text *text);
int path_make_state_dir(const char *below, struct error_text *text);

/* The owner of files that these calls make. */
uid_t path_uid(void);

/*
 * From now on the process at the sockets' other ends, of user @uid, does the operations. The second socket is for tapdisk's
 * own directories, which answer even if images do not: run and state directory, /dev/shm. Call once, before there are threads.
 */
void path_set_opener(const int sockets[2], uid_t uid);
bool path_has_opener(void);

extern unsigned path_timeout_ms;		/* tests set it */
/* The calling thread may block without a limit: nothing depends on it. */
void path_no_timeout(void);

#endif
