/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * takeover.c - the lock of this process, and the take-over records of its disks.
 *
 * Invariants:
 *  1. The lock is held from before the first I/O until the last I/O has ended,
 *     which may be after the process (engine_keep()).
 *  2. A record is replaced as a whole, by rename(). It names the process that
 *     serves the disk now.
 *  3. Only the process that has a minor locked changes its disk's directory.
 */
#include "takeover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot_id.h"
#include "json_memory.h"
#include "log.h"
#include "path.h"

#define START_TRIES 16		/* each fails if an ending tapdisk removes the empty directory meanwhile */

static char process_name[TAKEOVER_NAME_MAX], boot[BOOT_ID_SIZE];
static int lock_fd = -1;

bool takeover_started(void)
{
	return lock_fd >= 0;
}

const char *takeover_name(void)
{
	return process_name;
}

const char *takeover_boot(void)
{
	return boot;
}

static bool lock_path(char path[PATH_MAX], const char *name)
{
	return snprintf(path, PATH_MAX, TAKEOVER_LOCK_FORMAT, path_run_dir(), name) < PATH_MAX;
}

static bool directory_path(char path[PATH_MAX])
{
	return snprintf(path, PATH_MAX, TAKEOVER_DIR_FORMAT, path_run_dir()) < PATH_MAX;
}

/* Make a name that no other process had, even one with the same pid. */
static int make_name(void)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	snprintf(process_name, sizeof(process_name), "%d-%016llx", (int)getpid(), (unsigned long long)random);
	return 0;
}

static int make_lock(struct error_text *text)
{
	char directory[PATH_MAX], path[PATH_MAX];

	if (!directory_path(directory) || !lock_path(path, process_name))
		return error_set(text, -ENAMETOOLONG, "%s: path too long", path_run_dir());
	for (int tries = 0; lock_fd < 0 && tries < START_TRIES; tries++) {
		if (path_mkdir(directory, 0700) && errno != EEXIST)
			break;
		lock_fd = path_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
		if (lock_fd < 0 && errno != ENOENT)
			break;
	}
	if (lock_fd < 0 || flock(lock_fd, LOCK_EX | LOCK_NB))
		return error_set(text, -errno, "%s: %s", path, strerror(errno));
	return 0;
}

int takeover_start(struct engine *engine, struct error_text *text)
{
	int error = boot_id_read(boot);

	if (error)
		return error_set(text, error, BOOT_ID_FILE ": %s", strerror(-error));
	error = make_name();
	if (!error)
		error = make_lock(text);
	if (!error)
		error = engine_keep(engine, lock_fd);
	return error ? error_set(text, error, "engine %s: cannot keep the process' lock: %s", engine->ops->name,
				 strerror(-error)) : 0;
}

void takeover_stop(void)
{
	char path[PATH_MAX];

	if (lock_fd < 0)
		return;
	if (lock_path(path, process_name))
		path_remove(path);
	close(lock_fd);
	lock_fd = -1;
	if (directory_path(path))
		path_rmdir(path);
}

int takeover_ended(const char *name, struct error_text *text)
{
	char path[PATH_MAX];
	int fd, error = 0;

	if (strchr(name, '/') || !lock_path(path, name))
		return error_set(text, -EUCLEAN, "no name of a process");
	fd = path_open(path, O_RDWR | O_NOFOLLOW, 0);
	if (fd < 0)
		return errno == ENOENT ? 0 : error_set(text, -errno, "%s: %s", path, strerror(errno));
	if (flock(fd, LOCK_SH | LOCK_NB))
		error = error_set(text, -EBUSY, "process %s or its I/O has not ended", name);
	close(fd);
	return error;
}

bool takeover_path(char *path, size_t size, int minor, const char *name)
{
	int length = snprintf(path, size, TAKEOVER_DISK_FORMAT "%s%s", path_run_dir(), minor, name ? "/" : "", name ? name : "");

	return length > 0 && (size_t)length < size;
}

char *takeover_disk_prepare(int minor)
{
	char path[PATH_MAX];

	if (!takeover_started() || !takeover_path(path, sizeof(path), minor, NULL) || (path_mkdir(path, 0700) && errno != EEXIST) ||
	    !takeover_path(path, sizeof(path), minor, TAKEOVER_JOURNAL))
		return NULL;
	return strdup(path);
}

bool takeover_disk_has_journal(int minor)
{
	char path[PATH_MAX];
	struct stat st;

	return takeover_started() && takeover_path(path, sizeof(path), minor, TAKEOVER_JOURNAL) && !path_stat(path, &st);
}

void takeover_disk_give_up(int minor)
{
	char path[PATH_MAX];

	if (takeover_started() && takeover_path(path, sizeof(path), minor, NULL))
		path_rmdir(path);
}

static json_t *record_json(const struct vbd *vbd)
{
	const struct vbd_throttle *throttle = &vbd->throttle;

	return json_pack("{s:i, s:s, s:i, s:s, s:i, s:i, s:s, s:b, s:b, s:i, s:s, s:I, s:b, s:b, s:{s:I, s:I, s:i}}",
			 "version", TAKEOVER_VERSION, "boot", boot, "pid", (int)getpid(), "name", process_name,
			 "minor", vbd->minor, "former", vbd->former, "target", vbd->target,
			 "read_only", vbd->options.read_only, "no_direct", vbd->options.no_direct,
			 "sector_size", (int)vbd->options.sector_size, "on_error", vbd_on_error_name(vbd->errors.policy),
			 "cache_mib", (json_int_t)(vbd->options.cache_bytes >> 20),
			 "paused", vbd->held_paused, "beside_qemu", vbd->options.share_qemu != SHARE_QEMU_NO,
			 "throttle", "iops", (json_int_t)throttle->iops, "bytes", (json_int_t)throttle->bytes,
			 "burst_ms", (int)throttle->burst_ms);
}

static int write_record(const char *path, const char *line)
{
	int fd = path_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
	size_t length = strlen(line);
	int error = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, line, length) != (ssize_t)length)
		error = -ENOSPC;
	close(fd);
	return error;
}

static int save(const struct vbd *vbd)
{
	char path[PATH_MAX], fresh[PATH_MAX];
	json_t *json = record_json(vbd);
	char *line = json ? json_dumps(json, JSON_COMPACT) : NULL;
	int error = line ? 0 : -ENOMEM;

	json_decref(json);
	if (!error && (!takeover_path(path, sizeof(path), vbd->minor, TAKEOVER_RECORD) ||
		       !takeover_path(fresh, sizeof(fresh), vbd->minor, TAKEOVER_RECORD ".new")))
		error = -ENAMETOOLONG;
	if (!error)
		error = write_record(fresh, line);
	if (!error && path_rename(fresh, path))
		error = -errno;
	json_memory_free(line);
	return error;
}

void takeover_disk_save(const struct vbd *vbd)
{
	int error = takeover_started() ? save(vbd) : 0;
	char path[PATH_MAX];

	if (!error)
		return;
	/* with an old record a successor might open another image */
	if (takeover_path(path, sizeof(path), vbd->minor, TAKEOVER_RECORD))
		path_remove(path);
	log_warning("minor %d: cannot save the take-over record: %s; if this tapdisk dies, the disk cannot be taken over",
		    vbd->minor, strerror(-error));
}

void takeover_disk_forget(int minor)
{
	char directory[PATH_MAX], path[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	if (!takeover_started() || !takeover_path(directory, sizeof(directory), minor, NULL))
		return;
	dir = path_opendir(directory);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.' && takeover_path(path, sizeof(path), minor, entry->d_name))
			path_remove(path);
	}
	closedir(dir);
	path_rmdir(directory);
}
