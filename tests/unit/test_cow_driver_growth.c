/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_growth.c - the file of a store grows while it is served: a
 * file system that takes its time for that, and one that refuses it.
 *
 * TAPSNAP_SEED repeats one run of the last test, TAPSNAP_SEEDS says how many.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cow_internal.h"
#include "cow_model.h"
#include "live_run.h"

#include "fault_store.h"

#define SPARE 600u			/* free blocks of a store, its reserve among them */
#define PLENTY 900u			/* more writes than that */
#define AT_ONCE 100u			/* some of them */
#define LOOK_MS 1

/* In the C library's place. */
static pthread_t loop_thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
static bool hold, called, on_loop;	/* hold: it does not end before this is false. Under the lock */
static int refuse;			/* errno; 0: it works */
static unsigned refused;

int __real_ftruncate(int fd, off_t length);
int __wrap_ftruncate(int fd, off_t length);

int __wrap_ftruncate(int fd, off_t length)
{
	if (refuse) {
		refused++;
		errno = refuse;
		return -1;
	}
	pthread_mutex_lock(&lock);
	called = true;
	on_loop |= pthread_equal(pthread_self(), loop_thread);
	while (hold && !on_loop)
		pthread_cond_wait(&change, &lock);
	pthread_mutex_unlock(&lock);
	return __real_ftruncate(fd, length);
}

static void set_hold(bool now)
{
	pthread_mutex_lock(&lock);
	hold = now;
	called = on_loop = false;
	pthread_cond_broadcast(&change);
	pthread_mutex_unlock(&lock);
}

static bool look(const bool *what)
{
	bool is;

	pthread_mutex_lock(&lock);
	is = *what;
	pthread_mutex_unlock(&lock);
	return is;
}

/* A store with SPARE free blocks. The others count as used, though nothing maps them. */
static void make_store(const char *path)
{
	struct cow_create_options create = { .sectors = PLENTY * COW_SECTORS };
	struct cow_open_options options = { 0 };
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	uint64_t block;

	if (cow_file_create(&device, path, &error) || cow_create(device, &create, &error) ||
	    cow_open(&store, device, &options, &error))
		fail_msg("%s", error.text);
	for (block = store->pool_start; block < store->store_blocks - SPARE; block++)
		assert_int_equal(cow_alloc_mark(store, block), 0);
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
}

struct write {
	struct block_request req;
	int result;
};

static struct write writes[PLENTY];
static uint8_t *data;
static struct iovec data_iov;

static void note(struct block_request *req, int error)
{
	((struct write *)req->owner)->result = error;
}

static void submit(struct backend *backend, struct write *write, enum block_op op, uint64_t sector)
{
	write->result = 1;
	write->req = (struct block_request){ .op = op, .sector = sector, .nr_sectors = COW_SECTORS, .iov = &data_iov, .iovcnt = 1,
		.done = note, .owner = write };
	backend_submit(backend, &write->req);
}

/* As the event loop does it. */
static void turn(struct engine *engine)
{
	struct pollfd fd = { .fd = engine_fd(engine), .events = POLLIN };

	assert_int_equal(engine_commit(engine), 0);
	poll(&fd, 1, LOOK_MS);
	engine_reap(engine);
}

/* Until @write has ended, or nothing but the growth is in flight. True: it has ended. */
static bool run_until(struct engine *engine, const struct write *write)
{
	while (write->result == 1 && !(engine->queued == 1 && look(&called)))
		turn(engine);
	return write->result != 1;
}

static struct backend *open_store(struct engine *engine, const char *path)
{
	struct driver_options options = { .no_direct = true };
	struct error_text error = { "" };
	struct backend *backend;
	char target[PATH_MAX + 4];

	snprintf(target, sizeof(target), "cow:%s", path);
	if (backend_open(&backend, engine, target, &options, &error))
		fail_msg("%s", error.text);
	return backend;
}

/* Another disk of the process is served all the while; and so are the store's first writes, for as long as there is room. */
static void grow_slowly(const char *name)
{
	const char *path = scratch_path(name);
	struct error_text error = { "" };
	struct driver_options options = { .no_direct = true };
	struct backend *backend, *other;
	struct engine *engine;
	struct write read;
	char target[PATH_MAX + 4];
	unsigned i, waits;

	assert_int_equal(engine_open(&engine, name, 64), 0);
	make_store(path);
	backend = open_store(engine, path);
	snprintf(target, sizeof(target), "aio:%s", scratch_file("other", 1 << 20));
	assert_int_equal(backend_open(&other, engine, target, &options, &error), 0);
	set_hold(true);
	for (i = 0; i < PLENTY - 1; i++) {
		submit(backend, &writes[i], BLOCK_WRITE, i * COW_SECTORS);
		if (!run_until(engine, &writes[i]))
			break;
		assert_int_equal(writes[i].result, 0);
		assert_false(look(&on_loop));
	}
	assert_in_range(i, AT_ONCE, PLENTY - 2);
	submit(other, &read, BLOCK_READ, 0);
	while (read.result == 1)
		turn(engine);
	assert_int_equal(read.result, 0);
	assert_int_equal(writes[i].result, 1);
	assert_int_equal(backend->waiting, 0);	/* it waits for the growth, and not until somebody tries again */
	set_hold(false);
	for (waits = i; i < PLENTY; i++) {
		if (i > waits)
			submit(backend, &writes[i], BLOCK_WRITE, i * COW_SECTORS);
		while (writes[i].result == 1)
			turn(engine);
		assert_int_equal(writes[i].result, 0);
	}
	backend_close(other);
	backend_close(backend);
	engine_close(engine);
	unlink(path);
}

static void test_a_growth_that_takes_long(void **state)
{
	grow_slowly("libaio");
}

/* Where the kernel does it for the ring, nobody calls ftruncate(). */
static void test_a_growth_through_a_ring(void **state)
{
	const char *path = scratch_path("ring");
	struct backend *backend;
	struct engine *engine;
	unsigned i;

	if (engine_open(&engine, "io_uring", 64)) {
		print_message("# no io_uring here\n");
		skip();
	}
	make_store(path);
	set_hold(false);
	backend = open_store(engine, path);
	for (i = 0; i < PLENTY; i++) {
		submit(backend, &writes[i], BLOCK_WRITE, i * COW_SECTORS);
		while (writes[i].result == 1)
			turn(engine);
		assert_int_equal(writes[i].result, 0);
	}
	assert_false(look(&on_loop));
	backend_close(backend);
	engine_close(engine);
	unlink(path);
}

/* Writes until one fails, or waits. */
static struct write *write_on(struct fault_store *store)
{
	unsigned i, reaps;

	for (i = 0; i < PLENTY; i++) {
		submit(store->backend, &writes[i], BLOCK_WRITE, i * COW_SECTORS);
		for (reaps = 0; writes[i].result == 1 && !store->backend->waiting && reaps < PLENTY; reaps++)
			engine_reap(&store->fault.engine);
		if (writes[i].result)
			return &writes[i];
	}
	return NULL;
}

/* @answer: what the guest gets; 0: nothing, its write waits for room. Then there is room, or the device is mended. */
static void refuse_growth(int error, int answer)
{
	struct fault_store store = { 0 };
	struct write *write;

	make_store(fault_store_name(&store, "refused"));
	fault_store_open(&store);
	refused = 0;
	refuse = error;
	write = write_on(&store);
	assert_non_null(write);
	assert_true(refused > 0);
	refuse = 0;
	if (write->result != (answer ? answer : 1))
		fail_msg("%s: the write ended with %d", strerror(error), write->result);
	assert_int_equal(store.backend->waiting, !answer);
	if (answer)
		submit(store.backend, write, BLOCK_WRITE, write->req.sector);
	else
		backend_retry(store.backend);
	fault_store_reap(&store, PLENTY);
	assert_int_equal(write->result, 0);
	fault_store_end(&store);
}

/* Only a lack of room is one: it is waited for. Of anything else the guest is told, and it is not the store's end. */
static void test_a_growth_that_is_refused(void **state)
{
	static const int others[] = { EIO, EROFS, ESTALE, EPERM };
	unsigned i;

	refuse_growth(ENOSPC, 0);
	refuse_growth(EDQUOT, 0);
	refuse_growth(EFBIG, 0);
	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		refuse_growth(others[i], -others[i]);
}

#define ATTEMPTS 4u

/* The first attempts fail, in the middle of anything: nothing is lost, and no request is left over. */
static void test_growths_that_fail(void **state)
{
	static const int errors[] = { -EIO, -ENOSPC, -EROFS };
	uint64_t first = model_first_seed(1), seeds = model_seeds(2);
	struct live_options options = { .small = true };
	unsigned i, count, faults = 0;

	for (options.seed = first; options.seed < first + seeds; options.seed++) {
		options.base = options.seed % 3;
		for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
			for (count = 1; count <= ATTEMPTS && live_run_growth_fault(&options, scratch_dir, count, errors[i]); count++)
				faults++;
		}
	}
	print_message("# %u runs\n", faults);
	assert_true(faults >= seeds * sizeof(errors) / sizeof(errors[0]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_growth_that_takes_long),
		cmocka_unit_test(test_a_growth_through_a_ring),
		cmocka_unit_test(test_a_growth_that_is_refused),
		cmocka_unit_test(test_growths_that_fail),
	};

	loop_thread = pthread_self();
	data = aligned_alloc(COW_BLOCK, COW_BLOCK);
	if (!data)
		return 1;
	memset(data, 1, COW_BLOCK);
	data_iov = (struct iovec){ data, COW_BLOCK };
	scratch_init();
	return cmocka_run_group_tests_name("cow: the driver, a file that grows", tests, NULL, NULL);
}
