/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_replay.c - crafted logs with right checksums: a record that does not
 * fit the store's state is refused, and changes nothing.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "cow_internal.h"
#include "cow_model.h"
#include "protocol.h"

#define STORE_BYTES (3u << 20)
#define SECTORS 4096u
#define DISK_BLOCKS (SECTORS / COW_SECTORS)

static struct sim sim;
static struct cow_store *store;

static int store_open(struct error_text *error)
{
	struct cow_open_options options = { 0 };
	int ret = cow_open(&store, &sim.device, &options, error);

	if (ret)
		store = NULL;
	return ret;
}

/* Snapshots "gone", which is deleted, "one", and "undecided", which is prepared. The disk has newer blocks. */
static int setup(void **state)
{
	struct cow_create_options options = { .sectors = SECTORS, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct error_text error = { "" };
	static uint8_t data[COW_BLOCK];

	unsetenv(STATE_DIR_ENV);
	sim_init(&sim, STORE_BYTES, 0, 1);
	assert_int_equal(cow_create(&sim.device, &options, &error), 0);
	assert_int_equal(store_open(&error), 0);
	assert_int_equal(cow_write(store, data, 0, COW_SECTORS), 0);
	assert_int_equal(cow_snapshot_create(store, "gone", NULL, &error), 0);
	assert_int_equal(cow_write(store, data, 0, COW_SECTORS), 0);
	assert_int_equal(cow_snapshot_create(store, "one", NULL, &error), 0);
	assert_int_equal(cow_snapshot_prepare(store, "undecided", NULL, STATE_DIR_DEFAULT "/groups/0123456789abcdef0123456789abcdef",
					      &error), 0);
	assert_int_equal(cow_snapshot_delete(store, "gone", &error), 0);
	assert_int_equal(cow_write(store, data, 8, COW_SECTORS), 0);
	assert_int_equal(cow_flush(store), 0);
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

static uint32_t id_of(const char *name)
{
	const struct cow_version *version = store->versions;

	while (version && strcmp(version->name, name))
		version = version->next;
	assert_non_null(version);
	return version->id;
}

struct made_up {
	const char *what;
	unsigned type;
	uint32_t count;
	const void *payload;
	size_t length;
};

/* The store's own log with one more record, opened after a crash. Then the device is restored. */
static int open_with(const struct made_up *record, struct error_text *error)
{
	static uint8_t before[STORE_BYTES];
	int ret;

	error->text[0] = '\0';
	memcpy(before, sim.now, STORE_BYTES);
	assert_int_equal(cow_log_add(&store->log, record->type, record->count, record->payload, record->length, NULL, 0), 0);
	assert_int_equal(cow_log_write(store), 0);
	cow_abandon(store);
	ret = store_open(error);
	if (!ret)
		cow_abandon(store);
	store = NULL;
	sim_power_cycle_picking(&sim, NULL);
	memcpy(sim.now, before, STORE_BYTES);
	memcpy(sim.durable, before, STORE_BYTES);
	return ret;
}

static void expect(const struct made_up *records, size_t count, int expected)
{
	struct error_text error;
	size_t i;
	int ret;

	for (i = 0; i < count; i++) {
		ret = open_with(&records[i], &error);
		if (ret != expected)
			fail_msg("%s: %d %s, not %d", records[i].what, ret, error.text, expected);
		if (ret)
			assert_non_null(strstr(error.text, "its log cannot be replayed at record"));
		assert_int_equal(store_open(&error), 0);
	}
}

#define RECORD(what, type, count, payload) { what, type, count, &(payload), sizeof(payload) }
#define EXPECT(records, expected) expect(records, ARRAY_SIZE(records), expected)

static void test_map(void **state)
{
	uint64_t inside = store->store_blocks - 1, outside = store->store_blocks, meta = store->pool_start - 1;
	uint32_t now = store->generation;
	struct cow_map_element fits = { 9, cow_entry(inside, now) }, behind = { DISK_BLOCKS, cow_entry(inside, now) },
		far = { 9, cow_entry(outside, now) }, metadata = { 9, cow_entry(meta, now) },
		unborn = { 9, cow_entry(inside, now + 1) }, birthless = { 9, cow_entry(inside, 0) };
	const struct made_up good[] = { RECORD("a block", COW_RECORD_MAP, 1, fits) };
	const struct made_up bad[] = {
		RECORD("two, where there is one", COW_RECORD_MAP, 2, fits),
		{ "half an element", COW_RECORD_MAP, 0, &fits, 8 },
		RECORD("a block behind the disk's end", COW_RECORD_MAP, 1, behind),
		RECORD("a place behind the store's end", COW_RECORD_MAP, 1, far),
		RECORD("a place of the superblock or the log", COW_RECORD_MAP, 1, metadata),
		RECORD("a birth to come", COW_RECORD_MAP, 1, unborn),
		RECORD("no birth", COW_RECORD_MAP, 1, birthless),
	};

	EXPECT(good, 0);
	EXPECT(bad, -EUCLEAN);
}

static void test_snapshot(void **state)
{
	struct snapshot { struct cow_snapshot_payload fixed; char text[8]; } fits = {
		.fixed = { .id = store->active->id, .generation = store->generation, .name_length = 8 }, .text = "eightabc",
	}, other = fits, later = fits, nul = fits, longer = fits, name = fits;
	const struct made_up good[] = { RECORD("a snapshot", COW_RECORD_SNAPSHOT, 1, fits) };
	const struct made_up bad[] = {
		{ "cut short", COW_RECORD_SNAPSHOT, 1, &fits, sizeof(fits.fixed) - 1 },
		{ "without its name", COW_RECORD_SNAPSHOT, 1, &fits, sizeof(fits.fixed) },
		RECORD("of another version than the active one", COW_RECORD_SNAPSHOT, 1, other),
		RECORD("of another generation", COW_RECORD_SNAPSHOT, 1, later),
		RECORD("a name with an end in it", COW_RECORD_SNAPSHOT, 1, nul),
		RECORD("a description that is not there", COW_RECORD_SNAPSHOT, 1, longer),
		RECORD("a name that is too long", COW_RECORD_SNAPSHOT, 1, name),
	};

	other.fixed.id++;
	later.fixed.generation++;
	nul.text[3] = '\0';
	longer.fixed.description_length = 1;
	name.fixed.name_length = COW_NAME_MAX + 1;
	EXPECT(good, 0);
	EXPECT(bad, -EUCLEAN);
}

static void test_revert(void **state)
{
	struct cow_revert_payload fits = { .target = id_of("one"), .id = store->next_version, .generation = store->generation + 1 },
		id = fits, generation = fits, nobody = fits, gone = fits, itself = fits;
	const struct made_up good[] = { RECORD("to a snapshot", COW_RECORD_REVERT, 1, fits) };
	const struct made_up bad[] = {
		{ "cut short", COW_RECORD_REVERT, 1, &fits, sizeof(fits) - 4 },
		RECORD("another id", COW_RECORD_REVERT, 1, id),
		RECORD("another generation", COW_RECORD_REVERT, 1, generation),
		RECORD("to what never was", COW_RECORD_REVERT, 1, nobody),
		RECORD("to a deleted one", COW_RECORD_REVERT, 1, gone),
		RECORD("to the active one", COW_RECORD_REVERT, 1, itself),
	};

	id.id++;
	generation.generation++;
	nobody.target = store->next_version + 7;
	gone.target = id_of("gone");
	itself.target = store->active->id;
	EXPECT(good, 0);
	EXPECT(bad, -EUCLEAN);
}

static void test_delete(void **state)
{
	struct cow_delete_payload fits = { .id = id_of("one") }, nobody = { .id = store->next_version + 7 },
		gone = { .id = id_of("gone") }, active = { .id = store->active->id };
	const struct made_up good[] = { RECORD("a snapshot", COW_RECORD_DELETE, 1, fits) };
	const struct made_up bad[] = {
		{ "cut short", COW_RECORD_DELETE, 1, &fits, sizeof(fits) - 4 },
		RECORD("what never was", COW_RECORD_DELETE, 1, nobody),
		RECORD("a deleted one", COW_RECORD_DELETE, 1, gone),
		RECORD("the active one", COW_RECORD_DELETE, 1, active),
	};

	EXPECT(good, 0);
	EXPECT(bad, -EUCLEAN);
}

static void test_commit(void **state)
{
	struct cow_commit_payload fits = { .id = id_of("undecided") }, decided = { .id = id_of("one") },
		nobody = { .id = store->next_version + 7 };
	const struct made_up good[] = { RECORD("a prepared one", COW_RECORD_COMMIT, 1, fits) };
	const struct made_up bad[] = {
		{ "cut short", COW_RECORD_COMMIT, 1, &fits, sizeof(fits) - 4 },
		RECORD("what never was", COW_RECORD_COMMIT, 1, nobody),
		RECORD("one that is decided", COW_RECORD_COMMIT, 1, decided),
	};

	EXPECT(good, 0);
	EXPECT(bad, -EUCLEAN);
}

static void test_freed(void **state)
{
	struct frees { struct cow_free_payload fixed; uint64_t block; } outside = {
		.fixed = { .id = id_of("gone"), .cursor = 4 }, .block = store->store_blocks,
	}, meta = outside;
	struct cow_free_payload fits = { .id = id_of("gone"), .cursor = 4 }, living = { .id = id_of("one"), .cursor = 4 },
		nobody = { .id = store->next_version + 7 }, far = { .id = id_of("gone"), .cursor = UINT64_MAX };
	const struct made_up good[] = { RECORD("a step", COW_RECORD_FREE, 1, fits) };
	const struct made_up bad[] = {
		{ "cut short", COW_RECORD_FREE, 1, &fits, sizeof(fits) - 4 },
		{ "half a block", COW_RECORD_FREE, 1, &outside, sizeof(outside) - 4 },
		RECORD("of one that lives", COW_RECORD_FREE, 1, living),
		RECORD("of what never was", COW_RECORD_FREE, 1, nobody),
		RECORD("farther than any disk", COW_RECORD_FREE, 1, far),
		RECORD("a block behind the store's end", COW_RECORD_FREE, 1, outside),
		RECORD("a block of the superblock or the log", COW_RECORD_FREE, 1, meta),
	};

	meta.block = store->pool_start - 1;
	EXPECT(good, 0);
	EXPECT(bad, -EUCLEAN);
}

static void test_resize(void **state)
{
	struct cow_resize_payload fits = { .sectors = SECTORS + 8 }, nothing = { 0 },
		huge = { .sectors = COW_MAX_BLOCKS * COW_SECTORS + 8 }, based = { .sectors = SECTORS, .base_shows = store->active->base_shows + 1 };
	const struct made_up good[] = { RECORD("larger", COW_RECORD_RESIZE, 1, fits) };
	const struct made_up bad[] = {
		{ "cut short", COW_RECORD_RESIZE, 1, &fits, sizeof(fits) - 4 },
		RECORD("to nothing", COW_RECORD_RESIZE, 1, nothing),
		RECORD("larger than any disk", COW_RECORD_RESIZE, 1, huge),
		RECORD("more of the base than there is", COW_RECORD_RESIZE, 1, based),
	};

	EXPECT(good, 0);
	EXPECT(bad, -EUCLEAN);
}

static void test_release(void **state)
{
	uint64_t outside = store->store_blocks, meta = store->pool_start - 1;
	const struct made_up bad[] = {
		{ "half a block", COW_RECORD_RELEASE, 1, &outside, 4 },
		RECORD("a block behind the store's end", COW_RECORD_RELEASE, 1, outside),
		RECORD("a block of the superblock or the log", COW_RECORD_RELEASE, 1, meta),
		RECORD("of no kind that there is", COW_RECORD_COMMIT + 1, 1, outside),
	};

	EXPECT(bad, -EUCLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_map, setup, teardown),
		cmocka_unit_test_setup_teardown(test_snapshot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_revert, setup, teardown),
		cmocka_unit_test_setup_teardown(test_delete, setup, teardown),
		cmocka_unit_test_setup_teardown(test_commit, setup, teardown),
		cmocka_unit_test_setup_teardown(test_freed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_resize, setup, teardown),
		cmocka_unit_test_setup_teardown(test_release, setup, teardown),
	};

	return cmocka_run_group_tests_name("cow: made-up logs", tests, NULL, NULL);
}
