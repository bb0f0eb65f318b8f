/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_decision.c - prepared snapshots when a store is opened: which
 * decision files are looked up and made, also for a crafted store.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "array.h"
#include "cow_internal.h"
#include "cow_model.h"
#include "path.h"
#include "protocol.h"
#include "scratch.h"

#define SECTORS 8192
#define STORE_BYTES (24u << 20)
#define RANDOM_NAME "0123456789abcdef0123456789abcdef"

static struct sim sim;
static struct cow_store *store;
static char record[512];

static void store_open(void)
{
	struct cow_open_options options = { 0 };
	struct error_text error = { "" };

	if (cow_open(&store, &sim.device, &options, &error))
		fail_msg("%s", error.text);
}

static int setup(void **state)
{
	struct cow_create_options options = { .sectors = SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct error_text error = { "" };
	char directory[400];

	strcpy(directory, scratch_path("state"));
	setenv(STATE_DIR_ENV, directory, 1);
	mkdir(directory, 0700);
	strcat(directory, "/" COW_DECISION_DIRECTORY);
	mkdir(directory, 0700);
	snprintf(record, sizeof(record), "%s/" RANDOM_NAME, directory);
	sim_init(&sim, STORE_BYTES, 0, 1);
	assert_int_equal(cow_create(&sim.device, &options, &error), 0);
	store_open();
	return 0;
}

static int teardown(void **state)
{
	cow_abandon(store);
	sim_free(&sim);
	return 0;
}

static void prepare(const char *name)
{
	struct error_text error = { "" };

	if (cow_snapshot_prepare(store, name, NULL, record, &error))
		fail_msg("%s", error.text);
}

static void open_again(void)
{
	assert_int_equal(cow_close(store), 0);
	store_open();
}

static void decided_by(struct cow_version *version, const char *path)
{
	char text[600];

	snprintf(text, sizeof(text), "%s%s", version->name, path);
	assert_int_equal(cow_version_set_text(version, text, strlen(version->name), 0, strlen(path)), 0);
}

/* The store names @path as its decision record; the only effect may be the end of the snapshot. */
static void settle_made_up(const char *path)
{
	struct error_text error = { "" };
	struct cow_version *version = store->versions;

	prepare("s");
	while (!version->decision[0])
		version = version->next;
	decided_by(version, path);
	open_again();
	assert_int_equal(cow_prepared_settle(store, &error), 0);
	assert_int_equal(cow_prepared_count(store), 0);
	assert_null(cow_version_by_name(store, "s"));
}

static void test_none_is_made_elsewhere(void **state)
{
	char path[PATH_MAX];

	strcpy(path, scratch_path("made-up"));
	settle_made_up(path);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/" COW_DECISION_DIRECTORY "/made-up", path_state_dir());
	settle_made_up(path);
	assert_int_equal(access(path, F_OK), -1);
	snprintf(path, sizeof(path), "%s/../made-up", record);
	settle_made_up(path);
	assert_int_equal(access(scratch_path("state/made-up"), F_OK), -1);
}

/* An existing file does not decide anything either. */
static void test_none_is_read_elsewhere(void **state)
{
	char path[PATH_MAX];
	FILE *file;

	strcpy(path, scratch_path("there"));
	file = fopen(path, "w");
	assert_non_null(file);
	fputs("commit\n", file);
	fclose(file);
	settle_made_up(path);
}

static void test_one_is_made_in_its_place(void **state)
{
	struct error_text error = { "" };

	unlink(record);
	prepare("s");
	open_again();
	assert_int_equal(cow_prepared_settle(store, &error), 0);
	assert_int_equal(access(record, F_OK), 0);
	assert_int_equal(cow_decision_commit(record, &error), -ECANCELED);
}

static void test_no_other_is_taken(void **state)
{
	struct error_text error = { "" };
	const char *bad[] = { "/decision", RANDOM_NAME, scratch_path(RANDOM_NAME), scratch_path("state/groups"),
		scratch_path("state/groups/"), scratch_path("state/groups/0123") };

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(cow_snapshot_prepare(store, "s", NULL, bad[i], &error), -EINVAL);
	strcat(record, ".owner");
	assert_true(cow_decision_valid(record));
	strcat(record, "/x");
	assert_false(cow_decision_valid(record));
}

/* One that is settled in memory is not settled until that is durable: before, its record must not be removed. */
static void test_settled_when_durable(void **state)
{
	prepare("s");
	assert_int_equal(cow_version_drop(store, cow_version_by_name(store, "s")), 0);
	assert_int_equal(cow_prepared_count(store), 1);
	assert_int_equal(cow_flush(store), 0);
	assert_int_equal(cow_prepared_count(store), 0);
	assert_null(cow_prepared_next(store));
}

/* A file would be created for each. */
static void test_not_too_many(void **state)
{
	struct error_text error = { "" };
	char name[16];
	unsigned i;

	for (i = 0; i < COW_PREPARED_MAX; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		prepare(name);
		assert_int_equal(cow_checkpoint(store), 0);
	}
	assert_int_equal(cow_snapshot_prepare(store, "more", NULL, record, &error), -EBUSY);
	assert_int_equal(cow_snapshot_create(store, "more", NULL, &error), 0);
	decided_by(cow_version_by_name(store, "more"), record);
	open_again();
	assert_int_equal(cow_prepared_settle(store, &error), -EUCLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_none_is_made_elsewhere, setup, teardown),
		cmocka_unit_test_setup_teardown(test_none_is_read_elsewhere, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_is_made_in_its_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_other_is_taken, setup, teardown),
		cmocka_unit_test_setup_teardown(test_settled_when_durable, setup, teardown),
		cmocka_unit_test_setup_teardown(test_not_too_many, setup, teardown),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
