/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_aio.c - the aio and null drivers behind backend_*: what is refused
 * and with which words, locks, sizes, and that every sector holds what was
 * written last, whatever units the device works in.
 *
 * The random parts print their seed; TAPSNAP_SEED=n repeats one.
 */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#include "aio.h"
#include "fault_engine.h"
#include "scratch.h"

#define DEPTH 16

static struct engine *engine;		/* the sync one, for what needs no particular one */

/* Open "aio:PATH"; the text of a failure is in @text. */
static int open_path(struct backend **backend, const char *path, struct driver_options options,
		     struct error_text *text)
{
	char target[PATH_MAX + 8];

	snprintf(target, sizeof(target), "aio:%s", path);
	text->text[0] = '\0';
	return backend_open(backend, engine, target, &options, text);
}

/* It must fail with @error, in one line that has the path and @words in it. */
static void open_fails(const char *path, struct driver_options options, int error, const char *words)
{
	struct error_text text;
	struct backend *backend;
	int ret = open_path(&backend, path, options, &text);

	if (ret != error || !strstr(text.text, words) || !strstr(text.text, path) || strchr(text.text, '\n'))
		fail_msg("open %s: %d \"%s\", expected %d \"...%s...\"", path, ret, text.text, error, words);
}

static struct backend *open_works(const char *path, struct driver_options options)
{
	struct error_text text;
	struct backend *backend;
	int ret = open_path(&backend, path, options, &text);

	if (ret)
		fail_msg("open %s: %d \"%s\"", path, ret, text.text);
	return backend;
}

#define OPTIONS(...) ((struct driver_options){ __VA_ARGS__ })

static void sizes_are_never_invented(void **state)
{
	struct backend *backend;

	open_fails(scratch_file("empty", 0), OPTIONS(), -EINVAL, "is empty (0 bytes)");
	open_fails(scratch_file("odd", 1000), OPTIONS(), -EINVAL, "size 1000 is not a multiple of 512: truncate -s %512");
	open_fails(scratch_file("small", 511), OPTIONS(.read_only = true), -EINVAL, "size 511 is not a multiple of 512");
	open_fails(scratch_file("half", 6 * 512), OPTIONS(.sector_size = 4096), -EINVAL,
		   "size 3072 is not a multiple of the sector size 4096");
	open_fails(scratch_file("half", 4096), OPTIONS(.sector_size = 1024), -EINVAL, "sector size 1024");
	backend = open_works(scratch_file("one", 512), OPTIONS());
	assert_int_equal(backend->geometry.sectors, 1);
	assert_int_equal(backend->geometry.sector_size, 512);
	assert_int_equal(backend->geometry.physical_sector_size, 512);
	backend_close(backend);
	backend = open_works(scratch_file("one", 8192), OPTIONS(.sector_size = 4096));
	assert_int_equal(backend->geometry.sectors, 16);
	assert_int_equal(backend->geometry.sector_size, 4096);
	assert_int_equal(backend->geometry.physical_sector_size % 4096, 0);
	backend_close(backend);
}

static void what_is_no_image(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	open_fails(scratch_path("missing"), OPTIONS(), -ENOENT, "No such file or directory");
	open_fails(scratch_dir, OPTIONS(), -EISDIR, "is a directory");
	open_fails("/dev/null", OPTIONS(), -ENOTBLK, "is a character device");
	assert_int_equal(mkfifo(scratch_path("fifo"), 0600), 0);
	open_fails(scratch_path("fifo"), OPTIONS(), -ENOTBLK, "is a FIFO");
	open_fails(scratch_path("fifo"), OPTIONS(.read_only = true), -ENOTBLK, "is a FIFO");
	strcpy(address.sun_path, scratch_path("socket"));
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	open_fails(scratch_path("socket"), OPTIONS(), -ENOTBLK, "is a socket");
	open_fails(scratch_path("missing/below"), OPTIONS(), -ENOENT, "No such file or directory");
	scratch_file("plain", 512);
	open_fails(scratch_path("plain/below"), OPTIONS(), -ENOTDIR, "Not a directory");
	close(fd);
}

static void no_permission(void **state)
{
	const char *path = scratch_file("private", 4096);

	if (geteuid())
		skip();
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(seteuid(65534), 0);
	open_fails(path, OPTIONS(), -EACCES, "no permission to write it as uid 65534");
	open_fails(path, OPTIONS(.read_only = true), -EACCES, "no permission to read it as uid 65534");
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(chmod(path, 0644), 0);
	assert_int_equal(seteuid(65534), 0);
	open_fails(path, OPTIONS(), -EACCES, "or open it read-only");
	backend_close(open_works(path, OPTIONS(.read_only = true)));
	assert_int_equal(seteuid(0), 0);
}

static void bad_targets(void **state)
{
	static const struct { const char *target, *words; } cases[] = {
		{ "/srv/disk.img", "not TYPE:PATH" },
		{ "", "not TYPE:PATH" },
		{ "qcow:/srv/disk.img", "unknown type \"qcow\": use one of aio, null" },
		{ ":/srv/disk.img", "unknown type \"\"" },
		{ "ai:/srv/disk.img", "unknown type \"ai\"" },
		{ "aio:", "no path after the colon" },
	};
	struct driver_options options = { 0 };
	struct backend *backend;
	struct error_text text;
	size_t i;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		text.text[0] = '\0';
		assert_int_equal(backend_open(&backend, engine, cases[i].target, &options, &text), -EINVAL);
		if (!strstr(text.text, cases[i].words))
			fail_msg("%s: \"%s\"", cases[i].target, text.text);
	}
	/* Whatever is in a path, the text is one line. */
	assert_int_equal(open_path(&backend, "/no\nsuch", options, &text), -ENOENT);
	assert_null(strchr(text.text, '\n'));
}

/* In a mount namespace of its own: the scratch directory, read-only. */
static void read_only_filesystem(void **state)
{
	const char *path = scratch_file("on-ro", 4096);
	int status;
	pid_t child;

	if (geteuid())
		skip();
	child = fork();
	if (!child) {
		struct image_file *file;
		struct error_text text = { "" };
		struct driver_options options = { 0 };

		if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mount(scratch_dir, scratch_dir, NULL, MS_BIND, NULL) ||
		    mount(NULL, scratch_dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL))
			_exit(2);
		if (file_open(&file, path, &options, &text) != -EROFS ||
		    !strstr(text.text, "on a read-only filesystem or device: open it read-only"))
			_exit(3);
		options.read_only = true;
		_exit(file_open(&file, path, &options, &text) ? 4 : 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void read_only_device(void **state)
{
	const char *device = scratch_loop_options(scratch_file("ro-disk", 1 << 20), "-r");

	if (!device)
		skip();
	open_fails(device, OPTIONS(), -EROFS, "read-only: open it read-only");
	backend_close(open_works(device, OPTIONS(.read_only = true)));
	scratch_loop_remove(device);
}

static void mounted_device(void **state)
{
	const char *device = scratch_loop(scratch_file("fs", 8 << 20), 512);
	char command[512], mount_point[128];

	if (!device)
		skip();
	snprintf(mount_point, sizeof(mount_point), "%s/mnt", scratch_dir);
	snprintf(command, sizeof(command), "PATH=$PATH:/sbin:/usr/sbin; mkfs.ext4 -q %s && mkdir %s && mount %s %s",
		 device, mount_point, device, mount_point);
	assert_int_equal(scratch_run(command), 0);
	open_fails(device, OPTIONS(), -EBUSY, "mounted at");
	open_fails(device, OPTIONS(.shared = true), -EBUSY, mount_point);
	backend_close(open_works(device, OPTIONS(.read_only = true)));
	assert_int_equal(umount(mount_point), 0);
	backend_close(open_works(device, OPTIONS()));
	scratch_loop_remove(device);
}

static void empty_device(void **state)
{
	const char *file = scratch_file("no-disk", 0);
	const char *device = scratch_loop(file, 512);

	if (!device)
		skip();
	open_fails(device, OPTIONS(), -ENOMEDIUM, "the device has no size");
	scratch_loop_remove(device);
}

static void one_writer_or_many_readers(const char *path)
{
	struct driver_options reader = { .read_only = true }, writer = { 0 }, shared = { .shared = true };
	struct backend *first = open_works(path, writer), *second;

	open_fails(path, writer, -EBUSY, "in use by another disk of this process (pid ");
	open_fails(path, reader, -EBUSY, "in use by another disk of this process (pid ");
	second = open_works(path, shared);
	backend_close(second);
	backend_close(first);
	first = open_works(path, reader);
	second = open_works(path, reader);
	open_fails(path, writer, -EBUSY, "in use by another disk of this process (pid ");
	backend_close(first);
	backend_close(second);
	backend_close(open_works(path, writer));
}

static void locks_on_a_file(void **state)
{
	one_writer_or_many_readers(scratch_file("locked", 4096));
}

static void locks_on_a_device(void **state)
{
	const char *device = scratch_loop(scratch_file("locked-disk", 1 << 20), 512);

	if (!device)
		skip();
	one_writer_or_many_readers(device);
	scratch_loop_remove(device);
}

/* The process that has the lock is named; it dies, and the lock is gone. */
static void lock_of_another_process(void **state)
{
	const char *path = scratch_file("locked", 4096);
	char words[64], byte;
	int fds[2];
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	child = fork();
	if (!child) {
		struct driver_options options = { 0 };
		struct image_file *file;

		if (file_open(&file, path, &options, NULL) || write(fds[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(fds[0], &byte, 1), 1);
	snprintf(words, sizeof(words), "in use by another process (pid %d)", child);
	open_fails(path, OPTIONS(), -EBUSY, words);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	backend_close(open_works(path, OPTIONS()));
	close(fds[0]);
	close(fds[1]);
}

static void resize(void **state)
{
	const char *path = scratch_file("grows", 1 << 20);
	struct backend *backend = open_works(path, OPTIONS());
	struct error_text text = { "" };

	assert_int_equal(truncate(path, 3 << 20), 0);
	assert_int_equal(backend_refresh_size(backend, &text), 0);
	assert_int_equal(backend->geometry.sectors, (3 << 20) / 512);
	assert_int_equal(truncate(path, (4 << 20) + 100), 0);
	assert_int_equal(backend_refresh_size(backend, &text), -EINVAL);
	assert_non_null(strstr(text.text, "not a multiple of 512"));
	text.text[0] = '\0';
	assert_int_equal(truncate(path, 2 << 20), 0);
	assert_int_equal(backend_refresh_size(backend, &text), -EINVAL);
	assert_non_null(strstr(text.text, "has shrunk from 3145728 to 2097152 bytes"));
	assert_int_equal(backend->geometry.sectors, (3 << 20) / 512);
	backend_close(backend);
}

static void resize_of_a_device(void **state)
{
	const char *file = scratch_file("device-grows", 1 << 20);
	const char *device = scratch_loop(file, 4096);
	struct backend *backend;
	char command[64];

	if (!device)
		skip();
	backend = open_works(device, OPTIONS());
	assert_int_equal(truncate(file, 3 << 20), 0);
	snprintf(command, sizeof(command), "losetup -c %s", device);
	assert_int_equal(scratch_run(command), 0);
	assert_int_equal(backend_refresh_size(backend, NULL), 0);
	assert_int_equal(backend->geometry.sectors, (3 << 20) / 512);
	backend_close(backend);
	scratch_loop_remove(device);
}

struct request {
	struct block_request req;
	struct iovec iov;
	int error;
	unsigned calls;
};

static void request_done(struct block_request *req, int error)
{
	struct request *request = req->owner;

	request->error = error;
	request->calls++;
}

static void request_set(struct request *request, enum block_op op, uint64_t sector, uint64_t count, void *data)
{
	request->req.op = op;
	request->req.sector = sector;
	request->req.nr_sectors = count;
	request->iov = (struct iovec){ data, count * 512 };
	request->req.iov = &request->iov;
	request->req.iovcnt = 1;
	request->req.owner = request;
	request->req.done = request_done;
	request->error = 1;
	request->calls = 0;
}

static int do_request(struct backend *backend, enum block_op op, uint64_t sector, uint64_t count, void *data)
{
	struct request request = { 0 };

	request_set(&request, op, sector, count, data);
	backend_submit(backend, &request.req);
	engine_run(backend->engine);
	assert_int_equal(request.calls, 1);
	assert_int_equal(backend->in_flight, 0);
	return request.error;
}

static void requests_are_checked(void **state)
{
	static char data[8192] __attribute__((aligned(4096)));
	const char *path = scratch_file("checked", 8 * 4096);
	struct backend *backend = open_works(path, OPTIONS(.sector_size = 4096));

	assert_int_equal(do_request(backend, BLOCK_READ, 0, 8, data), 0);
	assert_int_equal(do_request(backend, BLOCK_READ, 64, 8, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_READ, 56, 16, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_READ, UINT64_MAX - 7, 16, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_DISCARD, 8, UINT64_MAX - 7, NULL), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_READ, 0, 0, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_READ, 1, 8, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_WRITE, 0, 7, data), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_WRITE, 0, 8, data + 1), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 8, NULL), -EINVAL);
	assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 0, NULL), 0);
	assert_int_equal(do_request(backend, BLOCK_NR_OPS, 0, 8, data), -EOPNOTSUPP);
	backend_close(backend);
	backend = open_works(path, OPTIONS(.read_only = true));
	assert_int_equal(do_request(backend, BLOCK_READ, 1, 1, data), 0);
	assert_int_equal(do_request(backend, BLOCK_WRITE, 0, 1, data), -EROFS);
	assert_int_equal(do_request(backend, BLOCK_DISCARD, 0, 1, NULL), -EROFS);
	assert_int_equal(do_request(backend, BLOCK_WRITE_ZEROES, 0, 1, NULL), -EROFS);
	assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 0, NULL), 0);
	assert_false(backend->geometry.discard);
	backend_close(backend);
}

static void null_driver(void **state)
{
	static const struct { const char *target; uint64_t sectors; } cases[] = {
		{ "null:2097152", 4096 }, { "null:4K", 8 }, { "null:3M", 6144 }, { "null:10G", 20971520 },
		{ "null:2T", 4294967296 }, { "null:8388607T", 8388607ull << 31 }, { "null:8388608T", 0 },
		{ "null:0", 0 }, { "null:0G", 0 }, { "null:1000", 0 }, { "null:-512", 0 }, { "null: 512", 0 },
		{ "null:512x", 0 }, { "null:512KB", 0 }, { "null:G", 0 }, { "null:99999999999999999999", 0 },
	};
	static char data[4096] __attribute__((aligned(4096))), zeroes[4096];
	struct driver_options options = { 0 };
	struct error_text text = { "" };
	struct backend *backend;
	size_t i;
	int ret;

	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ret = backend_open(&backend, engine, cases[i].target, &options, &text);
		if (ret != (cases[i].sectors ? 0 : -EINVAL) ||
		    (!ret && backend->geometry.sectors != cases[i].sectors))
			fail_msg("%s: %d", cases[i].target, ret);
		if (ret)
			continue;
		memset(data, 0xff, sizeof(data));
		assert_int_equal(do_request(backend, BLOCK_WRITE, 0, 8, data), 0);
		assert_int_equal(do_request(backend, BLOCK_READ, 0, 8, data), 0);
		assert_memory_equal(data, zeroes, sizeof(data));
		assert_int_equal(do_request(backend, BLOCK_FLUSH, 0, 0, NULL), 0);
		backend_close(backend);
	}
}

/* A flush that failed is reported failed, and so is every later one, without asking the kernel again. */
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

/* Make a disk believe that its device works in @unit bytes. */
static void set_unit(struct backend *backend, unsigned unit)
{
	struct aio_disk *disk = backend->handle;

	disk->file->unit = unit;
}

/*
 * Fail the Nth operation on the device, for every N: the request it belongs
 * to fails, all others work, and no sector holds anything that was not
 * written to it.
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
		request_set(&r[3], BLOCK_WRITE, 40, 8, data);		/* as it is */
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

/* A guest keeps requests apart that touch the same sectors; units it knows nothing of. */
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
		/* Leave some in flight, so that they meet. */
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

static void geometry_of_a_4k_device(void **state)
{
	const char *device = scratch_loop(scratch_file("4k", 1 << 20), 4096);
	struct backend *backend;

	if (!device)
		skip();
	backend = open_works(device, OPTIONS());
	assert_int_equal(backend->geometry.sectors, 2048);
	assert_int_equal(backend->geometry.sector_size, 512);
	assert_int_equal(backend->geometry.physical_sector_size, 4096);
	assert_true(backend->geometry.direct);
	assert_true(backend->geometry.discard);
	assert_int_equal(backend->geometry.discard_granularity % 4096, 0);
	backend_close(backend);
	backend = open_works(device, OPTIONS(.no_direct = true));
	assert_false(backend->geometry.direct);
	assert_true(backend->geometry.pages_stable);
	backend_close(backend);
	scratch_loop_remove(device);
}

#define FOR_ENGINE(test, name) { #test " (" name ")", test, NULL, NULL, (void *)name }
#define FOR_EACH_ENGINE(test) FOR_ENGINE(test, "io_uring"), FOR_ENGINE(test, "libaio"), FOR_ENGINE(test, "sync")

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_never_invented),
		cmocka_unit_test(what_is_no_image),
		cmocka_unit_test(no_permission),
		cmocka_unit_test(bad_targets),
		cmocka_unit_test(read_only_filesystem),
		cmocka_unit_test(read_only_device),
		cmocka_unit_test(mounted_device),
		cmocka_unit_test(empty_device),
		cmocka_unit_test(locks_on_a_file),
		cmocka_unit_test(locks_on_a_device),
		cmocka_unit_test(lock_of_another_process),
		cmocka_unit_test(resize),
		cmocka_unit_test(resize_of_a_device),
		cmocka_unit_test(requests_are_checked),
		cmocka_unit_test(null_driver),
		cmocka_unit_test(geometry_of_a_4k_device),
		cmocka_unit_test(failed_flush_stays_failed),
		cmocka_unit_test(every_operation_may_fail),
		FOR_EACH_ENGINE(random_512_on_4k),
		FOR_EACH_ENGINE(random_4k_on_4k),
		FOR_EACH_ENGINE(random_512_on_512),
		FOR_EACH_ENGINE(random_on_file),
	};

	scratch_init();
	if (engine_open(&engine, "sync", DEPTH))
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
