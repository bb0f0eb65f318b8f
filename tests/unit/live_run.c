/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_run.c - random runs of live_disk.h: with closing and opening, with power
 * cuts, and with an injected fault. The unit tests do some of them, the soak
 * test as many as there is time for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cow_disk.h"
#include "cow_sim.h"
#include "live_run.h"

#define ROUNDS 4
#define STEPS 700
#define LIVES 3				/* of a store, each ended by a power cut */
#define LIFE_STEPS 160
#define FAULT_STEPS 220
#define DELETES 3			/* of snapshots */
#define DELETE_STEPS 40			/* before each snapshot, and beside each delete */
#define DELETE_REAPS 400

uint64_t live_waited, live_cuts, live_wraps, live_restarts;

static struct live_disk *disk_new(const struct live_options *options, const char *directory)
{
	struct live_disk *disk = malloc(sizeof(*disk));

	assert_non_null(disk);
	live_disk_init(disk, options, directory);
	return disk;
}

static void disk_end(struct live_disk *disk)
{
	live_waited += disk->waited;
	live_disk_free(disk);
	free(disk);
}

static void reopen(struct live_disk *disk)
{
	live_drain(disk);
	live_expect_right(disk);
	live_close(disk);
	live_check(disk, disk->path, LIVE_CLOSED);
	live_expect_right(disk);
	if (!disk->options.full && sim_random(&disk->random) % 3 == 0)
		live_resize(disk);
	live_open(disk);
	live_expect_right(disk);
}

void live_run(const struct live_options *options, const char *directory)
{
	struct live_disk *disk = disk_new(options, directory);
	unsigned round, i;

	for (round = 0; round < ROUNDS; round++) {
		for (i = 0; i < STEPS; i++) {
			live_step(disk);
			live_expect_right(disk);
			if (disk->options.half_time && (i + 1) % (STEPS / 2) == 0)
				disk->options.half_time();
		}
		if (sim_random(&disk->random) % 2)
			live_revert(disk, NULL);
		reopen(disk);
	}
	live_drain(disk);
	live_close(disk);
	live_check(disk, disk->path, LIVE_CRASHED);
	live_expect_right(disk);
	disk_end(disk);
}

static bool log_wraps(const struct live_disk *disk)
{
	const struct cow_log *log = &((const struct cow_export *)disk->backend->handle)->disk->store->log;

	return log->head > log->tail && (log->head - 1) / log->size != log->tail / log->size;
}

/* A power cut at this moment, checked in a copy. */
static void cut_beside(struct live_disk *disk)
{
	int fd = memfd_create("cut", MFD_CLOEXEC);
	char path[32];

	assert_true(fd >= 0);
	engine_crash_cut(&disk->crash, fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	live_check(disk, path, LIVE_CRASHED);
	live_expect_right(disk);
	close(fd);
	live_cuts++;
	live_wraps += log_wraps(disk);
}

/* The medium as the power cut left it replaces the file. */
static void power_cycle(struct live_disk *disk)
{
	uint64_t seed = sim_random(&disk->random) >> 8;
	int fd = memfd_create("live", MFD_CLOEXEC);

	assert_true(fd >= 0);
	if (disk->backend)
		live_drain(disk);
	live_expect_right(disk);
	live_close(disk);
	engine_crash_cut(&disk->crash, fd);
	engine_crash_free(&disk->crash);
	assert_int_equal(dup2(fd, disk->fd), disk->fd);
	close(fd);
	engine_crash_init(&disk->crash, disk->fd, seed);
	live_restarts++;
}

/* This write bypasses the engine, which must be told the medium's contents. */
static void resize(struct live_disk *disk)
{
	if (disk->options.full || sim_random(&disk->random) % 3)
		return;
	live_resize(disk);
	engine_crash_free(&disk->crash);
	engine_crash_init(&disk->crash, disk->fd, sim_random(&disk->random) >> 8);
}

/* Opens it. The power may fail in the middle of that several times, at random. */
static void restart(struct live_disk *disk)
{
	do {
		power_cycle(disk);
		disk->crash.cut = sim_random(&disk->random) % 3 ? 0 : 1 + sim_random(&disk->random) % 12;
	} while (live_open(disk));
	disk->crash.cut = 0;
	if (disk->crash.off) {
		restart(disk);
		return;
	}
	live_close(disk);
	live_check(disk, disk->path, LIVE_RESTARTED);
	live_expect_right(disk);
	disk->faulty = false;
	resize(disk);
	live_open(disk);
	live_expect_right(disk);
}

static void one_life(struct live_disk *disk)
{
	uint64_t before;
	unsigned i;

	for (i = 0; i < LIFE_STEPS; i++) {
		before = disk->crash.steps;
		live_step(disk);
		live_expect_right(disk);
		if (disk->crash.steps != before)
			cut_beside(disk);
	}
	/* An operation that the power cut can interrupt. */
	if (sim_random(&disk->random) % 3 == 0)
		live_revert(disk, cut_beside);
	disk->faulty = true;
	disk->crash.cut = disk->crash.steps + 1 + sim_random(&disk->random) % 40;
	for (i = 0; i < LIFE_STEPS && !disk->crash.off; i++)
		live_step(disk);
	restart(disk);
}

void live_run_cuts(const struct live_options *options, const char *directory)
{
	struct live_disk *disk = disk_new(options, directory);
	unsigned life;

	for (life = 0; life < LIVES; life++)
		one_life(disk);
	disk_end(disk);
}

void live_fault_expect_right(const struct live_disk *disk, uint64_t nth)
{
	if (disk->failure[0])
		fail_msg("TAPSNAP_SEED=%llu fault %llu operation %llu: %s", (unsigned long long)disk->options.seed,
			 (unsigned long long)nth, (unsigned long long)disk->operations, disk->failure);
}

static void steps(struct live_disk *disk, unsigned count, uint64_t nth)
{
	while (count-- && !disk->failure[0])
		live_step(disk);
	live_drain(disk);
	live_fault_expect_right(disk, nth);
}

static void fault_begin(struct live_disk *disk, uint64_t nth, int error)
{
	disk->faulty = true;
	disk->crash.queued = 0;
	disk->crash.fail_error = error;
	disk->crash.fail_at = nth;
}

/* Close, check, and use it a little without faults. Returns whether the fault had come. */
static bool fault_end(struct live_disk *disk, uint64_t nth)
{
	bool came;

	live_close(disk);
	came = disk->crash.failed && !disk->crash.fail_resizes;
	disk->crash.fail_at = disk->crash.fail_resizes = 0;
	live_check(disk, disk->path, LIVE_RESTARTED);
	live_fault_expect_right(disk, nth);
	disk->faulty = false;
	live_open(disk);
	live_fault_expect_right(disk, nth);
	steps(disk, 20, nth);
	live_close(disk);
	live_check(disk, disk->path, LIVE_CRASHED);
	live_fault_expect_right(disk, nth);
	disk_end(disk);
	return came;
}

bool live_run_fault(const struct live_options *options, const char *directory, uint64_t nth, int error)
{
	struct live_disk *disk = disk_new(options, directory);

	fault_begin(disk, nth, error);
	steps(disk, FAULT_STEPS, nth);
	return fault_end(disk, nth);
}

/* Commands may fail, and leave no part of themselves. */
bool live_run_no_room(const struct live_options *options, const char *directory, uint64_t nth, unsigned count)
{
	struct live_disk *disk = disk_new(options, directory);

	disk->crash.fail_writes_only = true;
	disk->crash.fail_more = count - 1;
	fault_begin(disk, nth, -ENOSPC);
	steps(disk, FAULT_STEPS, nth);
	if (disk->errors)
		live_failed(disk, "%u requests have failed", disk->errors);
	live_fault_expect_right(disk, nth);
	return fault_end(disk, nth);
}

static void snapshot_now(struct live_disk *disk)
{
	struct live_snapshot *snapshot = live_snapshot_free(disk);

	assert_non_null(snapshot);
	snapshot->state = LIVE_CREATING;
	live_watch(disk);
	live_command(disk, &disk->maker, SNAPSHOT_CREATE, snapshot);
	live_drain(disk);
}

/* Each delete's space is freed while the disk is used; in the end it has time for all of it. */
bool live_run_fault_deletes(const struct live_options *options, const char *directory, uint64_t nth, int error)
{
	struct live_disk *disk = disk_new(options, directory);
	unsigned i;

	disk->options.no_commands = true;
	for (i = 0; i < DELETES; i++) {
		steps(disk, DELETE_STEPS, nth);
		snapshot_now(disk);
	}
	fault_begin(disk, nth, error);
	for (i = 0; i < DELETES; i++) {
		live_delete(disk);
		steps(disk, DELETE_STEPS, nth);
	}
	for (i = 0; i < DELETE_REAPS && !disk->failure[0]; i++)
		live_reap(disk);
	return fault_end(disk, nth);
}

bool live_run_growth_fault(const struct live_options *options, const char *directory, unsigned count, int error)
{
	struct live_disk *disk = disk_new(options, directory);

	disk->crash.fail_resizes = count;
	fault_begin(disk, 0, error);
	steps(disk, FAULT_STEPS, count);
	return fault_end(disk, count);
}
