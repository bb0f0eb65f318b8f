/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_cow_rules.c - rules that a naive implementation of this store would
 * break, one test each, at the exact point. (test_cow_crash.c meets most of
 * them at random, too.)
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "array.h"
#include "cow_internal.h"
#include "cow_model.h"

#define STORE_BYTES (20u << 20)

struct rule_state {
	struct sim sim;
	struct model model;
};

static int setup(void **state)
{
	struct rule_state *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	sim_init(&s->sim, STORE_BYTES, 0, 1);
	model_init(&s->model, &s->sim, 1, MODEL_SECTORS, false);
	assert_int_equal(model_open(&s->model), 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct rule_state *s = *state;

	model_free(&s->model);
	sim_free(&s->sim);
	free(s);
	return 0;
}

static bool keep_all(const struct sim_write *write)
{
	return true;
}

static bool keep_none(const struct sim_write *write)
{
	return false;
}

static bool keep_superblocks(const struct sim_write *write)
{
	return write->offset == 0 || write->offset == COW_COPY_BLOCK << COW_SHIFT;
}

static void reopen(struct model *model)
{
	cow_abandon(model->store);
	model->store = NULL;
	assert_int_equal(model_open(model), 0);
}

static void crash(struct model *model, bool (*keeps)(const struct sim_write *write))
{
	cow_abandon(model->store);
	model->store = NULL;
	sim_power_cycle_picking(model->sim, keeps);
	assert_int_equal(model_open(model), 0);
	model_verify_crashed(model);
	model_check(model);
}

/* 1. S, then T, revert to S, delete S: the blocks that T and the disk share must not be overwritten in place. */
static void test_branch_points_stay(void **state)
{
	struct model *model = &((struct rule_state *)*state)->model;

	model_write(model, 80, 16);
	assert_int_equal(model_snapshot(model, "S"), 0);
	model_write(model, 800, 16);
	assert_int_equal(model_snapshot(model, "T"), 0);
	assert_int_equal(model_revert(model, "S"), 0);
	model_finish_deletions(model);
	assert_int_equal(model_delete(model, "S"), 0);
	model_finish_deletions(model);
	model_write(model, 80, 16);
	model_verify(model);
	model_check(model);
	assert_int_equal(model_delete(model, "T"), 0);
	model_finish_deletions(model);
	model_write(model, 80, 16);
	model_verify(model);
	model_check(model);
	assert_null(cow_delete_next(model->store));
	assert_int_equal(model->store->version_count, 1);
}

static uint64_t log_place(const struct model *model)
{
	return model->store->log.start + model->store->log.head % model->store->log.size;
}

/*
 * 2. A crash loses record n + 1 and keeps n + 2. After a reopen, a record identical to n + 1 is
 * written. The old n + 2 must not count.
 */
static void test_log_is_salted(void **state)
{
	struct sim *sim = &((struct rule_state *)*state)->sim;
	struct model *model = &((struct rule_state *)*state)->model;
	uint8_t old[2][COW_BLOCK];
	uint64_t place, salt, sequence, tail;
	uint32_t chain;

	assert_int_equal(model_flush(model), 0);
	salt = model->store->log.salt;
	sequence = model->store->log.sequence;
	chain = model->store->log.chain;
	tail = model->store->log.head;
	place = log_place(model);
	model_write(model, 80, 8);
	assert_int_equal(model_flush(model), 0);
	model_write(model, 160, 8);
	assert_int_equal(model_flush(model), 0);
	memcpy(old, sim->durable + place, sizeof(old));
	memset(sim->durable + place, 0, COW_BLOCK);
	memset(sim->now + place, 0, COW_BLOCK);
	reopen(model);

	/* The log continues at its old end, with the same predecessor. */
	assert_int_equal(model->store->log.head, tail);
	assert_int_equal(model->store->log.sequence, sequence);
	assert_int_equal(model->store->log.chain, chain);
	assert_int_not_equal(model->store->log.salt, salt);
	assert_int_equal(cow_log_add(&model->store->log, COW_RECORD_MAP, 1, old[0] + sizeof(struct cow_record), 16, NULL, 0), 0);
	assert_int_equal(cow_log_write(model->store), 0);
	assert_memory_equal(sim->durable + place + COW_BLOCK, old[1], COW_BLOCK);
	reopen(model);
	assert_int_equal(model->store->log.sequence, sequence + 1);
}

/* 2. A record must not count either if its predecessor is not the record before it. */
static void test_log_is_chained(void **state)
{
	struct model *model = &((struct rule_state *)*state)->model;
	struct cow_map_element dropped = { 20, 0 };
	struct cow_log *log = &model->store->log;
	uint64_t head = log->head, sequence = log->sequence;
	uint32_t chain = log->chain;

	model_write(model, 80, 8);
	assert_int_equal(model_flush(model), 0);
	model_write(model, 160, 8);
	assert_int_equal(model_flush(model), 0);
	assert_int_equal(log->sequence, sequence + 2);
	log->head = head;
	log->sequence = sequence;
	log->chain = chain;
	assert_int_equal(cow_log_add(log, COW_RECORD_MAP, 1, &dropped, sizeof(dropped), NULL, 0), 0);
	assert_int_equal(cow_log_write(model->store), 0);
	reopen(model);
	assert_int_equal(model->store->log.sequence, sequence + 1);
}

static void write_during_sync(void *owner)
{
	struct model *model = owner;

	model->sim->on_sync = NULL;
	model_write(model, 800, 8);
	/* The block that is being logged gets another place meanwhile. */
	model_discard(model, 80, 8, false);
	model_write(model, 80, 8);
}

/* 3. A write that completes while the sync is running is not covered by it, and that flush must not log it. */
static void test_log_after_data_exactly(void **state)
{
	struct model *model = &((struct rule_state *)*state)->model;

	model_write(model, 80, 8);
	model_write(model, 800, 8);
	assert_int_equal(model_snapshot(model, "S"), 0);
	model_write(model, 80, 8);
	model->sim->on_sync = write_during_sync;
	model->sim->on_sync_owner = model;
	assert_int_equal(cow_flush(model->store), 0);
	crash(model, keep_none);
}

/* 4. A crash loses the deletion. Until it is durable, nothing that the snapshot holds may be overwritten. */
static void test_deletion_is_durable_first(void **state)
{
	struct rule_state *s = *state;
	struct error_text error = { "" };
	uint8_t data[8 * 512] = { 0 };

	model_write(&s->model, 80, 16);
	assert_int_equal(model_snapshot(&s->model, "S"), 0);
	s->sim.fail_syncs_only = true;
	s->sim.fail_error = -EIO;
	s->sim.fail_at = s->sim.calls + 1;
	assert_int_equal(cow_snapshot_delete(s->model.store, "S", &error), -EIO);
	s->sim.fail_at = 0;
	/* the store has failed and refuses writes; one that came at the same time is past that check */
	s->model.store->failed = 0;
	assert_int_equal(cow_write(s->model.store, data, 80, 8), 0);
	s->model.nr_later = 0;
	cow_abandon(s->model.store);
	sim_power_cycle_picking(&s->sim, keep_all);
	assert_int_equal(model_open(&s->model), 0);
	s->model.active = s->model.stable;
	model_verify(&s->model);
	model_check(&s->model);
}

/* 5. The disk releases a block that a running deletion has passed, and one that it has not reached yet. */
static void test_nobody_frees_twice(void **state)
{
	struct model *model = &((struct rule_state *)*state)->model;
	struct cow_free_payload step = { .cursor = 512 };
	uint64_t sector;

	for (sector = 0; sector < MODEL_SECTORS; sector += 40)
		model_write(model, sector, 40);
	assert_int_equal(model_snapshot(model, "S"), 0);
	assert_int_equal(model_delete(model, "S"), 0);
	assert_int_equal(cow_checkpoint(model->store), 0);
	/* As a deletion's step that has done the first leaf, and found nothing to free there. */
	step.id = model->store->versions->id;
	assert_int_equal(cow_event_add(model->store, model->store->active, COW_RECORD_FREE, 0, &step, sizeof(step)), 0);
	assert_int_equal(model_flush(model), 0);
	assert_int_equal(model->store->versions->cursor, 512);
	model_discard(model, 8 * 10, 8, false);
	model_discard(model, 8 * 600, 8, false);
	assert_int_equal(model_flush(model), 0);
	model_check(model);
	/* If the second block was freed already, it is allocated again, and then freed although it is in use. */
	model->store->alloc.at_bit = 0;
	model_write(model, 8 * 10, 8);
	model_write(model, 8 * 20, 40);
	model_discard(model, 8 * 700, 40, false);
	model_write(model, 8 * 700, 40);
	assert_int_equal(model_flush(model), 0);
	crash(model, keep_all);
	model_finish_deletions(model);
	model_verify(model);
	model_check(model);
}

/* 6. Freed is not free: until the freeing is durable, a crash can bring back the old owner. */
static void test_freed_is_not_free(void **state)
{
	struct model *model = &((struct rule_state *)*state)->model;
	uint64_t sector, i;

	for (sector = 0; sector < 4000; sector += 40)
		model_write(model, sector, 40);
	assert_int_equal(model_flush(model), 0);
	for (i = 0; i < 20; i++) {
		model_discard(model, 0, MODEL_SECTORS, false);
		for (sector = 0; sector < 4000; sector += 40)
			model_write(model, sector, 40);
		model->store->alloc.at_bit = 0;		/* allocates low numbers again */
		if (i % 5 == 4)
			crash(model, keep_all);
	}
}

/* 6. Map nodes: an old superblock must find every node that it names. For each place to allocate from, and each cut. */
static void test_nodes_outlive_superblocks(void **state)
{
	struct rule_state *s = *state;
	bool (*const keeps[])(const struct sim_write *write) = { keep_all, keep_none, keep_superblocks };
	uint64_t cut, place;
	int ret;

	model_write(&s->model, 80, 16);
	assert_int_equal(model_flush(&s->model), 0);
	for (place = 0; place < 3 * 40; place++) {
		for (cut = 1, ret = -EIO; ret; cut++) {
			model_write(&s->model, 80 + cut * 8, 16);
			assert_int_equal(model_flush(&s->model), 0);
			s->model.store->alloc.at_bit = s->model.store->pool_start + place / 3;
			s->sim.steps = 0;
			s->sim.cut = cut;
			ret = cow_checkpoint(s->model.store);
			crash(&s->model, keeps[place % 3]);
		}
		assert_true(cut > 8);
	}
}

static bool keep_one_superblock(const struct sim_write *write)
{
	return write->offset != 0;
}

static bool keep_other_superblock(const struct sim_write *write)
{
	return write->offset != COW_COPY_BLOCK << COW_SHIFT;
}

static bool keep_but_superblocks(const struct sim_write *write)
{
	return !keep_superblocks(write);
}

/* After a power cut in cow_create() there is the old store unchanged, the new one, or none. True: the new one. */
static bool old_new_or_none(struct model *model, const uint8_t uuid[16])
{
	struct cow_open_options options = { 0 };
	struct error_text error = { "" };
	struct cow_check check = { 0 };
	struct cow_store *store;
	bool is_old;

	if (cow_open(&store, &model->sim->device, &options, &error))
		return false;
	is_old = !memcmp(store->sb.uuid, uuid, 16);
	if (is_old) {
		model->store = store;
		model_verify_crashed(model);
		model_check(model);
		model->store = NULL;
	} else {
		assert_int_equal(cow_check(store, &check, false), 0);
		assert_int_equal(check.errors, 0);
		assert_int_equal(store->active->sectors, 800);
	}
	cow_abandon(store);
	return !is_old;
}

/*
 * 6. A store is made on a device that holds another one: both old superblocks are erased before
 * anything else is written.
 */
static void test_create_wipes_first(void **state)
{
	bool (*const keeps[])(const struct sim_write *write) = { keep_all, keep_none, keep_superblocks, keep_one_superblock,
		keep_other_superblock, keep_but_superblocks };
	struct cow_create_options options = { .sectors = 800, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct error_text error = { "" };
	struct rule_state *s;
	uint8_t uuid[16];
	uint64_t cut;
	void *one;
	int ret;

	for (unsigned i = 0; i < ARRAY_SIZE(keeps); i++) {
		for (cut = 1, ret = -EIO; ret; cut++) {
			assert_int_equal(setup(&one), 0);
			s = one;
			model_write(&s->model, 80, 16);
			assert_int_equal(model_flush(&s->model), 0);
			memcpy(uuid, s->model.store->sb.uuid, sizeof(uuid));
			cow_abandon(s->model.store);
			s->model.store = NULL;
			s->sim.steps = 0;
			s->sim.cut = cut;
			ret = cow_create(&s->sim.device, &options, &error);
			sim_power_cycle_picking(&s->sim, keeps[i]);
			assert_true(old_new_or_none(&s->model, uuid) || ret);
			assert_int_equal(teardown(&one), 0);
		}
		assert_true(cut > 8);
	}
}

/* 6. After a checkpoint each copy of the superblock works, whatever has been reused since. */
static void test_either_superblock(void **state)
{
	struct rule_state *s = *state;
	struct model *model = &s->model;
	unsigned i;

	for (i = 0; i < 12; i++) {
		model_write(model, 80 + i * 400, 40);
		assert_int_equal(cow_checkpoint(model->store), 0);
		model->store->alloc.at_bit = 0;
		model_write(model, 120 + i * 400, 40);
		assert_int_equal(model_flush(model), 0);
		memset(s->sim.durable + (i % 2 ? COW_COPY_BLOCK << COW_SHIFT : 0), 0x55, 512);
		memset(s->sim.now + (i % 2 ? COW_COPY_BLOCK << COW_SHIFT : 0), 0x55, 512);
		reopen(model);
		model_verify(model);
		model_check(model);
	}
}

/* 7. Shrinking and growing again, and discarding, must not let the base show through; a snapshot keeps its size. */
static void test_size_history(void **state)
{
	struct sim sim;
	struct model *model;
	struct error_text error = { "" };
	struct cow_info info;
	uint64_t i;

	sim_init(&sim, STORE_BYTES, 0, 2);
	model = model_new(&sim, 2, 3000, true);
	assert_int_equal(model_open(model), 0);
	assert_int_equal(model_snapshot(model, "whole"), 0);
	assert_int_equal(cow_resize(model->store, 1003, &error), 0);
	assert_int_equal(cow_resize(model->store, 3500, &error), 0);
	model->active.sectors = 3500;
	for (i = 1003; i < 3500; i++)
		model->active.tag[i] = 0;
	model->stable = model->active;
	model_verify(model);
	assert_int_equal(model_discard(model, 80, 80, false), 0);
	model_verify(model);
	assert_int_equal(model_flush(model), 0);
	crash(model, keep_all);
	assert_int_equal(model_revert(model, "whole"), 0);
	cow_get_info(model->store, &info);
	assert_int_equal(info.sectors, 3000);
	model_verify(model);
	model_end(model);
}

static int numbered_snapshot(struct cow_store *store, unsigned number)
{
	struct error_text error = { "" };
	char name[16];

	snprintf(name, sizeof(name), "s%u", number);
	return cow_snapshot_create(store, name, "", &error);
}

/*
 * Writes blocks until there is no room, scattered, so that each map change needs a node, with a snapshot after every
 * @between of them (0: none). Returns the number of snapshots; @written: of writes.
 */
static unsigned fill_store(struct cow_store *store, unsigned between, unsigned *written)
{
	uint8_t data[COW_BLOCK];
	unsigned snapshots = 0, i;
	int ret;

	memset(data, 7, sizeof(data));
	for (i = 0; !(ret = cow_write(store, data, (uint64_t)i * 7919 % 25000 * 8, 8)); i++) {
		assert_true(i < 20000);
		if (between && i % between == between - 1)
			assert_int_equal(numbered_snapshot(store, snapshots++), 0);
	}
	assert_int_equal(ret, -ENOSPC);
	*written = i;
	return snapshots;
}

static struct cow_store *begin_to_fill(struct sim *sim)
{
	struct cow_create_options options = { .sectors = 200000, .log_blocks = COW_LOG_MIN_BLOCKS };
	struct cow_open_options open_options = { .layer_entries = 300 };
	struct error_text error = { "" };
	struct cow_store *store;

	sim_init(sim, 8u << 20, 0, 3);
	assert_int_equal(cow_create(&sim->device, &options, &error), 0);
	assert_int_equal(cow_open(&store, &sim->device, &open_options, &error), 0);
	return store;
}

static void end_full(struct sim *sim, struct cow_store *store, unsigned snapshots, unsigned written)
{
	struct error_text error = { "" };
	uint8_t data[COW_BLOCK];
	char name[16];
	unsigned i;
	int ret;

	for (i = 0; i < snapshots; i++) {
		snprintf(name, sizeof(name), "s%u", i);
		assert_int_equal(cow_snapshot_delete(store, name, &error), 0);
	}
	while ((ret = cow_delete_step(store)) > 0)
		;
	assert_int_equal(ret, 0);
	assert_int_equal(cow_discard(store, 0, 200000), 0);
	assert_int_equal(cow_flush(store), 0);
	memset(data, 7, sizeof(data));
	for (i = 0; i < written / 2; i++)
		assert_int_equal(cow_write(store, data, (uint64_t)i * 8, 8), 0);
	assert_int_equal(numbered_snapshot(store, snapshots), 0);
	assert_int_equal(cow_close(store), 0);
	sim_free(sim);
}

/* 8. A full store still flushes, checkpoints and deletes snapshots, and then accepts writes again. */
static void test_room_to_finish(void **state)
{
	struct cow_store *store;
	struct sim sim;
	unsigned snapshots, written;

	store = begin_to_fill(&sim);
	snapshots = fill_store(store, 100, &written);
	assert_true(snapshots > 1);
	assert_int_equal(cow_flush(store), 0);
	assert_int_equal(cow_checkpoint(store), 0);
	/* The snapshots hold the nodes that the checkpoints replaced: one more is refused, or there would be no reserve. */
	assert_int_equal(numbered_snapshot(store, snapshots), -ENOSPC);
	end_full(&sim, store, snapshots, written);
}

/* 8. It takes a snapshot, too, if no others hold what the last checkpoint replaced. */
static void test_snapshot_of_a_full_store(void **state)
{
	struct cow_store *store;
	struct sim sim;
	unsigned written;

	store = begin_to_fill(&sim);
	fill_store(store, 0, &written);
	assert_int_equal(numbered_snapshot(store, 0), 0);
	assert_int_equal(cow_checkpoint(store), 0);
	end_full(&sim, store, 1, written);
}

static void expect_hole(struct cow_store *store, uint64_t block, unsigned count)
{
	uint64_t found = 0, fresh, got;

	assert_int_equal(cow_unpunched_hold(store, &found), count);
	if (!count)
		return;
	assert_int_equal(found, block);
	store->alloc.at_page = block / COW_PAGE_BITS;
	store->alloc.at_bit = block % COW_PAGE_BITS;
	assert_int_equal(cow_alloc_run(store, 1, true, &fresh, &got), 0);
	assert_true(fresh >= block + count);		/* not while it is being punched */
	cow_alloc_return(store, fresh, got);
	cow_alloc_unhold_run(store, block, count);
}

/* Freed blocks may be used again before they are punched out of the store; then they must not be punched. */
static void test_used_again_is_not_punched(void **state)
{
	struct cow_store *store = ((struct rule_state *)*state)->model.store;
	uint64_t block, got, i;

	assert_int_equal(cow_alloc_run(store, 8, true, &block, &got), 0);
	assert_int_equal(got, 8);
	cow_alloc_return(store, block, 8);
	for (i = 0; i < 8; i++)
		cow_unpunched_add(store, block + i);
	assert_int_equal(store->alloc.unpunched, 8);
	assert_int_equal(cow_alloc_mark(store, block + 2), 0);
	assert_int_equal(cow_alloc_mark(store, block + 7), 0);
	expect_hole(store, block, 2);
	expect_hole(store, block + 3, 4);
	expect_hole(store, 0, 0);
	assert_int_equal(store->alloc.unpunched, 0);
	cow_alloc_return(store, block + 2, 1);
	cow_alloc_return(store, block + 7, 1);
	cow_unpunched_add(store, block + 7);		/* freed again, once behind the last hole, once before it */
	expect_hole(store, block + 7, 1);
	cow_unpunched_add(store, block);
	expect_hole(store, block, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_branch_points_stay, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_is_salted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_is_chained, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_after_data_exactly, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deletion_is_durable_first, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_frees_twice, setup, teardown),
		cmocka_unit_test_setup_teardown(test_freed_is_not_free, setup, teardown),
		cmocka_unit_test_setup_teardown(test_used_again_is_not_punched, setup, teardown),
		cmocka_unit_test_setup_teardown(test_either_superblock, setup, teardown),
		cmocka_unit_test(test_create_wipes_first),
		cmocka_unit_test_setup_teardown(test_nodes_outlive_superblocks, setup, teardown),
		cmocka_unit_test(test_size_history),
		cmocka_unit_test(test_room_to_finish),
		cmocka_unit_test(test_snapshot_of_a_full_store),
	};

	return cmocka_run_group_tests_name("cow: rules", tests, NULL, NULL);
}
