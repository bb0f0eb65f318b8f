/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * scratch.h - files and loop devices for one test program, all removed when it
 * ends, also when it fails or is interrupted.
 */
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRATCH_LOOPS 8

static char scratch_dir[64];
static pid_t scratch_owner;
static char scratch_loops[SCRATCH_LOOPS][32];

static inline int scratch_run(const char *command)
{
	return system(command);
}

static void scratch_remove(void)
{
	char command[512];
	int i;

	if (getpid() != scratch_owner)
		return;		/* a forked child's exit */
	snprintf(command, sizeof(command), "umount %s/mnt 2>/dev/null", scratch_dir);
	scratch_run(command);
	for (i = 0; i < SCRATCH_LOOPS; i++) {
		if (!scratch_loops[i][0])
			continue;
		snprintf(command, sizeof(command), "losetup -d %s", scratch_loops[i]);
		scratch_run(command);
	}
	snprintf(command, sizeof(command), "rm -rf %s", scratch_dir);
	scratch_run(command);
}

static void scratch_signal(int number)
{
	_exit((scratch_remove(), 128 + number));
}

static inline void scratch_init_in(const char *parent)
{
	snprintf(scratch_dir, sizeof(scratch_dir), "%s/tapsnap-test-XXXXXX", parent);
	if (!mkdtemp(scratch_dir) || chmod(scratch_dir, 0755)) {
		perror(scratch_dir);
		exit(1);
	}
	scratch_owner = getpid();
	atexit(scratch_remove);
	signal(SIGINT, scratch_signal);
	signal(SIGTERM, scratch_signal);
}

/* /var/tmp, because /tmp may be a tmpfs, which is no place for images. */
static inline void scratch_init(void)
{
	scratch_init_in("/var/tmp");
}

/* Path of @name in the scratch directory, in one of a few static buffers. */
static inline const char *scratch_path(const char *name)
{
	static char paths[8][PATH_MAX];
	static unsigned turn;
	char *path = paths[turn++ % 8];

	snprintf(path, PATH_MAX, "%s/%s", scratch_dir, name);
	return path;
}

/* Make a sparse file of @bytes; returns its path. */
static inline const char *scratch_file(const char *name, uint64_t bytes)
{
	const char *path = scratch_path(name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || ftruncate(fd, bytes)) {
		perror(path);
		exit(1);
	}
	close(fd);
	return path;
}

/* Make a directory for this user only, with an empty file "image" in it; its path goes to @path. */
static inline void scratch_directory(char path[128], const char *name)
{
	char image[136];
	int fd;

	snprintf(path, 128, "%s", scratch_path(name));
	snprintf(image, sizeof(image), "%s/image", path);
	fd = mkdir(path, 0700) ? -1 : open(image, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0) {
		perror(image);
		exit(1);
	}
	close(fd);
}

/* Make a loop device over @file, with more options for losetup; NULL if the machine has none for us. */
static inline const char *scratch_loop_options(const char *file, const char *options)
{
	char command[PATH_MAX + 128], *name = NULL;
	FILE *output;
	int i;

	for (i = 0; i < SCRATCH_LOOPS && scratch_loops[i][0]; i++)
		;
	/* without CAP_SYS_ADMIN, as in a container, a device may be available, but not mounted or resized */
	if (geteuid() || prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN) != 1 || i == SCRATCH_LOOPS)
		return NULL;
	snprintf(command, sizeof(command), "losetup -f --show %s %s 2>/dev/null", options, file);
	output = popen(command, "r");
	if (!output)
		return NULL;
	if (fgets(scratch_loops[i], sizeof(scratch_loops[i]), output)) {
		name = scratch_loops[i];
		name[strcspn(name, "\n")] = '\0';
	}
	pclose(output);
	return name;
}

/* Make a loop device with the given sector size. */
static inline const char *scratch_loop(const char *file, unsigned sector_size)
{
	char options[16];

	snprintf(options, sizeof(options), "-b %u", sector_size);
	return scratch_loop_options(file, options);
}

static inline void scratch_loop_remove(const char *name)
{
	char command[64];
	int i;

	for (i = 0; i < SCRATCH_LOOPS; i++) {
		if (strcmp(scratch_loops[i], name))
			continue;
		snprintf(command, sizeof(command), "losetup -d %s", name);
		scratch_run(command);
		scratch_loops[i][0] = '\0';
		break;			/* name may point into the memory that was just cleared */
	}
}

#endif
