/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_driver_reopen.c - a store that is open for reading, because a
 * clone of its snapshot is in use, is opened for writing in the same process;
 * the clone still reads the right data. Both hold 7s at first.
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
#include "protocol.h"

#define SECTORS 4096u
#define PART 64u			/* sectors of one read or write */

static char original[PATH_MAX], pristine[PATH_MAX], record[PATH_MAX], journal[PATH_MAX];
static struct fault_store clone;

static void fill(uint8_t data[PART * SECTOR_SIZE], int with)
{
	memset(data, with, PART * SECTOR_SIZE);
}

/* It is not closed cleanly: its log has the last write. */
static void make_original(void)
{
	struct cow_create_options options = { .sectors = SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	uint8_t data[PART * SECTOR_SIZE];
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	unsigned i;

	assert_int_equal(cow_file_create(&device, original, &error), 0);
	assert_int_equal(cow_create(device, &options, &error), 0);
	assert_int_equal(cow_open(&store, device, &(struct cow_open_options){ 0 }, &error), 0);
	fill(data, 7);
	for (i = 0; i < SECTORS; i += PART)
		assert_int_equal(cow_write(store, data, i, PART), 0);
	assert_int_equal(cow_snapshot_create(store, "s", NULL, &error), 0);
	fill(data, 8);
	assert_int_equal(cow_write(store, data, PART, PART), 0);
	assert_int_equal(cow_flush(store), 0);
	cow_abandon(store);
	cow_file_close(device);
}

static void copy(const char *from, const char *to)
{
	char command[2 * PATH_MAX + 64];

	snprintf(command, sizeof(command), "cp --sparse=always %s %s", from, to);
	assert_int_equal(scratch_run(command), 0);
}

static void make_clone(void)
{
	struct cow_create_options options = { .sectors = SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS, .base_kind = COW_BASE_COW };
	struct error_text error = { "" };
	struct cow_base_fields fields;
	char target[PATH_MAX + 8];

	snprintf(target, sizeof(target), "%s@s", original);
	if (cow_base_describe_snapshot(&fields, target, &error))
		fail_msg("%s", error.text);
	options.base = &fields;
	fault_store_make(&clone, "clone", &options);
}

/* The clone is in use. */
static void begin(void)
{
	snprintf(original, sizeof(original), "%s", scratch_path("original"));
	make_original();
	make_clone();
}

static int do_one(struct backend *backend, enum block_op op, uint64_t sector, uint8_t *data)
{
	struct iovec iov = { data, PART * SECTOR_SIZE };
	struct fault_store store = { .backend = backend };
	struct block_request req;
	int result;

	fault_store_submit(&store, &req, op, sector, data ? &iov : NULL, &result);
	while (result == 1)
		engine_reap(&clone.fault.engine);
	return result;
}

static void do_write(struct backend *backend, uint64_t sector, int with)
{
	uint8_t data[PART * SECTOR_SIZE] __attribute__((aligned(COW_BLOCK)));

	fill(data, with);
	assert_int_equal(do_one(backend, BLOCK_WRITE, sector, data), 0);
	assert_int_equal(do_one(backend, BLOCK_FLUSH, 0, NULL), 0);
}

static void expect(struct backend *backend, uint64_t sector, int with)
{
	uint8_t data[PART * SECTOR_SIZE] __attribute__((aligned(COW_BLOCK))), expected[PART * SECTOR_SIZE];

	fill(expected, with);
	assert_int_equal(do_one(backend, BLOCK_READ, sector, data), 0);
	assert_memory_equal(data, expected, sizeof(data));
}

static int open_with_journal(struct backend **backend, const char *path, struct error_text *error)
{
	char target[PATH_MAX + 8];

	error->text[0] = '\0';
	snprintf(target, sizeof(target), "cow:%s", original);
	return backend_open(backend, &clone.fault.engine, target, &(struct driver_options){ .no_direct = true,
			    .journal = path }, error);
}

static int open_original(struct backend **backend, struct error_text *error)
{
	return open_with_journal(backend, NULL, error);
}

static void check_store(const char *path)
{
	struct error_text error = { "" };
	struct cow_check check = { 0 };
	struct cow_device *device;
	struct cow_store *store;
	struct cow_base base = { 0 };
	struct cow_base_fields fields;
	enum cow_base_kind kind;

	assert_int_equal(cow_file_open(&device, path, true, &error), 0);
	assert_int_equal(cow_probe(device, &kind, &fields, &error), 0);
	assert_int_equal(cow_base_open(&base, kind, &fields, NULL, &error), 0);
	assert_int_equal(cow_open(&store, device, &(struct cow_open_options){ .read_only = true, .base = base }, &error), 0);
	assert_int_equal(cow_check(store, &check, false), 0);
	assert_int_equal(check.errors + check.leaks, 0);
	cow_abandon(store);
	cow_base_close(&base);
	cow_file_close(device);
}

/* The clone is closed, and both have the right contents. */
static void end(void)
{
	backend_close(clone.backend);
	check_store(original);
	check_store(clone.target + 4);
	unlink(original);
	unlink(clone.target + 4);
}

/* Both are used. */
static void use(struct backend *backend)
{
	unsigned i;

	expect(backend, 0, 7);
	expect(backend, PART, 8);
	for (i = 0; i < SECTORS; i += 2 * PART)
		do_write(backend, i, 9);
	for (i = 0; i < SECTORS; i += PART)
		expect(clone.backend, i, 7);
	do_write(clone.backend, 2 * PART, 6);
	expect(clone.backend, 2 * PART, 6);
	expect(backend, 2 * PART, 9);
}

static void command_done(struct snapshot_command *command, int error)
{
	*(int *)command->owner = error;
}

static void test_original_after_its_clone(void **state)
{
	struct snapshot_command command = { .op = SNAPSHOT_CREATE, .name = "t", .done = command_done };
	struct backend *backend;
	struct error_text error;
	int result = 1;

	begin();
	expect(clone.backend, 0, 7);
	if (open_original(&backend, &error))
		fail_msg("%s", error.text);
	use(backend);
	command.owner = &result;
	backend_snapshot(backend, &command);
	while (result == 1)
		engine_reap(&clone.fault.engine);
	assert_int_equal(result, 0);
	do_write(backend, 4 * PART, 5);
	expect(clone.backend, 4 * PART, 7);
	backend_close(backend);
	expect(clone.backend, 4 * PART, 7);
	assert_int_equal(open_original(&backend, &error), 0);
	expect(backend, 4 * PART, 5);
	backend_close(backend);
	end();
}

static int do_command(struct backend *backend, struct snapshot_command command)
{
	int result = 1;

	command.done = command_done;
	command.owner = &result;
	backend_snapshot(backend, &command);
	while (result == 1)
		engine_reap(&clone.fault.engine);
	return result;
}

static void prepare_revert(struct backend *backend)
{
	assert_int_equal(do_command(backend, (struct snapshot_command){ .op = SNAPSHOT_REVERT, .name = "s", .decision = record }), 0);
}

static void prepare_snapshot(struct backend *backend)
{
	assert_int_equal(do_command(backend, (struct snapshot_command){ .op = SNAPSHOT_FREEZE }), 0);
	assert_int_equal(do_command(backend, (struct snapshot_command){ .op = SNAPSHOT_PREPARE, .name = "t", .decision = record }),
			 0);
}

static int count_one(void *owner, const struct snapshot_info *info)
{
	++*(unsigned *)owner;
	return 0;
}

static unsigned snapshots(struct backend *backend)
{
	unsigned count = 0;

	assert_int_equal(backend_snapshot_list(backend, count_one, &count), 0);
	return count;
}

/*
 * The disk is closed with something prepared, and opened again while the clone keeps the store open:
 * this open has to settle it, like every other open. A later one would undo what was written since.
 */
static void test_what_was_prepared(void **state)
{
	struct error_text error = { "" };
	struct backend *backend;

	for (unsigned round = 0; round < 4; round++) {
		bool commit = round & 1, revert = round & 2;

		unlink(record);
		begin();
		assert_int_equal(open_original(&backend, &error), 0);
		(revert ? prepare_revert : prepare_snapshot)(backend);
		backend_close(backend);
		if (commit)
			assert_int_equal(cow_decision_commit(record, &error), 0);
		assert_int_equal(open_original(&backend, &error), 0);
		assert_int_equal(cow_decision_abort(record, &error), commit);
		expect(backend, PART, revert && commit ? 7 : 8);
		assert_int_equal(snapshots(backend), !revert && commit ? 2 : 1);
		do_write(backend, PART, 9);
		backend_close(backend);
		backend_close(clone.backend);
		fault_store_open(&clone);
		assert_int_equal(open_original(&backend, &error), 0);
		expect(backend, PART, 9);
		backend_close(backend);
		end();
	}
}

/* With the option undecided the revert stays prepared: its coordinator decides. What cannot be settled is not opened. */
static void test_what_stays_prepared(void **state)
{
	struct error_text error = { "" };
	struct backend *backend;
	char target[PATH_MAX + 8];

	unlink(record);
	begin();
	assert_int_equal(open_original(&backend, &error), 0);
	prepare_revert(backend);
	backend_close(backend);
	snprintf(target, sizeof(target), "cow:%s", original);
	assert_int_equal(backend_open(&backend, &clone.fault.engine, target, &(struct driver_options){ .no_direct = true,
				      .undecided = true }, &error), 0);
	assert_int_equal(access(record, F_OK), -1);
	expect(backend, PART, 8);
	backend_close(backend);
	assert_int_equal(mkdir(record, 0700), 0);
	assert_int_equal(open_original(&backend, &error), -EISDIR);
	assert_non_null(strstr(error.text, "cannot be read"));
	expect(clone.backend, 0, 7);
	assert_int_equal(rmdir(record), 0);
	assert_int_equal(cow_decision_commit(record, &error), 0);
	assert_int_equal(open_original(&backend, &error), 0);
	expect(backend, PART, 7);
	backend_close(backend);
	end();
}

/* A journal belongs to requests that a guest saw complete: an open that fails in the end leaves none. */
static void test_no_journal_of_what_was_not_opened(void **state)
{
	struct error_text error = { "" };
	struct backend *backend;

	for (unsigned beside = 0; beside < 2; beside++) {
		unlink(record);
		begin();
		assert_int_equal(open_original(&backend, &error), 0);
		prepare_revert(backend);
		backend_close(backend);
		backend_close(clone.backend);
		if (beside)
			fault_store_open(&clone);
		assert_int_equal(mkdir(record, 0700), 0);
		assert_int_equal(open_with_journal(&backend, journal, &error), -EISDIR);
		assert_int_equal(access(journal, F_OK), -1);
		assert_int_equal(rmdir(record), 0);
		if (!beside)
			fault_store_open(&clone);
		assert_int_equal(open_with_journal(&backend, journal, &error), 0);
		expect(backend, PART, 8);
		backend_close(backend);
		end();
	}
}

static void reap_all(void)
{
	while (engine_reap(&clone.fault.engine))
		;
}

/*
 * The writes that the disk's last user did not flush are in no journal when the disk is opened again,
 * beside a clone. The open repairs this without another flush: a successor finds all of them.
 */
static void test_journal_of_a_store_that_is_not_flushed(void **state)
{
	uint8_t data[PART * SECTOR_SIZE] __attribute__((aligned(COW_BLOCK))), found[PART * SECTOR_SIZE];
	char store_copy[PATH_MAX], journal_copy[PATH_MAX];
	struct error_text error = { "" };
	struct cow_device *device;
	struct cow_store *store;
	struct backend *backend;

	strcpy(store_copy, scratch_path("dead"));
	strcpy(journal_copy, scratch_path("left"));
	unlink(journal);
	begin();
	assert_int_equal(open_with_journal(&backend, journal, &error), 0);
	fill(data, 9);
	assert_int_equal(do_one(backend, BLOCK_WRITE, 2 * PART, data), 0);
	backend_close(backend);
	assert_int_equal(open_with_journal(&backend, journal, &error), 0);
	reap_all();
	copy(original, store_copy);
	copy(journal, journal_copy);
	assert_int_equal(chmod(journal_copy, 0600), 0);
	assert_int_equal(cow_file_open(&device, store_copy, false, &error), 0);
	if (cow_open(&store, device, &(struct cow_open_options){ .journal = journal_copy }, &error))
		fail_msg("%s", error.text);
	assert_int_equal(cow_read(store, found, 2 * PART, PART), 0);
	assert_memory_equal(found, data, sizeof(found));
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
	backend_close(backend);
	end();
}

struct reader {
	struct block_request req;
	struct iovec iov;
	unsigned reads;
};

#define READS 100u

static void read_next(struct reader *reader);

static void reader_done(struct block_request *req, int error)
{
	struct reader *reader = req->owner;
	const uint8_t *data = reader->iov.iov_base;

	assert_int_equal(error, 0);
	assert_true(data[0] == 7 && !memcmp(data, data + 1, reader->iov.iov_len - 1));
	reader->reads++;
	if (reader->reads < READS)
		read_next(reader);
}

static void read_next(struct reader *reader)
{
	memset(reader->iov.iov_base, 0, reader->iov.iov_len);
	reader->req = (struct block_request){ .op = BLOCK_READ, .sector = reader->reads * PART % SECTORS, .nr_sectors = PART,
		.iov = &reader->iov, .iovcnt = 1, .done = reader_done, .owner = reader };
	backend_submit(clone.backend, &reader->req);
}

/* Reads in flight end, new ones wait, and nothing reads a store that is being changed. */
static void test_reads_meanwhile(void **state)
{
	static uint8_t data[PART * SECTOR_SIZE] __attribute__((aligned(COW_BLOCK)));
	struct reader reader = { .iov = { data, sizeof(data) } };
	struct backend *backend;
	struct error_text error;

	begin();
	read_next(&reader);
	assert_int_equal(open_original(&backend, &error), 0);
	assert_in_range(reader.reads, 1, 2);
	fault_store_reap(&clone, READS);
	assert_int_equal(reader.reads, READS);
	use(backend);
	backend_close(backend);
	end();
}

/* Another process reads the original: it must not change. Once it is open for writing, nobody else can open it. */
static void test_readers_elsewhere(void **state)
{
	struct cow_device *device;
	struct backend *backend;
	struct error_text error;

	begin();
	error.text[0] = '\0';
	assert_int_equal(cow_file_open(&device, original, true, &error), 0);
	assert_int_equal(open_original(&backend, &error), -EBUSY);
	assert_non_null(strstr(error.text, "for reading"));
	expect(clone.backend, 0, 7);
	assert_int_equal(cow_file_open(&device, original, false, NULL), -EBUSY);
	cow_file_close(device);
	assert_int_equal(open_original(&backend, &error), 0);
	use(backend);
	assert_int_equal(cow_file_open(&device, original, true, NULL), -EBUSY);
	backend_close(backend);
	assert_int_equal(cow_file_open(&device, original, true, NULL), -EBUSY);
	end();
}

/* True when the Nth operation was reached. It fails, and with @broken all later ones, too. */
static bool reopen_with_fault(unsigned nth, bool broken)
{
	struct fault_engine *fault = &clone.fault;
	struct backend *backend;
	struct error_text error;
	bool hit;
	int ret;

	fault->fail_at = fault->seen + nth;
	fault->error = -EIO;
	fault->broken = broken;
	ret = open_original(&backend, &error);
	hit = fault->seen >= fault->fail_at;
	fault->fail_at = 0;
	if (ret) {
		assert_true(hit && error.text[0]);
		expect(clone.backend, 3 * PART, 7);
		ret = open_original(&backend, &error);
	}
	if (ret)
		fail_msg("operation %u: %s", nth, error.text);
	use(backend);
	backend_close(backend);
	return hit;
}

static void test_each_operation_fails(void **state)
{
	unsigned nth = 0, broken;
	bool hit;

	snprintf(pristine, sizeof(pristine), "%s", scratch_path("pristine"));
	begin();
	backend_close(clone.backend);
	copy(original, pristine);
	for (broken = 0; broken < 2; broken++) {
		for (nth = 1, hit = true; hit; nth++) {
			unlink(clone.target + 4);
			copy(pristine, original);
			make_clone();
			hit = reopen_with_fault(nth, broken);
			backend_close(clone.backend);
			check_store(original);
		}
	}
	print_message("# %u operations\n", nth - 1);
	unlink(original);
	unlink(pristine);
	unlink(clone.target + 4);
}

static void make_state_directory(void)
{
	snprintf(record, sizeof(record), "%s", scratch_path("state"));
	setenv(STATE_DIR_ENV, record, 1);
	mkdir(record, 0700);
	strcat(record, "/" COW_DECISION_DIRECTORY);
	mkdir(record, 0700);
	strcat(record, "/0123456789abcdef0123456789abcdef");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_original_after_its_clone),
		cmocka_unit_test(test_what_was_prepared),
		cmocka_unit_test(test_what_stays_prepared),
		cmocka_unit_test(test_no_journal_of_what_was_not_opened),
		cmocka_unit_test(test_journal_of_a_store_that_is_not_flushed),
		cmocka_unit_test(test_reads_meanwhile),
		cmocka_unit_test(test_readers_elsewhere),
		cmocka_unit_test(test_each_operation_fails),
	};

	scratch_init();
	make_state_directory();
	strcpy(journal, scratch_path("journal"));
	return cmocka_run_group_tests_name("cow: the driver, a store opened for writing beside its clones", tests, NULL, NULL);
}
