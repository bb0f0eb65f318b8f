/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_merge.c - a disk of live_disk.h is committed to its raw base while it
 * is in use, and store and base lose power together: after every write and
 * sync, checked in a copy while the run continues; some cuts end the run, and then
 * the commit starts again. After the commit the base equals the disk.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cow_base.h"
#include "cow_internal.h"
#include "live_run.h"

#define USE_STEPS 60
#define LIVES 2				/* of a commit, ended by a power cut */

static char cut_path[140];

/* Checks that the file @fd has the disk's contents, or contents that it may have after a crash. */
static void check_raw(struct live_disk *disk, int fd, bool crashed)
{
	uint8_t data[SECTOR_SIZE];
	uint64_t tag;
	unsigned i;

	for (i = 0; i < LIVE_CELLS; i++) {
		assert_int_equal(pread(fd, data, sizeof(data), live_sector(i) * SECTOR_SIZE), sizeof(data));
		memcpy(&tag, data, sizeof(tag));
		if (memcmp(data, data + sizeof(tag), sizeof(data) - sizeof(tag)) ||
		    !(crashed ? live_after_crash(&disk->model, i, tag) : live_read(&disk->model, i, disk->model.now, tag)))
			live_failed(disk, "in the base, cell %u (sector %llu) is %llx, which cannot be", i,
				    (unsigned long long)live_sector(i), (unsigned long long)tag);
	}
}

static bool is_committed(const char *store)
{
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_superblock sb;

	if (cow_file_open_as_is(&device, store, true, &error) || cow_superblock_peek(device, &sb, &error))
		fail_msg("%s", error.text);
	cow_file_close(device);
	return sb.base.flags & COW_BASE_COMMITTED;
}

static int new_base_file(void)
{
	int fd = open(cut_path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	return fd;
}

static void cut_beside(struct live_disk *disk)
{
	int fd = memfd_create("cut", MFD_CLOEXEC), base = new_base_file();
	char path[32];

	engine_crash_cut(&disk->crash, fd);
	engine_crash_cut_second(&disk->crash, base);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (is_committed(path)) {
		check_raw(disk, base, true);
	} else {
		snprintf(disk->look_base, sizeof(disk->look_base), "%s", cut_path);
		live_check(disk, path, LIVE_CRASHED);
		disk->look_base[0] = '\0';
	}
	live_expect_right(disk);
	close(fd);
	close(base);
	live_cuts++;
}

/* Equal data are not written: the time of an unwritten cell stays the old one. */
static void copy_changes(int from, int to)
{
	static uint8_t a[1 << 16], b[1 << 16];
	off_t at;
	ssize_t n;

	for (at = 0; (n = pread(from, a, sizeof(a), at)) > 0; at += n) {
		assert_int_equal(pread(to, b, n, at), n);
		if (memcmp(a, b, n))
			assert_int_equal(pwrite(to, a, n, at), n);
	}
}

/* Both files have the contents that the power cut left. */
static void power_cycle(struct live_disk *disk)
{
	uint64_t seed = live_pick(disk, UINT64_MAX) >> 8;
	int fd = memfd_create("live", MFD_CLOEXEC), base = new_base_file();

	live_drain(disk);
	live_expect_right(disk);
	live_close(disk);
	engine_crash_cut(&disk->crash, fd);
	engine_crash_cut_second(&disk->crash, base);
	engine_crash_free(&disk->crash);
	assert_int_equal(dup2(fd, disk->fd), disk->fd);
	copy_changes(base, disk->base_fd);
	close(fd);
	close(base);
	engine_crash_init(&disk->crash, disk->fd, seed);
	engine_crash_second(&disk->crash, disk->base_fd);
	live_restarts++;
}

static void restart(struct live_disk *disk)
{
	power_cycle(disk);
	disk->faulty = false;
	live_open(disk);
	live_expect_right(disk);
	live_close(disk);
	live_check(disk, disk->path, LIVE_RESTARTED);
	live_expect_right(disk);
	live_open(disk);
	live_expect_right(disk);
}

/* The disk is used during the commit; at times the commit is canceled and started again. */
static void merge_step(struct live_disk *disk, bool *begun)
{
	enum snapshot_op op = !*begun ? SNAPSHOT_MERGE_BEGIN : live_pick(disk, 30) ? SNAPSHOT_MERGE_STEP :
		live_pick(disk, 3) ? SNAPSHOT_MERGE_CANCEL : SNAPSHOT_MERGE_SYNC;
	uint64_t before = disk->crash.steps;

	live_step(disk);
	if (!disk->merger.busy && !live_pick(disk, 2)) {
		*begun = op != SNAPSHOT_MERGE_CANCEL;
		live_command(disk, &disk->merger, op, NULL);
	}
	live_expect_right(disk);
	if (disk->crash.steps != before && !disk->crash.off && !live_pick(disk, 2))
		cut_beside(disk);
}

static void interrupted(struct live_disk *disk)
{
	bool begun = false;
	unsigned i;

	for (i = 0; i < USE_STEPS; i++)
		merge_step(disk, &begun);
	disk->faulty = true;
	disk->crash.cut = disk->crash.steps + 1 + live_pick(disk, 60);
	for (i = 0; i < 4 * USE_STEPS && !disk->crash.off; i++)
		merge_step(disk, &begun);
	restart(disk);
}

static void command_to_its_end(struct live_disk *disk, enum snapshot_op op)
{
	uint64_t before;

	live_command(disk, &disk->merger, op, NULL);
	while (disk->merger.busy && !disk->failure[0]) {
		before = disk->crash.steps;
		live_reap(disk);
		if (disk->crash.steps != before)
			cut_beside(disk);
	}
	live_expect_right(disk);
}

static void completed(struct live_disk *disk)
{
	bool begun = false;
	unsigned i;

	for (i = 0; i < USE_STEPS || !begun; i++)
		merge_step(disk, &begun);
	live_drain(disk);
	live_expect_right(disk);
	if (disk->merger.command.op == SNAPSHOT_MERGE_CANCEL)
		command_to_its_end(disk, SNAPSHOT_MERGE_BEGIN);
	command_to_its_end(disk, SNAPSHOT_MERGE_END);
	check_raw(disk, disk->base_fd, false);
	live_expect_right(disk);
	live_close(disk);
	assert_true(is_committed(disk->path));
}

void live_run_merge(const struct live_options *options, const char *directory)
{
	struct live_disk *disk = malloc(sizeof(*disk));
	unsigned i;

	assert_non_null(disk);
	snprintf(cut_path, sizeof(cut_path), "%.90s/cut.raw", directory);
	live_disk_init(disk, options, directory);
	for (i = 0; i < USE_STEPS; i++)
		live_step(disk);
	for (i = 0; i < LIVES; i++)
		interrupted(disk);
	completed(disk);
	live_disk_free(disk);
	free(disk);
}

/* A command that has failed leaves the commit where it was: it is canceled, and may begin again. */
static void faulty_step(struct live_disk *disk, bool *begun)
{
	live_step(disk);
	if (disk->merger.busy || live_pick(disk, 2))
		return;
	if (*begun && disk->merger.error) {
		*begun = false;
		live_command(disk, &disk->merger, SNAPSHOT_MERGE_CANCEL, NULL);
	} else {
		live_command(disk, &disk->merger, !*begun ? SNAPSHOT_MERGE_BEGIN : live_pick(disk, 12) ? SNAPSHOT_MERGE_STEP :
			     SNAPSHOT_MERGE_SYNC, NULL);
		*begun = true;
	}
}

static int command_now(struct live_disk *disk, enum snapshot_op op)
{
	live_command(disk, &disk->merger, op, NULL);
	live_drain(disk);
	return disk->merger.error;
}

/* The commit as a whole; the fault is in it, or there is none. */
static void faulty_commit(struct live_disk *disk)
{
	bool begun = false;
	unsigned i;

	for (i = 0; i < USE_STEPS && !disk->failure[0]; i++)
		faulty_step(disk, &begun);
	live_drain(disk);
	if (begun && disk->merger.error)
		command_now(disk, SNAPSHOT_MERGE_CANCEL);
	if (!begun || disk->merger.error || disk->merger.command.op == SNAPSHOT_MERGE_CANCEL)
		command_now(disk, SNAPSHOT_MERGE_BEGIN);
	if (!disk->merger.error && command_now(disk, SNAPSHOT_MERGE_END))
		command_now(disk, SNAPSHOT_MERGE_CANCEL);
}

bool live_run_merge_fault(const struct live_options *options, const char *directory, uint64_t nth, int error)
{
	struct live_disk *disk = malloc(sizeof(*disk));
	unsigned i;
	bool came;

	assert_non_null(disk);
	live_disk_init(disk, options, directory);
	for (i = 0; i < USE_STEPS; i++)
		live_step(disk);
	live_drain(disk);
	disk->faulty = true;
	disk->crash.queued = 0;
	disk->crash.fail_error = error;
	disk->crash.fail_at = nth;
	faulty_commit(disk);
	live_fault_expect_right(disk, nth);
	live_close(disk);
	came = disk->crash.failed;
	disk->crash.fail_at = 0;
	if (!is_committed(disk->path)) {
		live_check(disk, disk->path, LIVE_RESTARTED);
		live_fault_expect_right(disk, nth);
		disk->faulty = false;
		live_open(disk);
		faulty_commit(disk);
		live_close(disk);
	}
	if (!disk->failure[0] && !is_committed(disk->path))
		live_failed(disk, "it was not committed");
	check_raw(disk, disk->base_fd, false);
	live_fault_expect_right(disk, nth);
	live_disk_free(disk);
	free(disk);
	return came;
}
