/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_aio_data.c - every sector of an aio disk holds what was written last,
 * whatever units its device works in and whichever operation fails; a failed
 * flush stays failed.
 *
 * The random parts print their seed when they fail; TAPSNAP_SEED=n repeats one.
 */
#include <errno.h>
#include <time.h>

#include "array.h"
#include "disk.h"
#include "aio.h"
#include "fault_engine.h"
#include "scratch.h"

#define DEPTH 16

/* A flush that failed is reported, and so is every later one, without asking the kernel again. */
static void failed_flush_stays_failed(void **state)
{
	static char data[512] __attribute__((aligned(512)));
	const char *path = scratch_file("flush", 4096);
	struct driver_options options = { 0 };
	struct fault_engine fault;
	struct backend *backend;
	char target[PATH_MAX + 8];

	snprintf(target, sizeof(target), "aio:%s", path);
	fault_engine_init(&fault, 3, -EIO);
	assert_int_equal(backend_open(&backend, &fault.engine, target, &options, NULL), 0);
	assert_int_equal(do_request(backend, BLOCK_WRITE, 0, 1, data), 0);
	assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 0, NULL), 0);
	assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 0, NULL), -EIO);
	assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 0, NULL), -EIO);
	assert_int_equal(fault.syncs, 1);
	assert_int_equal(do_request(backend, BLOCK_WRITE, 0, 1, data), 0);
	backend_close(backend);
	assert_int_equal(backend_open(&backend, &fault.engine, target, &options, NULL), 0);
	assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 0, NULL), 0);
	backend_close(backend);
}

#define IMAGE_SECTORS 2048
#define AT_END(offset) (IMAGE_SECTORS * 512 - (offset))

/* Headers of known formats. A guest can write any of them to its disk. */
static const struct {
	const char *format;
	size_t offset, length;
	const char *magic;
} headers[] = {
	{ "qcow", 0, 8, "QFI\xfb\0\0\0\1" },
	{ "qcow2", 0, 8, "QFI\xfb\0\0\0\3" },
	{ "qed", 0, 4, "QED\0" },
	{ "vhd", 0, 8, "conectix" },			/* a copy of the footer */
	{ "vhd, fixed", AT_END(512), 8, "conectix" },
	{ "vhdx", 0, 8, "vhdxfile" },
	{ "vmdk", 0, 4, "KDMV" },
	{ "vmdk, of ESX", 0, 4, "COWD" },
	{ "vmdk, descriptor", 0, 21, "# Disk DescriptorFile" },
	{ "vdi", 64, 4, "\x7f\x10\xda\xbe" },
	{ "luks", 0, 8, "LUKS\xba\xbe\0\1" },
	{ "luks 2", 0, 8, "LUKS\xba\xbe\0\2" },
	{ "parallels", 0, 16, "WithoutFreeSpace" },
	{ "dmg", AT_END(512), 4, "koly" },
	{ "a store", 0, 8, "TAPSNAP\n" },
	{ "an overlay record", 0, 18, "tapsnap overlay 1\n" },
};

/* Whatever the raw bytes look like, the disk is as long as the file and holds the file's bytes, and writes go to them. */
static void other_formats_are_bytes(void **state)
{
	static char all[IMAGE_SECTORS * 512] __attribute__((aligned(4096))), back[sizeof(all)] __attribute__((aligned(4096)));

	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		const char *path = scratch_file("header", sizeof(all));
		uint64_t sector = headers[i].offset / 512;
		struct backend *backend = open_works(path, OPTIONS());

		memset(all, 'a' + (int)i, sizeof(all));
		memcpy(all + headers[i].offset, headers[i].magic, headers[i].length);
		assert_int_equal(do_request(backend, BLOCK_WRITE, 0, IMAGE_SECTORS, all), 0);
		backend_close(backend);

		backend = open_works(path, OPTIONS());
		if (backend->ops != &driver_aio || backend->geometry.sectors != IMAGE_SECTORS)
			fail_msg("%s: %s, %llu sectors", headers[i].format, backend->ops->name,
				 (unsigned long long)backend->geometry.sectors);
		assert_int_equal(do_request(backend, BLOCK_READ, 0, IMAGE_SECTORS, back), 0);
		if (memcmp(back, all, sizeof(all)))
			fail_msg("%s: is not read as it is", headers[i].format);
		memset(all + sector * 512, 'z', 512);
		assert_int_equal(do_request(backend, BLOCK_WRITE, sector, 1, all + sector * 512), 0);
		assert_int_equal(do_request(backend, BLOCK_READ, 0, IMAGE_SECTORS, back), 0);
		if (memcmp(back, all, sizeof(all)))
			fail_msg("%s: is not written as it is", headers[i].format);
		backend_close(backend);
	}
}

/* Make a disk treat its device as one that works in units of @unit bytes. */
static void set_unit(struct backend *backend, unsigned unit)
{
	struct aio_disk *disk = backend->handle;

	disk->file->unit = unit;
}

/*
 * Fail the Nth operation on the device, for every N: the request it belongs to fails, all others work,
 * and no sector holds anything that was not written to it.
 */
static void every_operation_may_fail(void **state)
{
	static char data[20 * 512] __attribute__((aligned(4096))), back[8 * 4096] __attribute__((aligned(4096)));
	const char *path = scratch_path("faults");
	struct driver_options options = { 0 };
	struct fault_engine fault;
	struct backend *backend;
	char target[PATH_MAX + 8];
	int failed, i;
	unsigned n = 0;

	snprintf(target, sizeof(target), "aio:%s", path);
	do {
		struct request r[5] = { 0 };

		scratch_file("faults", 8 * 4096);
		fault_engine_init(&fault, ++n, -EIO);
		assert_int_equal(backend_open(&backend, &fault.engine, target, &options, NULL), 0);
		set_unit(backend, 4096);
		memset(data, 'a', sizeof(data));
		request_set(&r[0], BLOCK_WRITE, 3, 10, data);		/* both edges */
		request_set(&r[1], BLOCK_WRITE, 13, 1, data);		/* waits for it */
		request_set(&r[2], BLOCK_WRITE_ZEROES, 20, 20, NULL);	/* edge, middle */
		request_set(&r[3], BLOCK_WRITE, 40, 8, data);		/* unchanged */
		request_set(&r[4], BLOCK_DISCARD, 47, 10, NULL);
		for (i = 0; i < 5; i++)
			backend_submit(backend, &r[i].req);
		engine_run(&fault.engine);
		assert_int_equal(backend->in_flight, 0);
		for (i = 0, failed = 0; i < 5; i++) {
			assert_int_equal(r[i].calls, 1);
			assert_true(r[i].error == 0 || r[i].error == -EIO);
			failed += r[i].error != 0;
		}
		assert_int_equal(failed, fault.seen >= n);
		fault.fail_at = 0;
		assert_int_equal(do_request(backend, BLOCK_READ, 0, 64, back), 0);
		for (i = 0; i < 64; i++) {
			char expected = (i >= 3 && i < 13 && !r[0].error) || (i == 13 && !r[1].error) ||
					(i >= 40 && i < 48 && !r[3].error) ? 'a' : 0;

			if (back[i * 512] != expected || back[i * 512 + 511] != expected)
				fail_msg("N %u sector %d", n, i);
		}
		backend_close(backend);
	} while (failed);
	assert_true(n > 8);
}

#define MANY 2048u

static uint64_t thread_ns(void)
{
	struct timespec now;

	assert_int_equal(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now), 0);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

/*
 * As many writes of part of a unit as frontends may have in flight, and as many that wait for them.
 * When one ends, each waiting one is checked once. Checking each waiting one against all running ones
 * would take many seconds.
 */
static void many_wait(void **state)
{
	static struct request r[2 * MANY];
	static char data[2][512] __attribute__((aligned(4096))), back[4096] __attribute__((aligned(4096)));
	const char *path = scratch_file("many", MANY * 4096);
	struct driver_options options = { 0 };
	struct fault_engine fault;
	struct backend *backend;
	char target[PATH_MAX + 8];
	uint64_t start;
	unsigned i;

	snprintf(target, sizeof(target), "aio:%s", path);
	fault_engine_init(&fault, 0, 0);
	assert_int_equal(backend_open(&backend, &fault.engine, target, &options, NULL), 0);
	set_unit(backend, 4096);
	memset(data[0], 'a', 512);
	memset(data[1], 'b', 512);
	for (i = 0; i < 2 * MANY; i++)
		request_set(&r[i], BLOCK_WRITE, i % MANY * 8 + 1 + i / MANY, 1, data[i / MANY]);
	for (i = 0; i < 2 * MANY; i++)
		backend_submit(backend, &r[i].req);
	assert_int_equal(fault.seen, MANY);
	start = thread_ns();
	engine_run(&fault.engine);
	start = thread_ns() - start;
	print_message("# %u ms\n", (unsigned)(start / 1000000));
	assert_true(start < 2000000000u);
	for (i = 0; i < 2 * MANY; i++)
		assert_true(r[i].calls == 1 && !r[i].error);
	for (i = 0; i < MANY; i += 100) {
		assert_int_equal(do_request(backend, BLOCK_READ, i * 8, 8, back), 0);
		assert_true(!back[511] && back[512] == 'a' && back[1024] == 'b' && !back[1536]);
	}
	backend_close(backend);
}

struct slot {
	struct block_request req;
	struct iovec iov[4];
	char *memory;
	bool busy;
	uint64_t stamp;
	struct random_run *run;
};

/* Random requests against a disk, and what each sector has to hold. */
struct random_run {
	struct backend *backend;
	uint64_t sectors;
	uint64_t *model;		/* stamp in each sector; 0: zeroes; UNDEFINED after a discard */
	struct slot slots[DEPTH];
	uint64_t stamps;
	unsigned seed;
};

#define UNDEFINED UINT64_MAX
#define MAX_SECTORS 40

static void stamp_sector(char *data, uint64_t stamp, uint64_t sector)
{
	uint64_t *words = (uint64_t *)data;
	int i;

	for (i = 0; i < 64; i++)
		words[i] = stamp ? stamp * 1000003 + sector + i : 0;
}

static void check_sector(const struct random_run *run, const char *data, uint64_t sector)
{
	char expected[512];

	if (run->model[sector] == UNDEFINED)
		return;
	stamp_sector(expected, run->model[sector], sector);
	if (memcmp(expected, data, 512))
		fail_msg("TAPSNAP_SEED=%u: sector %lu does not hold write %lu", run->seed, sector, run->model[sector]);
}

static void slot_done(struct block_request *req, int error)
{
	struct slot *slot = req->owner;
	struct random_run *run = slot->run;
	uint64_t i;

	if (error)
		fail_msg("TAPSNAP_SEED=%u: %s at %lu: %d", run->seed, block_op_name(req->op), req->sector, error);
	for (i = 0; i < req->nr_sectors; i++) {
		if (req->op == BLOCK_READ)
			check_sector(run, slot->memory + i * 512, req->sector + i);
		else
			run->model[req->sector + i] = req->op == BLOCK_WRITE ? slot->stamp :
						      req->op == BLOCK_WRITE_ZEROES ? 0 : UNDEFINED;
	}
	slot->busy = false;
}

/* A guest does not send requests that touch the same sectors; it knows nothing of units. */
static bool overlaps(const struct random_run *run, uint64_t sector, uint64_t count)
{
	int i;

	for (i = 0; i < DEPTH; i++) {
		const struct slot *slot = &run->slots[i];

		if (slot->busy && sector < slot->req.sector + slot->req.nr_sectors &&
		    slot->req.sector < sector + count)
			return true;
	}
	return false;
}

/* One to four pieces of whole sectors. */
static void split(struct slot *slot, unsigned unit)
{
	size_t left = slot->req.nr_sectors * 512;
	char *at = slot->memory;
	int i;

	for (i = 0; i < 3 && left > unit && rand() % 2; i++) {
		size_t part = (1 + rand() % (left / unit)) * unit;

		if (part == left)
			break;
		slot->iov[i] = (struct iovec){ at, part };
		at += part;
		left -= part;
	}
	slot->iov[i] = (struct iovec){ at, left };
	slot->req.iov = slot->iov;
	slot->req.iovcnt = i + 1;
}

static void submit_random(struct random_run *run, struct slot *slot)
{
	static const enum block_op ops[] = { BLOCK_WRITE, BLOCK_WRITE, BLOCK_WRITE, BLOCK_READ, BLOCK_READ,
					     BLOCK_WRITE_ZEROES, BLOCK_DISCARD, BLOCK_FLUSH };
	unsigned unit = run->backend->geometry.sector_size / 512;
	enum block_op op = ops[rand() % 8];
	uint64_t count = (1 + rand() % (MAX_SECTORS / unit)) * unit;
	uint64_t sector = rand() % ((run->sectors - count) / unit + 1) * unit;
	uint64_t i;

	if (op == BLOCK_DISCARD && !run->backend->geometry.discard)
		op = BLOCK_READ;
	if (op == BLOCK_FLUSH)
		sector = count = 0;
	else if (overlaps(run, sector, count))
		return;
	slot->req.op = op;
	slot->req.sector = sector;
	slot->req.nr_sectors = count;
	slot->req.owner = slot;
	slot->req.done = slot_done;
	slot->run = run;
	slot->stamp = ++run->stamps;
	slot->busy = true;
	if (op == BLOCK_WRITE) {
		for (i = 0; i < count; i++)
			stamp_sector(slot->memory + i * 512, slot->stamp, sector + i);
	}
	if (op == BLOCK_READ || op == BLOCK_WRITE)
		split(slot, unit * 512);
	backend_submit(run->backend, &slot->req);
}

static void random_requests(struct random_run *run, unsigned count)
{
	const char *seed = getenv("TAPSNAP_SEED");
	char *pool = NULL;
	int i;

	run->seed = seed ? atoi(seed) : time(NULL);
	srand(run->seed);
	run->sectors = run->backend->geometry.sectors;
	run->model = calloc(run->sectors, sizeof(*run->model));
	assert_int_equal(posix_memalign((void **)&pool, 4096, DEPTH * 32768), 0);
	/* Half of the memory is aligned to sectors only. */
	for (i = 0; i < DEPTH; i++)
		run->slots[i].memory = pool + i * 32768 + (i % 2) * 512;
	while (count--) {
		for (i = 0; i < DEPTH; i++) {
			if (!run->slots[i].busy)
				submit_random(run, &run->slots[i]);
		}
		/* Leave some in flight, so that they overlap. */
		assert_int_equal(run->backend->engine->ops->wait(run->backend->engine), 0);
		engine_reap(run->backend->engine);
	}
	engine_run(run->backend->engine);
	for (i = 0; (uint64_t)i < run->sectors; i++) {
		assert_int_equal(do_request(run->backend, BLOCK_READ, i / 8 * 8, 8, pool), 0);
		check_sector(run, pool + i % 8 * 512, i);
	}
	free(pool);
	free(run->model);
}

static void random_on_path(const char *path, const char *engine_name, unsigned sector_size, unsigned count)
{
	struct random_run run = { 0 };
	struct engine *used;
	struct driver_options options = { .sector_size = sector_size };
	char target[PATH_MAX + 8];

	assert_int_equal(engine_open(&used, engine_name, DEPTH), 0);
	snprintf(target, sizeof(target), "aio:%s", path);
	assert_int_equal(backend_open(&run.backend, used, target, &options, NULL), 0);
	random_requests(&run, count);
	backend_close(run.backend);
	engine_close(used);
}

static void random_on_loop(unsigned device_sector, unsigned sector_size, const char *engine_name)
{
	const char *device = scratch_loop(scratch_file("random", 512 * 1024), device_sector);

	if (!device)
		skip();
	random_on_path(device, engine_name, sector_size, 400);
	scratch_loop_remove(device);
}

static void random_512_on_4k(void **state)
{
	random_on_loop(4096, 512, *state);
}

static void random_4k_on_4k(void **state)
{
	random_on_loop(4096, 4096, *state);
}

static void random_512_on_512(void **state)
{
	random_on_loop(512, 512, *state);
}

static void random_on_file(void **state)
{
	random_on_path(scratch_file("random", 512 * 1024), *state, 512, 400);
}

#define FOR_ENGINE(test, name) { #test " (" name ")", test, NULL, NULL, (void *)name }
#define FOR_EACH_ENGINE(test) FOR_ENGINE(test, "io_uring"), FOR_ENGINE(test, "libaio"), FOR_ENGINE(test, "sync")

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(other_formats_are_bytes),
		cmocka_unit_test(failed_flush_stays_failed),
		cmocka_unit_test(every_operation_may_fail),
		cmocka_unit_test(many_wait),
		FOR_EACH_ENGINE(random_512_on_4k),
		FOR_EACH_ENGINE(random_4k_on_4k),
		FOR_EACH_ENGINE(random_512_on_512),
		FOR_EACH_ENGINE(random_on_file),
	};

	scratch_init();
	return disk_run(tests);
}
