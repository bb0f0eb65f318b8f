/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_open.c - a store on a snapshot of another store is opened in
 * a fiber: the loop never waits, nobody else opens either meanwhile, and an
 * error of any I/O leaves nothing open.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>

#include "cow_base.h"
#include "cow_internal.h"
#include "fault_store.h"

#define SECTORS 4096u
#define PART 64u			/* sectors of one read or write */
#define MANY 1000u			/* I/Os: no open has as many */
#define LEAST 10u			/* I/Os: an open has more */

static struct fault_store store;
static char below[PATH_MAX], journal[PATH_MAX];
static struct engine_ops counting;
static unsigned waits;			/* for I/O, by the loop */

static int count_wait(struct engine *engine)
{
	waits++;
	return 0;
}

static int reap_one(struct engine *engine)
{
	struct engine_io *io = engine_list_take(&store.fault.over);

	while (io && !engine_complete(engine, io, io->priv[0]))
		io->priv[0] = fault_engine_call(&store.fault, io);
	return io != NULL;
}

static int do_one(enum block_op op, uint64_t sector, int with)
{
	static uint8_t data[PART * SECTOR_SIZE] __attribute__((aligned(COW_BLOCK)));
	struct iovec iov = { data, sizeof(data) };
	struct block_request req;
	int result;

	memset(data, op == BLOCK_READ ? ~with : with, sizeof(data));
	fault_store_submit(&store, &req, op, sector, op == BLOCK_FLUSH ? NULL : &iov, &result);
	while (result == 1)
		engine_reap(&store.fault.engine);
	for (size_t i = 0; op == BLOCK_READ && !result && i < sizeof(data); i++)
		assert_int_equal(data[i], (uint8_t)with);
	return result;
}

/* Two stores, closed: the one below, with 7s in the snapshot s, and the one on it. */
static void begin(void)
{
	struct cow_create_options options = { .sectors = SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	uint8_t data[PART * SECTOR_SIZE];
	struct error_text error = { "" };
	struct cow_base_fields fields;
	struct cow_device *device;
	struct cow_store *made;
	char target[PATH_MAX + 8];

	snprintf(below, sizeof(below), "%s", scratch_path("below"));
	unlink(below);
	assert_int_equal(cow_file_create(&device, below, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	assert_int_equal(cow_open(&made, device, &(struct cow_open_options){ 0 }, &error), 0);
	memset(data, 7, sizeof(data));
	assert_int_equal(cow_write(made, data, 0, PART), 0);
	assert_int_equal(cow_snapshot_create(made, "s", NULL, &error), 0);
	assert_int_equal(cow_close(made), 0);
	cow_file_close(device);
	snprintf(target, sizeof(target), "%s@s", below);
	if (cow_base_describe_snapshot(&fields, target, &error))
		fail_msg("%s", error.text);
	options.base_kind = COW_BASE_COW;
	options.base = &fields;
	unlink(fault_store_name(&store, "store"));
	fault_store_make(&store, "store", &options);
	assert_int_equal(do_one(BLOCK_WRITE, PART, 8), 0);
	backend_close(store.backend);
	store.backend = NULL;
	counting = fault_engine_ops;
	counting.wait = count_wait;
	counting.reap = reap_one;
	store.fault.engine.ops = &counting;
	store.fault.seen = waits = 0;
}

static void end(void)
{
	backend_close(store.backend);
	store.backend = NULL;
	fault_store_open(&store);
	assert_int_equal(do_one(BLOCK_READ, 0, 7), 0);
	assert_int_equal(do_one(BLOCK_READ, PART, 8), 0);
	fault_store_end(&store);
	unlink(below);
}

static struct backend_opening *open_begin(const char *target)
{
	struct backend_opening *opening;

	assert_int_equal(backend_open_begin(&opening, &store.fault.engine, target, &(struct driver_options){ .no_direct = true }), 0);
	return opening;
}

static int open_end(struct backend_opening *opening, struct backend **backend, struct error_text *error)
{
	error->text[0] = '\0';
	while (!backend_open_ended(opening))
		assert_int_equal(engine_reap(&store.fault.engine), 1);
	return backend_open_end(opening, backend, error);
}

static void open_it_too(void)
{
	struct error_text error = { "" };
	struct backend *backend;

	assert_int_equal(backend_open(&backend, &store.fault.engine, store.target, &(struct driver_options){ .no_direct = true }, &error),
			 -EAGAIN);
	assert_non_null(strstr(error.text, "still opening it"));
}

static void test_the_loop_goes_on(void **state)
{
	struct backend_opening *opening, *other;
	struct error_text error;
	struct backend *backend;

	begin();
	opening = open_begin(store.target);
	assert_int_equal(engine_reap(&store.fault.engine), 1);		/* where the store is */
	other = open_begin(store.target);
	for (unsigned i = 0; !backend_open_ended(opening); i++) {
		assert_true(i < MANY);
		open_it_too();
		if (other && backend_open_ended(other)) {
			assert_int_equal(backend_open_end(other, &backend, &error), -EAGAIN);
			other = NULL;
		}
		assert_int_equal(engine_reap(&store.fault.engine), 1);
	}
	assert_null(other);
	assert_int_equal(backend_open_end(opening, &store.backend, &error), 0);
	assert_int_equal(backend_start(store.backend, NULL, &error), 0);
	assert_true(store.fault.seen > LEAST);
	assert_int_equal(do_one(BLOCK_READ, 0, 7), 0);
	assert_int_equal(do_one(BLOCK_READ, PART, 8), 0);
	assert_int_equal(waits, 0);
	end();
}

/* Nobody wants it any more. */
static void test_given_up(void **state)
{
	struct error_text error;

	begin();
	assert_int_equal(open_end(open_begin(store.target), &store.backend, &error), 0);
	while (!backend_finish(store.backend))
		assert_int_equal(engine_reap(&store.fault.engine), 1);
	assert_int_equal(waits, 0);
	end();
}

static void test_errors(void **state)
{
	struct error_text error;
	unsigned nth = 0, seen;
	int ret;

	do {
		begin();
		store.fault.fail_at = ++nth;
		store.fault.error = -EIO;
		ret = open_end(open_begin(store.target), &store.backend, &error);
		seen = store.fault.seen;
		assert_true(!ret || ret == -EIO || ret == -EUCLEAN);
		if (ret)
			assert_int_not_equal(error.text[0], '\0');
		store.fault.fail_at = 0;
		if (ret)
			assert_int_equal(open_end(open_begin(store.target), &store.backend, &error), 0);
		assert_int_equal(backend_start(store.backend, NULL, &error), 0);
		end();
	} while (seen >= nth);
	assert_in_range(nth, LEAST, MANY);
}

/* What was not flushed is in the journal. */
static void test_journal(void **state)
{
	char command[5 * PATH_MAX], copy[PATH_MAX];
	struct error_text error = { "" };

	begin();
	snprintf(journal, sizeof(journal), "%s", scratch_path("journal"));
	assert_int_equal(open_end(open_begin(store.target), &store.backend, &error), 0);
	assert_int_equal(access(journal, F_OK), -1);
	assert_int_equal(backend_start(store.backend, journal, &error), 0);
	assert_int_equal(do_one(BLOCK_WRITE, 3 * PART, 5), 0);
	snprintf(copy, sizeof(copy), "%s", scratch_path("copy"));
	snprintf(command, sizeof(command), "cp --sparse=always %s %s && cp %s %s.journal", store.target + 4, copy, journal, copy);
	assert_int_equal(scratch_run(command), 0);
	backend_close(store.backend);
	assert_int_equal(access(journal, F_OK), -1);
	snprintf(command, sizeof(command), "mv %s %s", copy, store.target + 4);
	assert_int_equal(scratch_run(command), 0);
	strcat(copy, ".journal");
	if (backend_open(&store.backend, &store.fault.engine, store.target, &(struct driver_options){ .no_direct = true,
			 .journal = copy }, &error))
		fail_msg("%s", error.text);
	assert_int_equal(do_one(BLOCK_READ, 3 * PART, 5), 0);
	end();
}

/* These are opened as before. */
static void test_others(void **state)
{
	struct error_text error;
	struct backend *backend;
	char target[PATH_MAX + 8];

	begin();
	snprintf(target, sizeof(target), "aio:%s", below);
	assert_int_equal(open_end(open_begin(target), &backend, &error), -EXDEV);
	assert_int_equal(open_end(open_begin("null:1M"), &backend, &error), -EXDEV);
	/* in use as a base, and so open for reading */
	assert_int_equal(open_end(open_begin(store.target), &store.backend, &error), 0);
	assert_int_equal(backend_start(store.backend, NULL, &error), 0);
	snprintf(target, sizeof(target), "cow:%s", below);
	assert_int_equal(open_end(open_begin(target), &backend, &error), -EXDEV);
	assert_int_equal(backend_open(&backend, &store.fault.engine, target, &(struct driver_options){ .no_direct = true }, &error), 0);
	backend_close(backend);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_loop_goes_on),
		cmocka_unit_test(test_given_up),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_journal),
		cmocka_unit_test(test_others),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
