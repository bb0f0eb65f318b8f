/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * metrics.c - counters in a shared mapping that libxenstat reads as a file.
 *
 * /dev/shm is open to everybody: the directory must be made by us (another's
 * is not used) and the file must be new.
 */
#include "metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "path.h"

struct metrics {
	struct vbd3_stats *stats;
	char path[64];
};

static void metrics_directory(char *path, size_t size)
{
	snprintf(path, size, "/dev/shm/td3-%d", (int)getpid());
}

static int metrics_make_directory(void)
{
	char path[64];
	struct stat st;

	metrics_directory(path, sizeof(path));
	if (!path_mkdir(path, 0755))
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (path_lstat(path, &st))
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_uid == path_uid() && !(st.st_mode & 022) ? 0 : -EEXIST;
}

/* A file of an earlier process with our pid is in the way and of no use to anybody. */
static int metrics_create(const char *path)
{
	int fd;

	if (path_remove(path) && errno != ENOENT)
		return -errno;
	fd = path_open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
	return fd < 0 ? -errno : fd;
}

static int metrics_map(struct metrics *metrics, int fd)
{
	void *address;

	/* Allocate, or a full /dev/shm would be a SIGBUS later. */
	int ret = posix_fallocate(fd, 0, sizeof(struct vbd3_stats));

	if (ret)
		return -ret;
	address = mmap(NULL, sizeof(struct vbd3_stats), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (address == MAP_FAILED)
		return -errno;
	metrics->stats = address;
	metrics->stats->version = 1;
	return 0;
}

struct metrics *metrics_open(uint32_t domid, uint32_t devid)
{
	struct metrics *metrics = calloc(1, sizeof(*metrics));
	char directory[64];
	int fd, ret;

	if (!metrics)
		return NULL;
	metrics_directory(directory, sizeof(directory));
	snprintf(metrics->path, sizeof(metrics->path), "/dev/shm/td3-%d/vbd-%u-%u", (int)getpid(), domid, devid);
	ret = metrics_make_directory();
	if (ret)
		goto out_free;
	fd = metrics_create(metrics->path);
	if (fd < 0) {
		ret = fd;
		goto out_free;
	}
	ret = metrics_map(metrics, fd);
	close(fd);
	if (!ret)
		return metrics;
	path_remove(metrics->path);
out_free:
	log_guest(LOG_LEVEL_WARNING, "%s: %s: xentop will not show this disk", metrics->path, strerror(-ret));
	free(metrics);
	return NULL;
}

void metrics_close(struct metrics *metrics)
{
	if (!metrics)
		return;
	munmap(metrics->stats, sizeof(*metrics->stats));
	path_remove(metrics->path);
	free(metrics);
}

void metrics_submit(struct metrics *metrics, enum block_op op)
{
	if (!metrics)
		return;
	if (op == BLOCK_READ)
		metrics->stats->read_reqs_submitted++;
	else if (op == BLOCK_WRITE)
		metrics->stats->write_reqs_submitted++;
}

void metrics_complete(struct metrics *metrics, enum block_op op, uint64_t sectors, uint64_t latency_ns, int error)
{
	if (!metrics)
		return;
	if (error)
		metrics->stats->io_errors++;
	if (op == BLOCK_READ) {
		metrics->stats->read_reqs_completed++;
		metrics->stats->read_sectors += sectors;
		metrics->stats->read_total_ticks += latency_ns / 1000;
	} else if (op == BLOCK_WRITE) {
		metrics->stats->write_reqs_completed++;
		metrics->stats->write_sectors += sectors;
		metrics->stats->write_total_ticks += latency_ns / 1000;
	}
}

void metrics_out_of_room(struct metrics *metrics)
{
	if (metrics)
		metrics->stats->oo_reqs++;
}

void metrics_remove_directory(void)
{
	char path[64];

	metrics_directory(path, sizeof(path));
	path_rmdir(path);
}
