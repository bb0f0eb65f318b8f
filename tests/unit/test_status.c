/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_status.c - STATUS requests: a driver's answers about a disk's contents
 * are compared with an array of the contents and the times of their changes.
 *
 * A part reported as zeros must be zeros; a part that differs from a snapshot
 * must be reported as changed. And the answer must be useful: a part never
 * written is reported as a hole, and as unchanged.
 *
 * TAPSNAP_SEED=N repeats a run; the seed is printed.
 */
#include <errno.h>
#include <time.h>

#include "cow.h"
#include "cow_base.h"
#include "disk.h"
#include "scratch.h"

#define SECTORS (96u * 2048 + 3)	/* the last block is not whole */
#define BLOCK_SECTORS 8u
#define BLOCKS ((SECTORS + BLOCK_SECTORS - 1) / BLOCK_SECTORS)
#define SNAPSHOTS 4
#define MAX_REQUEST 512u

struct contents {
	uint32_t sector[SECTORS];	/* number of the write; 0: zeros */
	uint32_t touched[BLOCKS];	/* number of the last operation there */
};

struct snapshot {
	struct contents contents;
	char name[8];
	uint32_t id;
};

static struct {
	struct backend *backend;
	char target[PATH_MAX + 8];
	struct contents now;
	struct snapshot snapshots[SNAPSHOTS];
	unsigned count;
	uint32_t operation;
	bool base;
} disk;

static uint32_t data[MAX_REQUEST][128] __attribute__((aligned(4096)));

static unsigned below(unsigned end)
{
	return random() % end;
}

static void touch(uint64_t sector, uint64_t count, uint32_t value)
{
	for (uint64_t i = sector; i < sector + count; i++) {
		disk.now.sector[i] = value;
		disk.now.touched[i / BLOCK_SECTORS] = disk.operation;
	}
}

static void change(enum block_op op, uint64_t sector, uint64_t count)
{
	disk.operation++;
	for (unsigned i = 0; op == BLOCK_WRITE && i < count; i++) {
		for (unsigned word = 0; word < 128; word++)
			data[i][word] = disk.operation;
	}
	assert_int_equal(do_request(disk.backend, op, sector, count, data), 0);
	touch(sector, count, op == BLOCK_WRITE ? disk.operation : 0);
}

static void change_somewhere(void)
{
	uint64_t sector = below(4) ? below(SECTORS) : below(40 * BLOCK_SECTORS), count = 1 + below(MAX_REQUEST);

	count = count < SECTORS - sector ? count : SECTORS - sector;
	change(below(4) ? BLOCK_WRITE : BLOCK_WRITE_ZEROES, sector, count);
}

/* Queries until the whole range is covered; calls @each for every extent. */
static void ask(uint64_t sector, uint64_t count, uint32_t since, void (*each)(uint64_t, uint64_t, unsigned))
{
	while (count) {
		struct block_extent extents[7];
		struct block_status status = { .since = since, .extents = extents, .room = 1 + below(7) };
		struct request request = { .req.status = &status };
		uint64_t sum = 0;

		request_set(&request, BLOCK_STATUS, sector, count, NULL);
		request.req.iovcnt = 0;
		backend_submit(disk.backend, &request.req);
		engine_run(disk.backend->engine);
		assert_int_equal(request.calls, 1);
		assert_int_equal(request.error, 0);
		assert_in_range(status.count, 1, status.room);
		for (unsigned i = 0; i < status.count; i++) {
			assert_true(extents[i].nr_sectors > 0);
			each(sector + sum, extents[i].nr_sectors, extents[i].flags);
			sum += extents[i].nr_sectors;
		}
		assert_true(sum == status.nr_sectors && sum <= count);
		sector += sum;
		count -= sum;
	}
}

static void expect_allocation(uint64_t sector, uint64_t count, unsigned flags)
{
	for (uint64_t i = sector; i < sector + count; i++) {
		bool zero = flags & BLOCK_EXTENT_ZERO;

		if (zero && disk.now.sector[i])
			fail_msg("sector %llu is no zero", (unsigned long long)i);
		if (!zero && !disk.base && !disk.now.touched[i / BLOCK_SECTORS])
			fail_msg("sector %llu was never written", (unsigned long long)i);
		if (flags & BLOCK_EXTENT_CHANGED)
			fail_msg("sector %llu: nobody asked whether it has changed", (unsigned long long)i);
	}
}

static const struct snapshot *since;

static void expect_changes(uint64_t sector, uint64_t count, unsigned flags)
{
	for (uint64_t i = sector; i < sector + count; i++) {
		if (!flags && disk.now.sector[i] != since->contents.sector[i])
			fail_msg("sector %llu has changed since %s", (unsigned long long)i, since->name);
		if (flags && disk.now.touched[i / BLOCK_SECTORS] == since->contents.touched[i / BLOCK_SECTORS])
			fail_msg("sector %llu is as it was at %s", (unsigned long long)i, since->name);
	}
}

static void verify(void)
{
	uint64_t sector = below(SECTORS);

	ask(0, SECTORS, 0, expect_allocation);
	ask(sector, 1 + below(SECTORS - sector), 0, expect_allocation);
	for (unsigned i = 0; i < disk.count; i++) {
		since = &disk.snapshots[i];
		ask(0, SECTORS, since->id, expect_changes);
		ask(sector, 1 + below(SECTORS - sector), since->id, expect_changes);
	}
}

static void command_done(struct snapshot_command *command, int error)
{
	*(int *)command->owner = error;
}

static void command(enum snapshot_op op, const char *name)
{
	int error = 1;
	struct snapshot_command c = { .op = op, .name = name, .done = command_done, .owner = &error };

	backend_snapshot(disk.backend, &c);
	engine_run(disk.backend->engine);
	assert_int_equal(error, 0);
}

static int find_id(void *owner, const struct snapshot_info *info)
{
	struct snapshot *snapshot = owner;

	if (!strcmp(info->name, snapshot->name))
		snapshot->id = info->id;
	return 0;
}

static void take_snapshot(void)
{
	struct snapshot *snapshot = &disk.snapshots[disk.count++];

	snprintf(snapshot->name, sizeof(snapshot->name), "s%u", disk.count);
	command(SNAPSHOT_CREATE, snapshot->name);
	assert_int_equal(backend_snapshot_list(disk.backend, find_id, snapshot), 0);
	snapshot->contents = disk.now;
}

static void go_back(const struct snapshot *snapshot)
{
	command(SNAPSHOT_REVERT, snapshot->name);
	disk.now = snapshot->contents;
}

/* Little memory: nodes of the map have to be read. */
static void open_disk(void)
{
	struct driver_options options = { .cache_bytes = 65536, .layer_entries = 400 };
	struct error_text text = { "" };

	if (backend_open(&disk.backend, sync_engine, disk.target, &options, &text))
		fail_msg("%s", text.text);
}

static void reopen(void)
{
	backend_close(disk.backend);
	open_disk();
}

static void create(const struct cow_create_options *options)
{
	struct error_text text = { "" };
	struct cow_device *device;
	char path[PATH_MAX];

	strcpy(path, scratch_path("store"));
	unlink(path);
	if (cow_file_create(&device, path, &text) || cow_create(device, options, &text))
		fail_msg("%s", text.text);
	cow_file_close(device);
	snprintf(disk.target, sizeof(disk.target), "cow:%s", path);
	open_disk();
}

static void print_seed(void)
{
	const char *given = getenv("TAPSNAP_SEED");
	unsigned seed = given ? strtoul(given, NULL, 0) : (unsigned)time(NULL);

	print_message("# TAPSNAP_SEED=%u\n", seed);
	srandom(seed);
}

static void run_store(void)
{
	for (unsigned round = 0; round < 24; round++) {
		for (unsigned i = below(60); i; i--)
			change_somewhere();
		if (disk.count < SNAPSHOTS && !below(3))
			take_snapshot();
		if (!below(3))
			reopen();
		if (disk.count == SNAPSHOTS && !below(6))
			go_back(&disk.snapshots[below(SNAPSHOTS)]);
		verify();
	}
	backend_close(disk.backend);
}

static void test_store(void **state)
{
	memset(&disk, 0, sizeof(disk));
	create(&(struct cow_create_options){ .sectors = SECTORS });
	run_store();
}

/* A raw base that ends within a block, before the disk does, and has holes. */
static void test_store_with_base(void **state)
{
	const char *path = scratch_file("base", 0);
	uint64_t sectors = 60u * 2048 + 5, sector;
	struct cow_base_fields fields;
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	memset(&disk, 0, sizeof(disk));
	disk.base = true;
	assert_int_equal(ftruncate(fd, sectors * 512), 0);
	for (sector = 0; sector + 300 < sectors; sector += 1000) {
		memset(data, 1, 300 * 512);
		assert_int_equal(pwrite(fd, data, 300 * 512, sector * 512), 300 * 512);
		touch(sector, 300, 0x01010101);
	}
	close(fd);
	assert_int_equal(cow_base_describe(&fields, path, NULL), 0);
	create(&(struct cow_create_options){ .sectors = SECTORS, .base_kind = COW_BASE_RAW, .base = &fields });
	run_store();
}

/* A snapshot of an empty disk has no tree, whatever is written later. */
static void test_empty(void **state)
{
	memset(&disk, 0, sizeof(disk));
	create(&(struct cow_create_options){ .sectors = SECTORS });
	verify();
	take_snapshot();
	verify();
	reopen();
	verify();
	take_snapshot();
	change(BLOCK_WRITE, 100, MAX_REQUEST);
	verify();
	reopen();
	verify();
	backend_close(disk.backend);
}

/* Only its own snapshots, and not a deleted one. */
static void test_wrong_questions(void **state)
{
	struct block_extent extent;
	struct block_status status = { .since = 4711, .extents = &extent, .room = 1 };
	struct request request = { .req.status = &status };

	memset(&disk, 0, sizeof(disk));
	create(&(struct cow_create_options){ .sectors = SECTORS });
	request_set(&request, BLOCK_STATUS, 0, 8, NULL);
	backend_submit(disk.backend, &request.req);
	engine_run(disk.backend->engine);
	assert_int_equal(request.error, -ESTALE);

	take_snapshot();
	status.since = disk.snapshots[0].id;
	command(SNAPSHOT_DELETE, "s1");
	backend_submit(disk.backend, &request.req);
	engine_run(disk.backend->engine);
	assert_int_equal(request.error, -ESTALE);

	status.since = 0;
	status.room = 0;
	backend_submit(disk.backend, &request.req);
	assert_int_equal(request.error, -EINVAL);
	request.req.status = NULL;
	backend_submit(disk.backend, &request.req);
	assert_int_equal(request.error, -EINVAL);
	backend_close(disk.backend);
}

static void test_raw(void **state)
{
	const char *path = scratch_file("raw", 0);

	memset(&disk, 0, sizeof(disk));
	assert_int_equal(truncate(path, (uint64_t)SECTORS * 512), 0);
	snprintf(disk.target, sizeof(disk.target), "aio:%s", path);
	for (unsigned round = 0; round < 20; round++) {
		if (!disk.backend)
			assert_int_equal(backend_open(&disk.backend, sync_engine, disk.target,
						      &(struct driver_options){ 0 }, NULL), 0);
		change_somewhere();
		verify();
	}
	backend_close(disk.backend);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_store),
		cmocka_unit_test(test_store_with_base),
		cmocka_unit_test(test_empty),
		cmocka_unit_test(test_wrong_questions),
		cmocka_unit_test(test_raw),
	};

	scratch_init();
	print_seed();
	return disk_run(tests);
}
