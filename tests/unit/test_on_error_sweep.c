/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_on_error_sweep.c - the result of requests that a disk fails: every I/O
 * of a sequence of requests, in turn, meets EIO, ENOSPC, EREMOTEIO, ETIMEDOUT or
 * ENODEV, or moves only 512 bytes; or every write in turn finds no room. It fails alone, or with all
 * later ones until a request waits; under each policy, on a raw image and on a
 * store, also one whose file has to grow. Each request must end as vbd_error.c
 * says, and the image must hold the writes that were answered.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "array.h"
#include "failing_disk.h"

#include "cow_internal.h"

/* The possible contents of a block: a bit for each stamp; 0 is zeroes. */
struct model {
	uint32_t now[BLOCKS];		/* as a read may find it */
	uint32_t durable[BLOCKS];	/* contents that are possible in addition after a reopen without a flush */
};

static struct model model;
static unsigned resizes;		/* of the store's file, in all runs */

enum { STEP_SNAPSHOT = BLOCK_NR_OPS };

/* The steps of a group are in flight together. */
static const struct step {
	unsigned group;
	int op;
	unsigned first, count, stamp;
} steps[] = {
	{ 0, BLOCK_WRITE, 0, 8, 1 }, { 0, BLOCK_WRITE, 16, 1, 2 }, { 0, BLOCK_WRITE, 30, 4, 3 },
	{ 1, BLOCK_FLUSH, 0, 0, 0 }, { 1, BLOCK_READ, 2, 4, 0 },
	{ 2, BLOCK_WRITE, 4, 8, 4 }, { 2, BLOCK_WRITE_ZEROES, 16, 4, 0 }, { 2, BLOCK_READ, 28, 8, 0 },
	{ 3, STEP_SNAPSHOT, 0, 0, 0 },
	{ 4, BLOCK_DISCARD, 0, 4, 0 }, { 4, BLOCK_WRITE, 6, 2, 5 }, { 4, BLOCK_WRITE, 40, 8, 6 },
	{ 5, BLOCK_FLUSH, 0, 0, 0 },
	{ 6, BLOCK_WRITE, 6, 1, 7 }, { 6, BLOCK_READ, 0, 6, 0 }, { 6, BLOCK_READ, 40, 8, 0 },
	{ 7, BLOCK_FLUSH, 0, 0, 0 },
};

#define NR_STEPS ARRAY_SIZE(steps)

struct run {
	const char *type;
	bool grows;
	enum vbd_on_error policy;
	int error;			/* 0: short */
	bool writes;			/* only writes fail: then nothing is lost */
	bool lasting;			/* until the device works again */
	unsigned at;
	bool flush_failed, reopened;
};

static void __attribute__((noreturn)) complain(const struct run *r, const char *what)
{
	fail_msg("%s%s, policy %s, %s %s %s %u: %s", r->type, r->grows ? " that grows" : "", vbd_on_error_name(r->policy),
		 r->error ? strerror(-r->error) : "short transfer", r->lasting ? "from" : "at",
		 r->writes ? "write" : "io", r->at, what);
	abort();
}

/* May a request other than a flush be answered with @error? */
static bool may_be_answered(const struct run *r, int error)
{
	bool room = error == -ENOSPC || error == -EDQUOT;

	/* a store that could not write its own records returns EIO from then on, whatever the first error was */
	if (error != r->error && !(error == -EIO && !strcmp(r->type, "cow") && r->error && !r->writes))
		return false;
	return room ? r->policy == ON_ERROR_REPORT : r->policy != ON_ERROR_STOP;
}

static void check_read(const struct run *r, const struct entry *entry)
{
	for (unsigned i = 0; i < entry->count; i++) {
		const uint8_t *at = entry->data + (size_t)i * BLOCK;

		if (memcmp(at, at + 1, BLOCK - 1) || *at >= STAMPS || !(model.now[entry->first + i] & (1u << *at)))
			complain(r, "a block has something that was not written to it");
	}
}

static void account_change(const struct entry *entry)
{
	uint32_t bit = 1u << entry->stamp;

	for (unsigned i = entry->first; i < entry->first + entry->count; i++) {
		model.durable[i] |= model.now[i];
		model.now[i] = entry->error || entry->req.op == BLOCK_DISCARD ? model.now[i] | bit : bit;
	}
}

static void account(struct run *r, const struct entry *entry)
{
	if (entry->req.op == BLOCK_FLUSH) {
		/* after a failed one others may fail, if only because of the lost data */
		if (entry->error && !r->error)
			complain(r, "a flush failed");
		if (entry->error && r->writes && !may_be_answered(r, entry->error))
			complain(r, "a flush failed that had to wait");
		r->flush_failed |= entry->error != 0;
		for (unsigned i = 0; i < BLOCKS && !entry->error && !r->flush_failed; i++)
			model.durable[i] = 0;
		return;
	}
	if (entry->error && !may_be_answered(r, entry->error))
		complain(r, "answered with an error that had to wait, or with another");
	if (entry->req.op != BLOCK_READ)
		account_change(entry);
	else if (!entry->error)
		check_read(r, entry);
}

static void snapshot_over(struct vbd_snapshot *snapshot, int error)
{
	*(int *)snapshot->owner = error;
}

static void take_snapshot(struct run *r)
{
	int error = 1;
	struct vbd_snapshot snapshot = {
		.command = { .op = SNAPSHOT_CREATE, .name = "one" }, .done = snapshot_over, .owner = &error,
	};

	if (strcmp(r->type, "cow"))
		return;
	vbd_snapshot(vbd, &snapshot);
	for (unsigned i = 0; error == 1 && i < 100; i++)
		run();
	if (error && !r->error)
		complain(r, "the snapshot was not taken");
}

/* The image is opened again: a store that had failed works again, and has what was flushed. */
static void reopen(struct run *r)
{
	pause_forced();
	unpause();
	r->reopened = true;
	for (unsigned i = 0; i < BLOCKS; i++)
		model.now[i] |= model.durable[i];
}

static void settle(struct run *r)
{
	run();
	if (!nr_busy)
		return;
	if (r->policy == ON_ERROR_REPORT || !r->error || (r->policy == ON_ERROR_ENOSPC && r->error != -ENOSPC))
		complain(r, "something waits that is to be answered");
	if (vbd->errors.stopped && r->policy != ON_ERROR_STOP)
		complain(r, "stopped, which is not the policy");
	for (const struct block_request *req = vbd->errors.waiting.first; req; req = req->next) {
		if (req->op == BLOCK_FLUSH && req->front_error && (strcmp(r->type, "cow") || req->front_error != -ENOSPC))
			complain(r, "a flush that has failed waits");
	}
	fault.broken = false;
	if (resume() != 0 && nr_busy && !r->writes)
		reopen(r);
	if (nr_busy)
		complain(r, "it waits for ever");
}

static void run_sequence(struct run *r)
{
	unsigned i, first = 0;

	for (i = 0; i < NR_STEPS; i++) {
		if (steps[i].op == STEP_SNAPSHOT)
			take_snapshot(r);
		else
			submit(i - first, (enum block_op)steps[i].op, steps[i].first, steps[i].count, steps[i].stamp);
		if (i + 1 < NR_STEPS && steps[i + 1].group == steps[i].group)
			continue;
		settle(r);
		for (unsigned n = 0; n <= i - first && steps[i].op != STEP_SNAPSHOT; n++)
			account(r, &entries[n]);
		first = i + 1;
	}
}

/* Read the whole disk on a working device, opened again. */
static void check_image(struct run *r, const char *target)
{
	for (unsigned i = 0; i < BLOCKS; i++)
		model.now[i] |= model.durable[i];
	disk_open(target, ON_ERROR_REPORT);
	for (unsigned i = 0; i < BLOCKS; i += 8) {
		submit(0, BLOCK_READ, i, 8, 31);
		run();
		assert_int_equal(entries[0].error, 0);
		check_read(r, &entries[0]);
	}
	disk_close();
}

#define SPARE 4u			/* data blocks */

/* Leaves the store with that many free ones; the others count as used, though nothing maps them. */
static void use_up(const char *path)
{
	struct cow_open_options options = { 0 };
	struct error_text text = { "" };
	struct cow_device *device;
	struct cow_store *store;
	uint64_t block;

	if (cow_file_open(&device, path, false, &text) || cow_open(&store, device, &options, &text))
		fail_msg("%s", text.text);
	for (block = store->pool_start; cow_alloc_room(store) > SPARE; block++)
		assert_int_equal(cow_alloc_mark(store, block), 0);
	assert_int_equal(cow_close(store), 0);
	cow_file_close(device);
}

/* False: the sequence ended before that io. */
static bool run_one(struct run *r)
{
	char target[PATH_MAX];
	bool met;

	make_image(r->type, target, sizeof(target));
	if (r->grows)
		use_up(strchr(target, ':') + 1);
	for (unsigned i = 0; i < BLOCKS; i++) {
		model.now[i] = 1;
		model.durable[i] = 0;
	}
	disk_open(target, r->policy);
	fault.seen = 0;
	fault.fail_at = r->at;
	fault.error = r->error;
	fault.broken = r->lasting;
	fault.writes_only = r->writes;
	run_sequence(r);
	met = fault.seen >= r->at;
	resizes += fault.resizes;
	if (vbd->errors.waiting.count || vbd->errors.stopped)
		complain(r, "it is over, and still something waits");
	fault.fail_at = 0;
	disk_close();
	check_image(r, target);
	return met;
}

/* The number of ios. */
static unsigned sweep_ios(struct run r)
{
	unsigned ios = 0;

	for (; r.flush_failed = r.reopened = false, r.at = ios + 1, run_one(&r); ios++)
		;
	assert_true(ios >= (r.writes ? 5 : 10));
	return ios;
}

static unsigned sweep_both(struct run r)
{
	unsigned faults = sweep_ios(r);

	r.lasting = true;
	return faults + sweep_ios(r);
}

static void sweep(const char *type, bool grows)
{
	static const int errors[] = { -EIO, -ENOSPC, -EREMOTEIO, -ETIMEDOUT, -ENODEV, 0 };
	static const enum vbd_on_error all[] = { ON_ERROR_REPORT, ON_ERROR_ENOSPC, ON_ERROR_STOP };
	unsigned faults = 0;

	for (unsigned p = 0; p < ARRAY_SIZE(all); p++) {
		for (unsigned e = 0; e < ARRAY_SIZE(errors); e++) {
			struct run r = { .type = type, .grows = grows, .policy = all[p], .error = errors[e] };

			faults += sweep_both(r);
		}
		faults += sweep_both((struct run){ .type = type, .grows = grows, .policy = all[p], .error = -ENOSPC,
				     .writes = true });
	}
	assert_int_equal(resizes != 0, grows);
	printf("# %s%s: %u faults, each ended as documented\n", type, grows ? " that grows" : "", faults);
}

static void test_sweep_raw(void **state)
{
	sweep("aio", false);
}

static void test_sweep_cow(void **state)
{
	sweep("cow", false);
}

static void test_sweep_growing_cow(void **state)
{
	sweep("cow", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sweep_raw),
		cmocka_unit_test(test_sweep_cow),
		cmocka_unit_test(test_sweep_growing_cow),
	};

	failing_disk_init();
	return cmocka_run_group_tests_name("on error: each io", tests, NULL, NULL);
}
