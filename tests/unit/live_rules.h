/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * live_rules.h - force rare orders of events that the driver `cow` must handle:
 * a disk of live_disk.h, and one operation below it that the test keeps in
 * flight for as long as it wants.
 */
#ifndef TESTS_LIVE_RULES_H
#define TESTS_LIVE_RULES_H

#include "cow_disk.h"
#include "cow_model.h"
#include "live_disk.h"
#include "scratch.h"

#define PLENTY 200			/* rounds of the event loop, after which an operation counts as waiting */

static struct live_disk disk;

static inline void begin(struct live_options options)
{
	options.seed = model_first_seed(1);
	live_disk_init(&disk, &options, scratch_dir);
	live_expect_right(&disk);
}

static inline void end(void)
{
	live_drain(&disk);
	live_expect_right(&disk);
	live_close(&disk);
	live_check(&disk, disk.path, LIVE_CLOSED);
	live_check(&disk, disk.path, LIVE_CRASHED);
	live_expect_right(&disk);
	live_disk_free(&disk);
}

static inline void do_write(uint64_t sector, uint64_t nr_sectors)
{
	live_submit(&disk, BLOCK_WRITE, sector, nr_sectors);
	live_drain(&disk);
	live_expect_right(&disk);
}

static inline struct live_snapshot *create_begin(void)
{
	struct live_snapshot *snapshot = live_snapshot_free(&disk);

	assert_non_null(snapshot);
	snapshot->state = LIVE_CREATING;
	live_watch(&disk);
	live_command(&disk, &disk.maker, SNAPSHOT_CREATE, snapshot);
	return snapshot;
}

static inline struct live_snapshot *create(void)
{
	struct live_snapshot *snapshot = create_begin();

	live_drain(&disk);
	live_expect_right(&disk);
	return snapshot;
}

static inline void rounds(unsigned n)
{
	while (n--)
		live_reap(&disk);
	live_expect_right(&disk);
}

static inline struct live_request *write_held(enum engine_op op, uint64_t sector, uint64_t nr_sectors)
{
	struct live_request *r;

	disk.crash.hold_op = op;
	disk.crash.hold_next = true;
	r = live_submit(&disk, BLOCK_WRITE, sector, nr_sectors);
	assert_non_null(r);
	assert_non_null(disk.crash.held);
	return r;
}

static inline struct cow_disk *inside(void)
{
	return ((struct cow_export *)disk.backend->handle)->disk;
}

#endif
