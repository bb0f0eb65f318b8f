/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_rules.c - rare orders of events that the driver `cow` must
 * handle, each forced by a test. The test keeps an operation below the driver
 * in flight for as long as it wants.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "live_rules.h"

#include "cow_base.h"
#include "fault_store.h"

/* A snapshot waits for the writes that are running. */
static void test_snapshot_waits_for_writes(void **state)
{
	begin((struct live_options){ 0 });
	do_write(0, 8);
	write_held(ENGINE_WRITE, 0, 8);
	create_begin();
	rounds(PLENTY);
	assert_true(disk.maker.busy);
	disk.crash.held = NULL;
	end();
}

/* A freeze that is still waiting is canceled; the snapshot before it still waits for the writes. */
static void test_thaw_of_a_freeze_that_waits(void **state)
{
	begin((struct live_options){ 0 });
	do_write(0, 8);
	write_held(ENGINE_WRITE, 0, 8);
	create_begin();
	live_command(&disk, &disk.freezer, SNAPSHOT_FREEZE, NULL);
	live_command(&disk, &disk.thawer, SNAPSHOT_THAW, NULL);
	rounds(PLENTY);
	assert_false(disk.freezer.busy || disk.thawer.busy);
	assert_int_equal(disk.freezer.error, -ECANCELED);
	assert_true(disk.maker.busy);
	disk.crash.held = NULL;
	end();
}

static int open_snapshot(const struct live_snapshot *snapshot, struct backend **backend)
{
	struct driver_options options = live_driver_options();
	struct error_text error = { "" };
	char target[80];

	options.read_only = true;
	snprintf(target, sizeof(target), "cow:%s@%s", disk.path, snapshot->name);
	return backend_open(backend, &disk.crash.engine, target, &options, &error);
}

/* A snapshot that is being deleted cannot be opened; one that is open cannot be deleted. */
static void test_open_or_deleted(void **state)
{
	struct live_snapshot *snapshot;
	struct backend *backend;

	begin((struct live_options){ 0 });
	do_write(0, 16);
	snapshot = create();
	assert_int_equal(open_snapshot(snapshot, &backend), 0);
	disk.faulty = true;
	live_command(&disk, &disk.remover, SNAPSHOT_DELETE, snapshot);
	live_drain(&disk);
	assert_int_equal(disk.remover.error, -EBUSY);
	disk.faulty = false;
	backend_close(backend);
	write_held(ENGINE_WRITE, 8, 8);		/* to a new place: the deletion has to wait for it */
	snapshot->state = LIVE_DELETING;
	live_command(&disk, &disk.remover, SNAPSHOT_DELETE, snapshot);
	rounds(PLENTY);
	assert_true(disk.remover.busy);
	assert_int_equal(open_snapshot(snapshot, &backend), -EBUSY);
	disk.crash.held = NULL;
	live_drain(&disk);
	assert_int_equal(open_snapshot(snapshot, &backend), -ENOENT);
	end();
}

/* A block is not reused until a read of it that has begun ends. */
static void test_read_of_what_is_freed(void **state)
{
	struct live_snapshot *snapshot;
	unsigned i;

	begin((struct live_options){ .small = true, .full = true });
	do_write(0, 88);
	snapshot = create();
	do_write(0, 88);
	disk.crash.hold_op = ENGINE_READ;
	disk.crash.hold_next = true;
	live_submit(&disk, BLOCK_READ, 0, 88);
	snapshot->state = LIVE_DELETING;
	live_command(&disk, &disk.remover, SNAPSHOT_DELETE, snapshot);
	live_submit(&disk, BLOCK_DISCARD, 0, 88);
	rounds(PLENTY);
	/* All other blocks are written again and again, so that free blocks are searched for in the whole store. */
	for (i = 1; i < 30; i++) {
		live_submit(&disk, BLOCK_WRITE, i % 8 * LIVE_STRIDE, 88);
		live_submit(&disk, BLOCK_FLUSH, 0, 0);
		rounds(PLENTY);
		live_submit(&disk, BLOCK_DISCARD, i % 8 * LIVE_STRIDE, 88);
		live_submit(&disk, BLOCK_FLUSH, 0, 0);
		rounds(PLENTY);
	}
	disk.crash.held = NULL;
	end();
}

/* A node of the map is read again if it is replaced, and its place reused, while it is being read. */
static void test_read_of_a_node_that_is_replaced(void **state)
{
	static const uint8_t junk[COW_BLOCK] = { 0xdb };
	unsigned i;

	begin((struct live_options){ 0 });
	for (i = 0; i < LIVE_ISLANDS; i++)
		do_write(i * LIVE_STRIDE, 8);
	live_close(&disk);
	assert_int_equal(live_open(&disk), 0);
	do_write(88, 4);			/* the first leaf will be replaced */
	for (i = 2; i < LIVE_ISLANDS; i++) {	/* and the cache has no more room for the first leaf */
		live_submit(&disk, BLOCK_READ, i * LIVE_STRIDE, 8);
		live_drain(&disk);
	}
	disk.crash.hold_op = ENGINE_READ;
	disk.crash.hold_next = true;
	live_submit(&disk, BLOCK_READ, 40, 8);
	assert_non_null(disk.crash.held);
	for (i = 2; i < 20; i++)		/* a checkpoint is due */
		live_submit(&disk, BLOCK_WRITE, i * LIVE_STRIDE, 88);
	rounds(PLENTY);
	assert_int_equal(pwrite(disk.fd, junk, sizeof(junk), disk.crash.held->offset), sizeof(junk));
	disk.crash.held = NULL;
	end();
}

/* A flush does not end before the changes that it covers are in the log, whoever writes them there. */
static void test_flush_beside_a_flush(void **state)
{
	struct live_request *first, *second;

	begin((struct live_options){ 0 });
	do_write(0, 8);
	disk.crash.hold_op = ENGINE_SYNC;
	disk.crash.hold_next = true;
	first = live_submit(&disk, BLOCK_FLUSH, 0, 0);
	assert_non_null(disk.crash.held);
	second = live_submit(&disk, BLOCK_FLUSH, 0, 0);
	rounds(PLENTY);
	assert_true(first->busy && second->busy);
	disk.crash.held = NULL;
	end();
}

/* After a revert, requests beyond the end of that snapshot are refused. */
static void test_revert_to_another_size(void **state)
{
	struct live_request *r;
	uint64_t smaller;

	begin((struct live_options){ 0 });
	live_close(&disk);
	do
		live_resize(&disk);
	while (disk.model.sectors == LIVE_DISK);
	smaller = disk.model.sectors;
	assert_int_equal(live_open(&disk), 0);
	create();
	live_close(&disk);
	do
		live_resize(&disk);
	while (disk.model.sectors != LIVE_DISK);
	assert_int_equal(live_open(&disk), 0);
	do_write(LIVE_DISK - 8, 8);
	live_revert(&disk, NULL);
	live_expect_right(&disk);
	assert_int_equal(disk.backend->geometry.sectors, smaller);
	disk.faulty = true;
	r = live_submit(&disk, BLOCK_WRITE, LIVE_DISK - 8, 8);
	assert_false(r->busy);
	assert_int_equal(disk.errors, 1);
	end();
}

#define MANY_SNAPSHOTS 4000u		/* two of the largest records fill a block of the table */

static void make_with_many_snapshots(const char *path)
{
	struct cow_create_options options = { .sectors = 8, .log_blocks = COW_LOG_MAX_BLOCKS };
	struct cow_open_options open_options = { 0 };
	char description[COW_DESCRIPTION_MAX + 1], name[16];
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	unsigned i;

	memset(description, 'd', COW_DESCRIPTION_MAX);
	description[COW_DESCRIPTION_MAX] = '\0';
	assert_int_equal(cow_file_create(&device, path, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	assert_int_equal(cow_open(&store, device, &open_options, &error), 0);
	for (i = 0; i < MANY_SNAPSHOTS; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		assert_int_equal(cow_snapshot_prepare(store, name, description, NULL, &error), 0);
	}
	assert_int_equal(cow_flush(store), 0);
	cow_abandon(store);
	cow_file_close(device);
}

/* The table of versions may be larger than a fiber's stack. */
static void test_many_snapshots(void **state)
{
	struct fault_store store = { "" };

	make_with_many_snapshots(fault_store_name(&store, "many"));
	fault_store_open(&store);
	fault_store_end(&store);
}

/* A snapshot of @path, whose disk has sectors of 4096 bytes, all of it 7s. */
static void make_large_sectors(const char *path)
{
	struct cow_create_options options = { .sectors = 64, .sector_size = 4096, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct cow_open_options open_options = { 0 };
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	uint8_t data[64 * SECTOR_SIZE];

	memset(data, 7, sizeof(data));
	assert_int_equal(cow_file_create(&device, path, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	assert_int_equal(cow_open(&store, device, &open_options, &error), 0);
	assert_int_equal(cow_write(store, data, 0, 64), 0);
	assert_int_equal(cow_snapshot_create(store, "v1", NULL, &error), 0);
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
}

static void make_on_snapshot(const char *path, const char *base)
{
	struct cow_create_options options = { .sectors = 64, .log_blocks = COW_LOG_MIN_BLOCKS, .base_kind = COW_BASE_COW };
	struct error_text error = { "" };
	struct cow_base_fields fields;
	struct cow_device *device;
	char target[PATH_MAX + 4];

	snprintf(target, sizeof(target), "%s@v1", base);
	assert_int_equal(cow_base_describe_snapshot(&fields, target, &error), 0);
	options.base = &fields;
	assert_int_equal(cow_file_create(&device, path, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	cow_file_close(device);
}

/* A disk may have smaller sectors than the disk whose snapshot it is based on. */
static void test_base_of_larger_sectors(void **state)
{
	uint8_t data[SECTOR_SIZE] __attribute__((aligned(SECTOR_SIZE))) = { 0 };
	struct iovec iov = { data, sizeof(data) };
	struct fault_store store = { "" };
	struct block_request req;
	char base[PATH_MAX];
	int result;

	snprintf(base, sizeof(base), "%s", scratch_path("large"));
	make_large_sectors(base);
	make_on_snapshot(fault_store_name(&store, "small"), base);
	fault_store_open(&store);
	fault_store_submit(&store, &req, BLOCK_READ, 3, &iov, &result);
	fault_store_reap(&store, UINT_MAX);
	assert_int_equal(result, 0);
	assert_int_equal(data[0], 7);
	fault_store_end(&store);
	unlink(base);
}

#define WHOLE_BLOCKS (LIVE_ISLAND / COW_SECTORS * COW_SECTORS)

/* A disk, written before and after a snapshot, with a running checkpoint: a node that it reads is held. */
static struct live_snapshot *begin_at_a_checkpoint(void)
{
	struct live_snapshot *snapshot;
	unsigned i, j;

	begin((struct live_options){ 0 });
	for (i = 0; i < LIVE_ISLANDS; i++)
		do_write(i * LIVE_STRIDE, WHOLE_BLOCKS);
	snapshot = create();
	for (i = 0; !inside()->exclusive; i++) {
		assert_true(i < LIVE_ISLANDS / 2);
		live_submit(&disk, BLOCK_WRITE, i * LIVE_STRIDE, WHOLE_BLOCKS);
		for (j = 0; j < PLENTY && !inside()->exclusive; j++)
			rounds(1);
	}
	disk.crash.hold_op = ENGINE_READ;
	disk.crash.hold_next = true;
	rounds(PLENTY);
	assert_non_null(disk.crash.held);
	assert_non_null(inside()->store->checkpoint);
	return snapshot;
}

/* First writes and flushes end while a checkpoint reads its nodes. */
static void test_writes_beside_a_checkpoint(void **state)
{
	const uint64_t all = WHOLE_BLOCKS;
	struct live_request *r;
	unsigned i;

	begin_at_a_checkpoint();
	for (i = 1; i <= 8; i++) {
		r = live_submit(&disk, i % 4 ? BLOCK_WRITE : BLOCK_FLUSH, i % 4 ? (LIVE_ISLANDS - i) * LIVE_STRIDE : 0, i % 4 ? all : 0);
		rounds(PLENTY);
		assert_false(r->busy);
	}
	assert_non_null(inside()->store->checkpoint);
	disk.crash.held = NULL;
	end();
}

/*
 * If first writes are faster than the checkpoint, they are slowed down early, one by one. They do not
 * all wait until its end.
 */
static void test_writes_faster_than_a_checkpoint(void **state)
{
	const struct cow_store *store;
	unsigned i;

	begin_at_a_checkpoint();
	store = inside()->store;
	for (i = 1; !inside()->gate.waiting.first; i++) {
		assert_true(i < LIVE_ISLANDS / 2);
		live_submit(&disk, BLOCK_WRITE, (LIVE_ISLANDS - i) * LIVE_STRIDE, WHOLE_BLOCKS);
		rounds(PLENTY);
	}
	assert_true(store->active->layer.count < store->layer_entries);
	disk.crash.held = NULL;
	while (inside()->gate.waiting.first)
		rounds(1);
	assert_non_null(store->checkpoint);
	end();
}

/* A revert does not wait for a checkpoint to end: the checkpoint is aborted, and repeated afterwards. */
static void test_revert_beside_a_checkpoint(void **state)
{
	struct live_snapshot *snapshot = begin_at_a_checkpoint();
	uint64_t sequence = inside()->store->sb.sequence;

	live_command(&disk, &disk.reverter, SNAPSHOT_REVERT, snapshot);
	disk.crash.held = NULL;
	while (disk.reverter.busy)
		rounds(1);
	assert_int_equal(disk.reverter.error, 0);
	assert_int_equal(inside()->store->sb.sequence, sequence);
	rounds(10 * PLENTY);
	assert_true(inside()->store->sb.sequence > sequence);
	end();
}

/* A snapshot does not wait either, because a guest may be stopped for it. */
static void test_snapshot_beside_a_checkpoint(void **state)
{
	uint64_t sequence;

	begin_at_a_checkpoint();
	sequence = inside()->store->sb.sequence;
	create_begin();
	disk.crash.held = NULL;
	while (disk.maker.busy)
		rounds(1);
	assert_int_equal(disk.maker.error, 0);
	assert_int_equal(inside()->store->sb.sequence, sequence);
	rounds(10 * PLENTY);
	assert_true(inside()->store->sb.sequence > sequence);
	end();
}

static void test_freeze_beside_a_checkpoint(void **state)
{
	uint64_t sequence;

	begin_at_a_checkpoint();
	sequence = inside()->store->sb.sequence;
	live_command(&disk, &disk.freezer, SNAPSHOT_FREEZE, NULL);
	disk.crash.held = NULL;
	while (disk.freezer.busy)
		rounds(1);
	assert_int_equal(disk.freezer.error, 0);
	assert_int_equal(inside()->store->sb.sequence, sequence);
	live_thaw(&disk);
	rounds(10 * PLENTY);
	assert_true(inside()->store->sb.sequence > sequence);
	end();
}

/* An overdue checkpoint goes first: the snapshot's writes need the room. */
static void test_snapshot_with_a_checkpoint_overdue(void **state)
{
	uint64_t sequence;

	begin_at_a_checkpoint();
	sequence = inside()->store->sb.sequence;
	inside()->store->layer_entries /= 4;
	create_begin();
	disk.crash.held = NULL;
	while (disk.maker.busy)
		rounds(1);
	assert_int_equal(disk.maker.error, 0);
	assert_true(inside()->store->sb.sequence > sequence);
	end();
}

/* A snapshot that will fail is no reason to abort it. */
static void test_revert_to_nowhere_beside_a_checkpoint(void **state)
{
	struct live_snapshot nowhere = { .name = "nowhere" };
	uint64_t sequence;

	begin_at_a_checkpoint();
	sequence = inside()->store->sb.sequence;
	disk.faulty = true;
	live_command(&disk, &disk.reverter, SNAPSHOT_REVERT, &nowhere);
	disk.crash.held = NULL;
	while (disk.reverter.busy)
		rounds(1);
	assert_int_equal(disk.reverter.error, -ENOENT);
	assert_true(inside()->store->sb.sequence > sequence);
	disk.faulty = false;
	end();
}

/* One byte of the node, on the medium; a second time puts it back. */
static void node_spoil(const struct cow_ref *ref)
{
	off_t at = (off_t)(cow_entry_block(ref->where) << COW_SHIFT);
	uint8_t byte;

	assert_int_equal(pread(disk.fd, &byte, 1, at), 1);
	byte ^= 0xff;
	assert_int_equal(pwrite(disk.fd, &byte, 1, at), 1);
	cow_cache_drop(&inside()->store->cache, cow_entry_block(ref->where));
}

static void note_error(struct block_request *req, int error)
{
	*(int *)req->owner = error;
}

static void expect_status(uint32_t since, uint64_t sector, uint64_t nr_sectors, int expected)
{
	struct block_extent extent[4];
	struct block_status status = { .since = since, .extents = extent, .room = 4 };
	int error = 1;
	struct block_request req = { .op = BLOCK_STATUS, .sector = sector, .nr_sectors = nr_sectors, .status = &status,
		.done = note_error, .owner = &error };

	backend_submit(disk.backend, &req);
	rounds(PLENTY);
	assert_int_equal(error, expected);
}

/* A node that is no good is not asked for again and again, whatever it is needed for. */
static void test_status_with_a_bad_node(void **state)
{
	struct live_snapshot *snapshot;
	struct cow_ref since, root;
	uint32_t id;

	begin((struct live_options){ 0 });
	do_write(0, 8);
	snapshot = create();
	do_write(0, 8);
	live_close(&disk);
	assert_int_equal(live_open(&disk), 0);
	do_write(16, 8);			/* not in the tree yet */
	id = cow_version_by_name(inside()->store, snapshot->name)->id;
	since = cow_version_by_name(inside()->store, snapshot->name)->root;
	root = cow_map_tree(inside()->store->active)->root;
	assert_true(since.where && root.where && since.where != root.where);
	node_spoil(&since);
	expect_status(id, 0, 64, -EUCLEAN);
	expect_status(0, 0, 64, 0);
	node_spoil(&since);
	node_spoil(&root);
	expect_status(0, 16, 8, -EUCLEAN);
	node_spoil(&root);
	expect_status(id, 0, 64, 0);
	expect_status(0, 16, 8, 0);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_snapshot_waits_for_writes),
		cmocka_unit_test(test_thaw_of_a_freeze_that_waits),
		cmocka_unit_test(test_open_or_deleted),
		cmocka_unit_test(test_read_of_what_is_freed),
		cmocka_unit_test(test_read_of_a_node_that_is_replaced),
		cmocka_unit_test(test_status_with_a_bad_node),
		cmocka_unit_test(test_flush_beside_a_flush),
		cmocka_unit_test(test_revert_to_another_size),
		cmocka_unit_test(test_many_snapshots),
		cmocka_unit_test(test_base_of_larger_sectors),
		cmocka_unit_test(test_writes_beside_a_checkpoint),
		cmocka_unit_test(test_writes_faster_than_a_checkpoint),
		cmocka_unit_test(test_revert_beside_a_checkpoint),
		cmocka_unit_test(test_snapshot_beside_a_checkpoint),
		cmocka_unit_test(test_freeze_beside_a_checkpoint),
		cmocka_unit_test(test_snapshot_with_a_checkpoint_overdue),
		cmocka_unit_test(test_revert_to_nowhere_beside_a_checkpoint),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: the driver, orders of events", tests, NULL, NULL);
}
