/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * cow_disk_io.c - the library's I/O when a store is served: its calls, made in a
 * fiber, become requests to the backends of the store and of its base.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "aio.h"
#include "cow_disk.h"

struct call {
	struct block_request req;
	struct iovec iov;
	struct fiber *fiber;
	bool done;
	int error;
};

static void call_over(struct call *call, int error)
{
	call->done = true;
	call->error = error;
	if (fiber_current() != call->fiber)
		fiber_resume(call->fiber);
}

static void call_done(struct block_request *req, int error)
{
	call_over(req->owner, error);
}

static void call_begin(struct call *call, struct backend *backend, enum block_op op, const struct iovec *iov, int iovcnt,
		       uint64_t offset, uint64_t length)
{
	call->req = (struct block_request){
		.op = op, .sector = offset >> SECTOR_SHIFT, .nr_sectors = length >> SECTOR_SHIFT, .iov = iov, .iovcnt = iovcnt,
		.done = call_done, .owner = call,
	};
	call->fiber = fiber_current();
	assert(call->fiber);
	backend_submit(backend, &call->req);
}

static int call_end(struct call *call)
{
	while (!call->done)
		fiber_yield();
	return call->error;
}

static int backend_call(struct backend *backend, enum block_op op, const struct iovec *iov, int iovcnt, uint64_t offset,
			uint64_t length)
{
	struct call call = { .done = false };

	call_begin(&call, backend, op, iov, iovcnt, offset, length);
	return call_end(&call);
}

static struct cow_disk *disk_of(struct cow_device *device)
{
	return (struct cow_disk *)device;
}

static int device_read(struct cow_device *device, void *data, uint64_t offset, size_t length)
{
	struct iovec iov = { data, length };

	return backend_call(disk_of(device)->backend, BLOCK_READ, &iov, 1, offset, length);
}

static int device_read_many(struct cow_device *device, const struct cow_read_part *part, unsigned count)
{
	struct call *calls = calloc(count, sizeof(*calls));
	unsigned i;
	int ret = calls ? 0 : -ENOMEM;

	for (i = 0; calls && i < count; i++) {
		calls[i].iov = (struct iovec){ part[i].data, part[i].length };
		call_begin(&calls[i], disk_of(device)->backend, BLOCK_READ, &calls[i].iov, 1, part[i].offset, part[i].length);
	}
	for (i = 0; calls && i < count; i++)
		ret = call_end(&calls[i]) ? calls[i].error : ret;
	free(calls);
	return ret;
}

static int device_write(struct cow_device *device, const void *data, uint64_t offset, size_t length)
{
	struct iovec iov = { (void *)data, length };

	return backend_call(disk_of(device)->backend, BLOCK_WRITE, &iov, 1, offset, length);
}

int cow_disk_write(struct cow_disk *disk, const struct iovec *iov, int iovcnt, uint64_t offset, uint64_t length)
{
	return backend_call(disk->backend, BLOCK_WRITE, iov, iovcnt, offset, length);
}

static int device_sync(struct cow_device *device)
{
	return cow_sync_error(backend_call(disk_of(device)->backend, BLOCK_FLUSH, NULL, 0, 0, 0));
}

static int device_write_durable(struct cow_device *device, const void *data, uint64_t offset, size_t length)
{
	int ret = device_write(device, data, offset, length);

	return ret ? ret : device_sync(device);
}

static int device_punch(struct cow_device *device, uint64_t offset, uint64_t length)
{
	if (!disk_of(device)->backend->geometry.discard)
		return -EOPNOTSUPP;
	return backend_call(disk_of(device)->backend, BLOCK_DISCARD, NULL, 0, offset, length);
}

static uint64_t device_size(struct cow_device *device)
{
	return disk_of(device)->backend->geometry.sectors << SECTOR_SHIFT;
}

int cow_disk_base_read(void *disk, void *data, uint64_t sector, uint64_t nr_sectors)
{
	struct iovec iov = { data, nr_sectors * SECTOR_SIZE };

	return backend_call(((struct cow_disk *)disk)->base_backend, BLOCK_READ, &iov, 1, sector << SECTOR_SHIFT, iov.iov_len);
}

static uint64_t device_size_now(struct cow_device *device)
{
	backend_refresh_size(disk_of(device)->backend, NULL);	/* on failure the size stays */
	return device_size(device);
}

static void enlarge_done(struct engine_io *io, int error)
{
	call_over(io->owner, error);
}

int cow_disk_enlarge(struct cow_disk *disk, struct backend *backend, uint64_t size)
{
	struct call call = { .fiber = fiber_current() };
	struct engine_io io = { .op = ENGINE_RESIZE, .fd = ((struct aio_disk *)backend->handle)->file->fd, .length = size,
		.done = enlarge_done, .owner = &call };
	int ret;

	assert(call.fiber);
	if (size <= backend->geometry.sectors << SECTOR_SHIFT)
		return 0;	/* there was no memory for the store's part of it */
	engine_queue(disk->engine, &io);
	ret = call_end(&call);
	backend->completions++;
	return ret ? ret : backend_refresh_size(backend, NULL);
}

static int device_resize(struct cow_device *device, uint64_t size)
{
	return cow_disk_enlarge(disk_of(device), disk_of(device)->backend, size);
}

const struct cow_device_ops cow_disk_file_ops = {
	.read = device_read, .read_many = device_read_many, .write = device_write, .write_durable = device_write_durable, .sync = device_sync,
	.punch = device_punch, .size = device_size, .resize = device_resize,
};

const struct cow_device_ops cow_disk_blkdev_ops = {
	.read = device_read, .read_many = device_read_many, .write = device_write, .write_durable = device_write_durable, .sync = device_sync,
	.punch = device_punch, .size = device_size, .size_now = device_size_now,
};

struct apart {
	struct call call;
	int (*run)(void *arg);
	void *arg;
	int ret;
};

static int apart_run(const struct engine_io *io)
{
	struct apart *apart = io->owner;

	apart->ret = apart->run(apart->arg);
	return 0;		/* the engine repeats calls with some errors */
}

static void apart_done(struct engine_io *io, int error)
{
	struct apart *apart = io->owner;

	call_over(&apart->call, error);
}

int cow_disk_call(struct engine *engine, int (*run)(void *arg), void *arg)
{
	static unsigned turn;
	struct apart apart = { .call = { .fiber = fiber_current() }, .run = run, .arg = arg };
	/* no descriptor: a number of its own, so that another call that hangs does not delay it */
	struct engine_io io = { .op = ENGINE_CALL, .fd = -2 - (int)(turn++ % 10000), .length = 1, .call = apart_run,
		.done = apart_done, .owner = &apart };
	int ret;

	assert(apart.call.fiber);
	engine_queue(engine, &io);
	ret = call_end(&apart.call);
	return ret ? ret : apart.ret;
}

void cow_disk_wait(struct cow_disk *disk, bool (*ready)(struct cow_disk *disk))
{
	while (!ready(disk)) {
		disk->engine->ops->wait(disk->engine);
		engine_reap(disk->engine);
	}
}

struct run {
	void (*run)(void *arg);
	void *arg;
	struct fiber *waiter;	/* NULL: the loop below waits */
	bool waits, done;
};

static void run_fiber(void *arg)
{
	struct run *run = arg;

	run->run(run->arg);
	run->done = true;
	if (run->waits)
		fiber_resume(run->waiter);	/* @run is on its stack */
}

int cow_disk_run(struct cow_disk *disk, void (*run)(void *arg), void *arg)
{
	struct run what = { run, arg, .waiter = fiber_current() };
	int ret = fiber_start(run_fiber, &what);

	what.waits = what.waiter;
	while (what.waits && !ret && !what.done)
		fiber_yield();
	while (!ret && !what.done) {
		disk->engine->ops->wait(disk->engine);
		engine_reap(disk->engine);
	}
	return ret;
}
