/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_damage.c - damaged stores. Opening or checking finds a flipped bit
 * in live metadata; in one of two superblocks it does no harm. A crafted store
 * with right checksums may be refused or not, but crashes nothing.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "cow_internal.h"
#include "cow_model.h"

#define STORE_BYTES (3u << 20)
#define SECTORS 4200
#define TWO_PAGES (((uint64_t)COW_PAGE_BITS + 512) << COW_SHIFT)	/* bytes of a store whose bitmap has two */
#define LARGE_BLOCKS (2u + 2 + 3)	/* that store's copies of the superblock, table, and bitmap with a node above the pages */

static struct sim sim;
static struct model *model;
static uint8_t *pristine;

static uint8_t *block_at(uint64_t block)
{
	return sim.now + (block << COW_SHIFT);
}

static unsigned nodes_read, nodes_most = UINT32_MAX;	/* this many are allowed */

int __real_cow_node_get(struct cow_store *store, const struct cow_ref *ref, unsigned level, void *bytes);
int __wrap_cow_node_get(struct cow_store *store, const struct cow_ref *ref, unsigned level, void *bytes);

int __wrap_cow_node_get(struct cow_store *store, const struct cow_ref *ref, unsigned level, void *bytes)
{
	return ++nodes_read > nodes_most ? -EIO : __real_cow_node_get(store, ref, level, bytes);
}

/* A small store with two snapshots, closed; its bytes are kept. */
static int setup(void **state)
{
	pristine = malloc(STORE_BYTES);
	assert_non_null(pristine);
	sim_init(&sim, STORE_BYTES, 0, 1);
	model = model_new(&sim, 1, SECTORS, false);
	assert_int_equal(model_open(model), 0);
	model_write(model, 80, 40);
	model_write(model, 4150, 40);
	assert_int_equal(model_snapshot(model, "one"), 0);
	model_write(model, 96, 8);
	model_write(model, 4150, 30);
	assert_int_equal(model_snapshot(model, "two"), 0);
	model_write(model, 800, 24);
	assert_int_equal(cow_close(model->store), 0);
	model->store = NULL;
	memcpy(pristine, sim.now, STORE_BYTES);
	return 0;
}

static int teardown(void **state)
{
	model_end(model);
	free(pristine);
	return 0;
}

/* A snapshot with the longest description, so that a few fill a block of the table. */
static void snapshot_described(const char *name)
{
	char text[16 + COW_DESCRIPTION_MAX + 1];

	assert_int_equal(model_snapshot(model, name), 0);
	snprintf(text, sizeof(text), "%s%0*d", name, (int)COW_DESCRIPTION_MAX, 0);
	assert_int_equal(cow_version_set_text(cow_version_by_name(model->store, name), text, strlen(name),
					      COW_DESCRIPTION_MAX, 0), 0);
}

/* The same on a base, with a table of two blocks and a bitmap of two pages; its bytes are not kept. */
static int setup_large(void **state)
{
	pristine = NULL;
	sim_init(&sim, TWO_PAGES, 0, 1);
	model = model_new(&sim, 2, SECTORS, true);
	assert_int_equal(model_open(model), 0);
	model_write(model, 80, 40);
	model_write(model, 4150, 8);
	snapshot_described("one");
	snapshot_described("two");
	model->store->alloc.at_page = 1;
	model->store->alloc.at_bit = 0;
	model_write(model, 4100, 40);
	model_discard(model, 800, 16, false);
	snapshot_described("three");
	snapshot_described("four");
	model_write(model, 96, 8);
	assert_int_equal(cow_checkpoint(model->store), 0);
	assert_int_equal(model->store->table_blocks.count, 2);
	assert_int_equal(model->store->alloc.pages, 2);
	assert_int_equal(cow_close(model->store), 0);
	model->store = NULL;
	return 0;
}

static int open_read_only(struct error_text *error)
{
	struct cow_open_options options = { .read_only = true, .cache_bytes = 1, .base = model->base };
	int ret;

	error->text[0] = 0;
	ret = cow_open(&model->store, &sim.device, &options, error);
	if (ret)
		model->store = NULL;
	return ret;
}

static void let_go(void)
{
	if (model->store)
		cow_abandon(model->store);
	model->store = NULL;
}

static size_t bitmap_blocks(uint64_t *block)
{
	const struct cow_alloc *alloc = &model->store->alloc;
	size_t n = 0, i;

	for (i = 0; i < alloc->pages; i++) {
		assert_true(alloc->page[i].ref.where);
		block[n++] = cow_entry_block(alloc->page[i].ref.where);
	}
	if (alloc->levels > 1)
		block[n++] = cow_entry_block(model->store->sb.bitmap.where);
	return n;
}

/* The metadata blocks in use, according to the undamaged store. */
static size_t live_blocks(uint64_t *block, size_t room)
{
	struct cow_ref ref, *node;
	struct cow_version *version;
	struct error_text error;
	size_t n = 0, i;

	assert_int_equal(open_read_only(&error), 0);
	block[n++] = 0;
	block[n++] = COW_COPY_BLOCK;
	for (i = 0; i < model->store->table_blocks.count; i++)
		block[n++] = model->store->table_blocks.item[i];
	n += bitmap_blocks(block + n);
	for (version = model->store->versions; version; version = version->next) {
		assert_int_equal(version->levels, 2);
		block[n++] = cow_entry_block(version->root.where);
		node = (struct cow_ref *)block_at(cow_entry_block(version->root.where));
		for (i = 0; i < COW_NODE_REFS; i++) {
			ref = node[i];
			if (ref.where)
				block[n++] = cow_entry_block(ref.where);
			assert_true(n < room);
		}
	}
	let_go();
	return n;
}

/* True when the damage was noticed. @copy: it is in a copy of the superblock, and in nothing else. */
static bool noticed(bool copy)
{
	struct cow_check check = { 0 };
	struct error_text error;

	if (open_read_only(&error)) {
		assert_true(error.text[0] && !strchr(error.text, '\n'));
		return true;
	}
	assert_int_equal(cow_check(model->store, &check, false), 0);
	if (copy)
		return check.copies == 1 && !check.errors && !check.leaks;
	assert_int_equal(check.copies, 0);
	return check.errors || check.leaks;
}

/* As a crash leaves it while a base with a long name is recorded: a copy with such a change may be right. */
static bool may_be_right(bool copy, uint64_t at)
{
	return copy && (at == 512 || at == 1024);
}

static void flip(uint64_t block, uint64_t at, uint8_t bits, bool copy)
{
	bool found;

	block_at(block)[at] ^= bits;
	found = noticed(copy);
	if (!found && !may_be_right(copy, at))
		fail_msg("byte %llu of block %llu, bits %x: not noticed", (unsigned long long)at, (unsigned long long)block, bits);
	if (copy && at % 64 == 0 && found)
		model_verify(model);
	let_go();
	block_at(block)[at] ^= bits;
}

/* Of each of the @n blocks. Either one bit of a byte or, in every other one, all of them; with @both each in turn. */
static void flip_every_byte(const uint64_t *block, size_t n, bool both)
{
	uint64_t at;
	size_t i;
	bool copy;

	for (i = 0; i < n; i++) {
		copy = !block[i] || block[i] == COW_COPY_BLOCK;
		for (at = 0; at < COW_BLOCK; at++) {
			if (both || at % 2)
				flip(block[i], at, 0xff, copy);
			if (both || at % 2 == 0)
				flip(block[i], at, 1u << at / 2 % 8, copy);
		}
	}
	print_message("# %zu blocks of metadata\n", n);
}

static void test_every_byte_flipped(void **state)
{
	uint64_t block[64];
	size_t n = live_blocks(block, 60);

	flip_every_byte(block, n, true);
}

/* Its superblocks, table and bitmap: the trees are like those of the other store. */
static void test_every_byte_flipped_on_a_base(void **state)
{
	uint64_t block[64];
	size_t n = live_blocks(block, 60);

	assert_true(n > LARGE_BLOCKS);
	flip_every_byte(block, LARGE_BLOCKS, false);
}

/* Corrects the checksums, from the leaves up. */
static void repair_node(struct cow_ref *ref, unsigned level)
{
	uint64_t block = cow_entry_block(ref->where);
	unsigned i;

	if (!block || block >= STORE_BYTES >> COW_SHIFT || level > 3)
		return;
	for (i = 0; level > 1 && i < COW_NODE_REFS; i++)
		repair_node((struct cow_ref *)block_at(block) + i, level - 1);
	ref->crc = cow_crc(0, block_at(block), COW_BLOCK);
}

static void repair_table(struct cow_ref *ref, unsigned depth)
{
	uint64_t block = cow_entry_block(ref->where);
	struct cow_table_header *header = (void *)block_at(block);
	struct cow_version_record *record;
	size_t at = sizeof(*header);
	uint32_t i;

	if (!block || block >= STORE_BYTES >> COW_SHIFT || depth > 3)
		return;
	for (i = 0; i < header->count && at + sizeof(*record) <= COW_BLOCK; i++) {
		record = (void *)(block_at(block) + at);
		repair_node(&record->map, record->map_levels);
		at += sizeof(*record) + ((record->name_length + record->description_length + 7) & ~7u);
	}
	repair_table(&header->next, depth + 1);
	ref->crc = cow_crc(0, block_at(block), COW_BLOCK);
}

static void repair_store(void)
{
	struct cow_superblock *sb = (void *)block_at(0), *other = (void *)block_at(COW_COPY_BLOCK);

	if (other->sequence > sb->sequence)
		*sb = *other;
	repair_table(&sb->versions, 0);
	repair_node(&sb->bitmap, 1);
	sb->crc = 0;
	sb->crc = cow_crc(0, sb, sizeof(*sb));
	*other = *sb;
}

static void use(bool read_only)
{
	struct cow_open_options options = { .read_only = read_only, .cache_bytes = 1 };
	static uint8_t data[64 * 512];
	struct cow_check check = { 0 };
	struct error_text error = { "" };
	uint64_t sector;
	unsigned i;

	if (cow_open(&model->store, &sim.device, &options, &error)) {
		assert_true(error.text[0] && !strchr(error.text, '\n'));
		model->store = NULL;
		return;
	}
	cow_check(model->store, &check, !read_only);
	for (sector = 0; sector < SECTORS; sector += 60) {
		cow_read(model->store, data, sector, 60);
		cow_snapshot_read(model->store, "one", data, sector, 60);
		cow_write(model->store, data, sector, 60);
	}
	cow_snapshot_create(model->store, "new", NULL, &error);
	cow_discard(model->store, 0, 400);
	cow_snapshot_revert(model->store, "one", &error);
	cow_snapshot_delete(model->store, "two", &error);
	for (i = 0; i < 10 && cow_delete_step(model->store) > 0; i++)
		;
	cow_close(model->store);
	model->store = NULL;
}

static void test_made_up_stores(void **state)
{
	uint64_t block[64], first = model_first_seed(1), seed, random, at, value, changes;
	size_t n = live_blocks(block, 60);
	unsigned width;

	for (seed = first; seed < first + model_seeds(3000); seed++) {
		random = seed * 2654435761u | 1;
		memcpy(sim.now, pristine, STORE_BYTES);
		memcpy(sim.durable, pristine, STORE_BYTES);
		for (changes = sim_random(&random) % 3 + 1; changes; changes--) {
			width = 1u << sim_random(&random) % 4;
			at = sim_random(&random) % (sim_random(&random) % 2 ? 256 : COW_BLOCK) / width * width;
			value = sim_random(&random) % 3 ? sim_random(&random) % 1024 : sim_random(&random) << 20;
			memcpy(block_at(block[sim_random(&random) % n]) + at, &value, width);
		}
		repair_store();
		model_seed = seed;
		use(seed % 2);
	}
}

/* In the table of versions, which has one block. */
static struct cow_version_record *record_of(const char *name)
{
	struct cow_superblock *sb = (void *)block_at(0);
	uint8_t *bytes = block_at(cow_entry_block(sb->versions.where)), *at;

	for (at = bytes + sizeof(struct cow_table_header); at < bytes + COW_BLOCK; at += 8) {
		if (!memcmp(at + sizeof(struct cow_version_record), name, strlen(name)) &&
		    ((struct cow_version_record *)at)->name_length == strlen(name))
			return (void *)at;
	}
	return NULL;
}

/* Each place below the root holds the same node, down to some that are empty. */
static void make_up_tree(struct cow_version_record *record)
{
	struct cow_ref ref = { 0 };
	uint64_t block = STORE_BYTES >> COW_SHIFT;
	struct cow_ref *node;
	unsigned level, i;

	for (level = 2; level <= COW_MAX_LEVELS; level++) {
		node = (struct cow_ref *)block_at(--block);
		for (i = 0; i < COW_NODE_REFS; i++)
			node[i] = ref;
		ref = (struct cow_ref){ .where = cow_entry(block, record->generation), .crc = cow_crc(0, node, COW_BLOCK) };
	}
	record->map = ref;
	record->map_levels = COW_MAX_LEVELS;
}

/* A device whose punch does nothing. */
static int punch_nothing(struct cow_device *device, uint64_t offset, uint64_t length)
{
	return 0;
}

#define STEP_MOST 5000u			/* the nodes that a step looks at: a few hundred, and their parents in three versions */

/* A deletion ends soon in a tree that has the same few nodes everywhere, and no step takes long. */
static void test_tree_of_the_same_nodes(void **state)
{
	struct cow_device_ops ops = *sim.device.ops;
	struct error_text error = { "" };
	unsigned steps = 0;

	ops.punch = punch_nothing;
	sim.device.ops = &ops;
	make_up_tree(record_of("two"));
	repair_store();
	assert_int_equal(cow_open(&model->store, &sim.device, &(struct cow_open_options){ 0 }, &error), 0);
	assert_int_equal(cow_snapshot_delete(model->store, "two", &error), 0);
	nodes_most = STEP_MOST;
	do
		nodes_read = 0;
	while (cow_delete_step(model->store) == 1 && ++steps < 100);
	assert_in_range(nodes_read, 0, STEP_MOST);
	assert_in_range(steps, 0, 99);
	nodes_most = UINT32_MAX;
	let_go();
}

static void test_refusals(void **state)
{
	struct cow_superblock *sb = (void *)block_at(0), *other = (void *)block_at(COW_COPY_BLOCK);
	struct error_text error;

	sb->incompatible = 4;
	other->sequence = 0;
	repair_store();
	assert_int_equal(open_read_only(&error), -ENOTSUP);
	memcpy(sim.now, pristine, STORE_BYTES);
	sb->version = 2;
	other->sequence = 0;
	repair_store();
	assert_int_equal(open_read_only(&error), -ENOTSUP);
	memcpy(sim.now, pristine, STORE_BYTES);
	sim.size -= COW_BLOCK;
	assert_int_equal(open_read_only(&error), -EUCLEAN);
	assert_non_null(strstr(error.text, "cut short"));
	sim.size += COW_BLOCK;
	sb->read_only_compatible = 1;
	other->sequence = 0;
	repair_store();
	assert_int_equal(open_read_only(&error), 0);
	let_go();
	assert_int_equal(cow_open(&model->store, &sim.device, &(struct cow_open_options){ 0 }, &error), -EROFS);
	model->store = NULL;
	memset(sim.now, 0, COW_BLOCK);
	memset(block_at(COW_COPY_BLOCK), 0, COW_BLOCK);
	error.text[0] = 0;
	assert_int_equal(open_read_only(&error), -EUCLEAN);
	assert_non_null(strstr(error.text, "not a cow store"));
}

/* The record of a base has to be consistent; its checksum is right each time. */
static void test_base_fields(void **state)
{
	static const struct { uint32_t kind, version, flags; const char *target; uint64_t sectors; int ret; } bases[] = {
		{ COW_BASE_NONE, 0, 0, "", 0, 0 }, { COW_BASE_RAW, 0, 0, "aio:/base", 8, -ENODEV },
		{ COW_BASE_RAW, 0, COW_BASE_COMMITTING, "aio:/base", 8, -ENODEV },
		{ COW_BASE_COW, 3, 0, "cow:/base@one", 8, -ENODEV }, { COW_BASE_COW, 0, 0, "cow:/base@one", 8, -EUCLEAN },
		{ COW_BASE_RAW, 3, 0, "aio:/base", 8, -EUCLEAN }, { COW_BASE_RAW, 0, 0, "", 8, -EUCLEAN },
		{ COW_BASE_RAW, 0, COW_BASE_COMMITTED, "aio:/base", 8, -ESTALE },
		{ COW_BASE_RAW, 0, 4, "aio:/base", 8, -EUCLEAN },
		{ COW_BASE_COW, 3, COW_BASE_COMMITTING, "cow:/base@one", 8, -EUCLEAN },
		{ COW_BASE_NONE, 0, 0, "aio:/base", 0, -EUCLEAN }, { COW_BASE_NONE, 0, 0, "", 8, -EUCLEAN },
		{ COW_BASE_NONE, 0, COW_BASE_COMMITTING, "", 0, -EUCLEAN }, { COW_BASE_NONE, 3, 0, "", 0, -EUCLEAN },
		{ 3, 0, 0, "aio:/base", 8, -EUCLEAN }, { COW_BASE_RAW, 0, 0, "aio:/base", 1ull << 60, -EUCLEAN },
	};
	struct cow_superblock *sb = (void *)block_at(0);
	struct error_text error;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bases); i++) {
		sb->base_kind = bases[i].kind;
		sb->base = (struct cow_base_fields){ .version = bases[i].version, .flags = bases[i].flags,
			.sectors = bases[i].sectors };
		strcpy(sb->base.target, bases[i].target);
		((struct cow_superblock *)block_at(COW_COPY_BLOCK))->sequence = 0;
		repair_store();
		if (open_read_only(&error) != bases[i].ret)
			fail_msg("base %zu: %s", i, error.text);
		let_go();
	}
}

static void open_to_write(void)
{
	struct error_text error = { "" };

	if (cow_open(&model->store, &sim.device, &(struct cow_open_options){ 0 }, &error))
		fail_msg("%s", error.text);
}

/* A checkpoint with snapshot "two", named @name and described by @description. */
static void text_put(const char *name, const char *description)
{
	char text[200];

	open_to_write();
	snprintf(text, sizeof(text), "%s%s", name, description);
	assert_int_equal(cow_version_set_text(cow_version_by_name(model->store, "two"), text, strlen(name),
					      strlen(description), 0), 0);
	assert_int_equal(cow_close(model->store), 0);
	model->store = NULL;
}

static int description_is(void *owner, const struct snapshot_info *info)
{
	if (!strcmp(info->name, "two"))
		assert_string_equal(info->description, owner);
	return 0;
}

/* Older versions accepted such descriptions: the snapshots are listed, and can be deleted and reverted to. */
static void test_descriptions(void **state)
{
	static const struct { const char *kept, *shown; } texts[] = {
		{ "caf\xc3\xa9 \xf0\x9f\x90\x84", "caf\xc3\xa9 \xf0\x9f\x90\x84" }, { "caf\xe9", "caf?" }, { "\xff\xfe", "??" },
		{ "\xc0\x80", "??" }, { "\xe0\x80\x80", "???" }, { "\xed\xa0\x80", "???" }, { "\xf4\x90\x80\x80", "????" },
		{ "\xf0\x80\x80\x80", "????" }, { "\xe2\x82", "??" }, { "\x1b[2J\n", "?[2J?" }, { "\xe2\x82x\xe2\x82\xac", "??x\xe2\x82\xac" },
	};
	struct error_text error = { "" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(texts); i++) {
		text_put("two", texts[i].kept);
		open_to_write();
		assert_int_equal(cow_snapshot_list(model->store, description_is, (void *)texts[i].shown), 0);
		assert_int_equal(cow_snapshot_check_new(model->store, "new", texts[i].kept, &error),
				 strcmp(texts[i].kept, texts[i].shown) ? -EINVAL : 0);
		let_go();
	}
	open_to_write();
	assert_int_equal(cow_snapshot_revert(model->store, "two", &error), 0);
	assert_int_equal(cow_snapshot_delete(model->store, "two", &error), 0);
	let_go();
}

/* Names appear in messages, in JSON and on terminals, and no version has accepted such a name. */
static void test_names(void **state)
{
	struct error_text error = { "" };

	text_put("a b", "");
	assert_int_equal(open_read_only(&error), -EUCLEAN);
	memcpy(sim.now, pristine, STORE_BYTES);
	text_put("caf\xe9", "");
	assert_int_equal(open_read_only(&error), -EUCLEAN);
	memcpy(sim.now, pristine, STORE_BYTES);
	open_to_write();
	assert_int_equal(cow_version_prepare(model->store, "caf\xe9", NULL, NULL, &error), 0);
	assert_int_equal(cow_flush(model->store), 0);
	let_go();
	assert_int_equal(open_read_only(&error), -EUCLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_byte_flipped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_byte_flipped_on_a_base, setup_large, teardown),
		cmocka_unit_test_setup_teardown(test_made_up_stores, setup, teardown),
		cmocka_unit_test_setup_teardown(test_tree_of_the_same_nodes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_base_fields, setup, teardown),
		cmocka_unit_test_setup_teardown(test_descriptions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_names, setup, teardown),
	};

	return cmocka_run_group_tests_name("cow: damage", tests, NULL, NULL);
}
