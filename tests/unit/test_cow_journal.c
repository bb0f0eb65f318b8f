/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_journal.c - the journal of a store whose process has died
 * (docs/takeover.md). It restores writes that were answered and are in no log;
 * an invalid journal is refused with the reason, and kept: once it is repaired,
 * nothing is missing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "array.h"
#include "cow_internal.h"
#include "cow_model.h"
#include "scratch.h"

#define STORE_BYTES (3u << 20)
#define SECTORS 4096u

/* Positions in it, in bytes. */
enum { MAGIC = 0, FORMAT = 8, UUID = 16, SALT = 32, NEXT_SALT = 40, AREA_SIZE = 48, CURRENT = 56, AREA = 64, OTHER_AREA = 88 };
enum { BEGIN = 0, USED = 8, INCOMPLETE = 16 };		/* of an area */

static struct sim sim;
static struct cow_store *store;
static char path[128];
static uint8_t written[COW_BLOCK];

static int store_open(struct error_text *error)
{
	struct cow_open_options options = { .journal = path };
	int ret;

	error->text[0] = '\0';
	ret = cow_open(&store, &sim.device, &options, error);
	if (ret)
		store = NULL;
	return ret;
}

/* A process has died: one write was answered, and never flushed. */
static int setup(void **state)
{
	struct cow_create_options options = { .sectors = SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct error_text error = { "" };

	snprintf(path, sizeof(path), "%s", scratch_path("journal"));
	unlink(path);
	sim_init(&sim, STORE_BYTES, 0, 1);
	assert_int_equal(cow_create(&sim.device, &options, &error), 0);
	assert_int_equal(store_open(&error), 0);
	memset(written, 0x5a, sizeof(written));
	assert_int_equal(cow_write(store, written, 8, COW_SECTORS), 0);
	cow_abandon(store);
	store = NULL;
	return 0;
}

static int teardown(void **state)
{
	if (store)
		cow_abandon(store);
	store = NULL;
	sim_free(&sim);
	return 0;
}

static void get(off_t offset, void *bytes, size_t length)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, bytes, length, offset), length);
	close(fd);
}

static void put(off_t offset, const void *bytes, size_t length)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, length, offset), length);
	close(fd);
}

static uint64_t get64(off_t offset)
{
	uint64_t value;

	get(offset, &value, sizeof(value));
	return value;
}

/* Which area is in use, and where it begins. */
static off_t area(void)
{
	uint32_t current;

	get(CURRENT, &current, sizeof(current));
	return current ? OTHER_AREA : AREA;
}

static off_t records(void)
{
	return (off_t)(COW_BLOCK + (area() == AREA ? 0 : get64(AREA_SIZE)));
}

static void refused(int expected, const char *why)
{
	struct error_text error;
	int ret = store_open(&error);

	if (ret != expected || !strstr(error.text, why))
		fail_msg("%d %s, not %d ... %s ...", ret, error.text, expected, why);
}

static void nothing_is_missing(void)
{
	struct error_text error;
	uint8_t data[COW_BLOCK];
	int ret = store_open(&error);

	if (ret)
		fail_msg("%d %s", ret, error.text);
	assert_int_equal(cow_read(store, data, 8, COW_SECTORS), 0);
	assert_memory_equal(data, written, sizeof(data));
}

static void test_played(void **state)
{
	nothing_is_missing();
	assert_int_equal(cow_close(store), 0);
	store = NULL;
	assert_int_equal(access(path, F_OK), -1);	/* not needed any more */
	nothing_is_missing();
}

static void test_header(void **state)
{
	uint64_t area_size = get64(AREA_SIZE);
	const struct { off_t offset; uint64_t value; size_t length; int error; const char *why; } bad[] = {
		{ FORMAT, 2, 4, -EUCLEAN, "cannot be replayed" }, { CURRENT, 2, 4, -EUCLEAN, "cannot be replayed" },
		{ AREA_SIZE, area_size - 8, 8, -EUCLEAN, "cannot be replayed" },
		{ AREA + USED, area_size + 8, 8, -EUCLEAN, "cannot be replayed" },
		{ OTHER_AREA + USED, area_size + 8, 8, -EUCLEAN, "cannot be replayed" },
		{ UUID, 1, 8, -ESTALE, "another process has opened it" },
		{ area() + INCOMPLETE, 1, 4, -ENOBUFS, "its journal is incomplete" },
		{ area() + USED, get64(area() + USED) - 8, 8, -EUCLEAN, "cannot be replayed" },
		{ area() + USED, 8, 8, -EUCLEAN, "cannot be replayed" },
		{ area() + BEGIN, UINT64_MAX, 8, -EUCLEAN, "cannot be replayed" },
		{ records() + 16, 0x55, 1, -EUCLEAN, "cannot be replayed" },
	};
	uint64_t kept;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		get(bad[i].offset, &kept, bad[i].length);
		put(bad[i].offset, &bad[i].value, bad[i].length);
		refused(bad[i].error, bad[i].why);
		put(bad[i].offset, &kept, bad[i].length);
	}
	nothing_is_missing();
}

static void use_meanwhile(void)
{
	struct cow_open_options options = { 0 };
	struct error_text error = { "" };

	assert_int_equal(cow_open(&store, &sim.device, &options, &error), 0);
	assert_int_equal(cow_close(store), 0);
	store = NULL;
}

/* A journal belongs to one open of the store. */
static void test_opened_meanwhile(void **state)
{
	use_meanwhile();
	refused(-ESTALE, "another process has opened it");
}

/* Each call to the device fails once while the store is closed. After its flush that loses nothing. */
static void test_failed_closings(void **state)
{
	uint64_t nth, calls;
	unsigned failed = 0;
	int ret;

	do {
		nothing_is_missing();
		memset(written, (int)failed, sizeof(written));
		assert_int_equal(cow_write(store, written, 8, COW_SECTORS), 0);
		assert_int_equal(cow_flush(store), 0);
		calls = sim.calls;
		assert_int_equal(cow_flush(store), 0);
		nth = sim.calls - calls + failed + 1;
		sim.fail_error = -ENOSPC;
		sim.fail_at = sim.calls + nth;
		ret = cow_close(store);
		store = NULL;
		sim.fail_at = 0;
		failed += ret != 0;
		use_meanwhile();
	} while (ret);
	assert_true(failed > 5);
	/* without the flush data are missing */
	nothing_is_missing();
	assert_int_equal(cow_write(store, written, 80, COW_SECTORS), 0);
	sim.fail_at = sim.calls + 1;
	assert_int_not_equal(cow_close(store), 0);
	store = NULL;
	sim.fail_at = 0;
	use_meanwhile();
	refused(-ESTALE, "another process has opened it");
}

static void test_file(void **state)
{
	char second[160];
	struct stat st;
	int fd;

	snprintf(second, sizeof(second), "%s.second", path);
	assert_int_equal(chmod(path, 0640), 0);
	refused(-EUCLEAN, "cannot be replayed");		/* others could have written to it */
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(link(path, second), 0);
	refused(-EUCLEAN, "cannot be replayed");
	assert_int_equal(unlink(second), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size + 1), 0);
	refused(-EUCLEAN, "cannot be replayed");
	assert_int_equal(truncate(path, st.st_size), 0);
	assert_int_equal(rename(path, second), 0);
	assert_int_equal(symlink(second, path), 0);
	refused(-ELOOP, "cannot be replayed");
	assert_int_equal(rename(second, path), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	refused(-EBUSY, "cannot be replayed");		/* the process is not dead */
	close(fd);
	nothing_is_missing();
}

/* It was interrupted before its magic was written, so before any answer. */
static void test_half_made(void **state)
{
	static const uint8_t none[8];
	struct error_text error;
	uint8_t data[COW_BLOCK];

	put(MAGIC, none, sizeof(none));
	assert_int_equal(store_open(&error), 0);
	assert_int_equal(cow_read(store, data, 8, COW_SECTORS), 0);
	assert_int_equal(data[0], 0);
}

/* Each call to the device fails once during the open, with and without a journal; the next open succeeds. */
static void failed_openings(bool fresh)
{
	struct error_text error;
	bool reached = true;
	unsigned failed = 0;
	int ret;

	for (uint64_t nth = 1; reached; nth++) {
		if (fresh) {
			nothing_is_missing();
			assert_int_equal(cow_close(store), 0);
			store = NULL;
		}
		sim.fail_error = -ENOSPC;
		sim.fail_at = sim.calls + nth;
		ret = store_open(&error);
		reached = sim.calls >= sim.fail_at;
		sim.fail_at = 0;
		failed += ret != 0;
		if (!ret)
			cow_abandon(store);
		else if (fresh)
			use_meanwhile();	/* no request was answered yet */
		nothing_is_missing();
		cow_abandon(store);
		store = NULL;
	}
	assert_true(failed > 5);
}

static void test_failed_openings(void **state)
{
	failed_openings(false);
}

static void test_failed_first_openings(void **state)
{
	failed_openings(true);
}

/* Replaces the only record by another with the right checksum. */
static void make_up(uint32_t type, const void *payload, uint32_t length)
{
	uint32_t head[4] = { 0, type, length, 1 };
	uint64_t salt = get64(SALT), begin = get64(area() + BEGIN), used = sizeof(head) + (length + 7) / 8 * 8;

	head[0] = cow_crc(0, &salt, sizeof(salt));
	head[0] = cow_crc(head[0], &begin, sizeof(begin));
	head[0] = cow_crc(head[0], &head[1], sizeof(head) - sizeof(head[0]));
	head[0] = cow_crc(head[0], payload, length);
	put(records(), head, sizeof(head));
	put(records() + (off_t)sizeof(head), payload, length);
	put(area() + USED, &used, sizeof(used));
}

static void test_made_up_records(void **state)
{
	static uint8_t zeros[COW_RECORD_MAX];
	const struct { uint64_t block, entry, count; } run = { 0, 0, COW_MAX_BLOCKS + 1 }, far = { COW_MAX_BLOCKS + 1, 0, 1 },
		behind = { SECTORS / COW_SECTORS - 1, 0, 2 };
	const uint32_t run_type = 0x100;
	uint8_t kept[64];
	uint64_t used = get64(area() + USED);

	assert_true(used <= sizeof(kept));
	get(records(), kept, sizeof(kept));
	make_up(run_type, &run, sizeof(run));
	refused(-EUCLEAN, "cannot be replayed");
	make_up(run_type, &far, sizeof(far));
	refused(-EUCLEAN, "cannot be replayed");
	make_up(run_type, &behind, sizeof(behind));
	refused(-EUCLEAN, "cannot be replayed");
	make_up(run_type, &run, sizeof(run) - 8);
	refused(-EUCLEAN, "cannot be replayed");
	make_up(COW_RECORD_RELEASE, zeros, sizeof(zeros));	/* longer than the log allows */
	refused(-EUCLEAN, "cannot be replayed");
	make_up(COW_RECORD_COMMIT + 1, zeros, 8);
	refused(-EUCLEAN, "cannot be replayed");
	put(records(), kept, sizeof(kept));
	put(area() + USED, &used, sizeof(used));
	nothing_is_missing();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_played, setup, teardown),
		cmocka_unit_test_setup_teardown(test_header, setup, teardown),
		cmocka_unit_test_setup_teardown(test_opened_meanwhile, setup, teardown),
		cmocka_unit_test_setup_teardown(test_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_half_made, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_openings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_first_openings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_closings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_made_up_records, setup, teardown),
	};

	scratch_init();
	return cmocka_run_group_tests_name("cow: journals", tests, NULL, NULL);
}
