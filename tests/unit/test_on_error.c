/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_on_error.c - what becomes of requests that a disk fails.
 *
 * The sweep: every io of a sequence of requests, one after the other, meets
 * EIO, ENOSPC, EREMOTEIO or moves only 512 bytes, under each policy, on a raw
 * image and on a store. Each request has to end as vbd_error.c says, and the
 * image has to hold what was answered. Then, by hand, what such a disk does
 * meanwhile: stop, pause, close, another policy, a device that is silent.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk.h"

#include "cow.h"
#include "fault_engine.h"
#include "protocol.h"
#include "scratch.h"
#include "vbd.h"

#define BLOCK 4096u
#define BLOCKS 64u
#define STAMPS 32u
#define MAX_REQUESTS 16
#define DISK_SECTORS (BLOCKS * BLOCK / SECTOR_SIZE)

struct entry {
	struct block_request req;
	struct iovec iov;
	uint8_t data[8 * BLOCK] __attribute__((aligned(BLOCK)));
	unsigned first, count;		/* blocks */
	unsigned stamp;
	int error;
	bool busy;
};

/* What each block may hold: a bit for each stamp; 0 is zeroes. */
struct model {
	uint32_t now[BLOCKS];		/* as a read may find it */
	uint32_t durable[BLOCKS];	/* what more may be there after the store was opened anew without a flush */
};

static struct fault_engine fault;
static struct loop *loop;
static struct loop_source *reaper, *watcher;
static struct vbd *vbd;
static struct vbd_client client;
static struct entry entries[MAX_REQUESTS];
static unsigned nr_busy;
static struct model model;
static char events[16][32];
static unsigned nr_events;
static bool paused, ended;
static bool patient;
static bool gone;			/* the client: its requests are not wanted */

/* ---- the disk and its client ---- */

static void client_stop(struct vbd_client *c)
{
}

static bool client_wants(const struct vbd_client *c, const struct block_request *req)
{
	return !gone;
}

static const struct vbd_client_ops client_ops = { .stop = client_stop, .start = client_stop, .wanted = client_wants };

static void note_event(struct vbd *disk, json_t *event)
{
	assert_true(nr_events < 16);
	snprintf(events[nr_events++], sizeof(events[0]), "%s", json_string_value(json_object_get(event, "event")));
}

static void expect_events(const char *expected)
{
	char all[512] = "";

	for (unsigned i = 0; i < nr_events; i++)
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? " " : "", events[i]);
	assert_string_equal(all, expected);
	nr_events = 0;
}

static bool reap(void *arg)
{
	return engine_reap(&fault.engine) > 0;
}

/* Nothing more happens by itself; or, when that is waited for, something has been told. */
static bool watch(void *arg)
{
	if (patient && nr_events)
		loop_quit(loop);
	if (!patient && !fault.engine.queued && nr_busy == vbd->errors.waiting + (vbd->backend ? vbd->backend->waiting : 0))
		loop_quit(loop);
	return false;
}

static void run(void)
{
	assert_int_equal(loop_run(loop), 0);
}

static void wait_for_event(void)
{
	patient = true;
	run();
	patient = false;
}

static void request_over(struct block_request *req, int error)
{
	struct entry *entry = req->owner;

	assert_true(entry->busy);
	entry->busy = false;
	entry->error = error;
	nr_busy--;
}

static void submit(unsigned n, enum block_op op, unsigned first, unsigned count, unsigned stamp)
{
	struct entry *entry = &entries[n];

	assert_false(entry->busy);
	entry->busy = true;
	entry->first = first;
	entry->count = count;
	entry->stamp = stamp;
	entry->error = 1;
	entry->iov = (struct iovec){ entry->data, (size_t)count * BLOCK };
	entry->req = (struct block_request){
		.op = op, .sector = (uint64_t)first * (BLOCK / SECTOR_SIZE), .nr_sectors = (uint64_t)count * (BLOCK / SECTOR_SIZE),
		.iov = &entry->iov, .iovcnt = 1, .done = request_over, .owner = entry,
	};
	memset(entry->data, (int)stamp, (size_t)count * BLOCK);
	nr_busy++;
	vbd_submit(&client, &entry->req);
}

static void disk_open(const char *target, enum vbd_on_error policy)
{
	struct driver_options options = { .shared = true, .no_direct = true };
	struct error_text text = { "" };

	fault_engine_init(&fault, 0, 0);
	gone = false;
	assert_int_equal(loop_create(&loop), 0);
	/* hooks run in the reverse order */
	assert_int_equal(loop_add_prepare(loop, &watcher, watch, NULL), 0);
	assert_int_equal(loop_add_prepare(loop, &reaper, reap, NULL), 0);
	assert_int_equal(vbd_create(&vbd, loop, &fault.engine, 0), 0);
	if (vbd_open(vbd, target, &options, &text))
		fail_msg("%s", text.text);
	vbd_on_error_set(vbd, policy);
	client = (struct vbd_client){ .ops = &client_ops };
	assert_int_equal(vbd_add_client(vbd, &client), 0);
	nr_events = 0;
}

static void note_end(void *arg, int error)
{
	*(bool *)arg = true;
}

static void disk_close(void)
{
	struct error_text text = { "" };

	ended = false;
	assert_int_equal(vbd_close(vbd, true, note_end, &ended, &text), 0);
	assert_int_equal(nr_busy, 0);
	vbd_remove_client(&client);
	for (unsigned i = 0; !ended && i < 100; i++)
		run();
	assert_true(ended);
	vbd_destroy(vbd);
	loop_remove(reaper);
	loop_remove(watcher);
	loop_destroy(loop);
}

static void pause_forced(void)
{
	struct error_text text = { "" };

	paused = false;
	assert_int_equal(vbd_pause(vbd, true, note_end, &paused, &text), 0);
	for (unsigned i = 0; !paused && i < 100; i++)
		run();
	assert_true(paused);
}

static void unpause(void)
{
	struct error_text text = { "" };

	if (vbd_unpause(vbd, NULL, &text))
		fail_msg("%s", text.text);
	run();
}

static unsigned resume(void)
{
	struct error_text text = { "" };
	unsigned count;

	if (vbd_error_resume(vbd, &count, &text))
		fail_msg("%s", text.text);
	run();
	return count;
}

/* ---- the sequence ---- */

enum { STEP_SNAPSHOT = BLOCK_NR_OPS };

/* Those of a group are in flight together. */
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

#define NR_STEPS (sizeof(steps) / sizeof(steps[0]))

struct run {
	const char *type;
	enum vbd_on_error policy;
	int error;			/* 0: short */
	unsigned at;
	bool flush_failed, reopened;
};

static void __attribute__((noreturn)) complain(const struct run *r, const char *what)
{
	fail_msg("%s, policy %s, %s at io %u: %s", r->type, vbd_on_error_name(r->policy),
		 r->error ? strerror(-r->error) : "short transfer", r->at, what);
	abort();
}

/* May a request that is no flush be answered with @error? */
static bool may_be_answered(const struct run *r, int error)
{
	bool room = error == -ENOSPC || error == -EDQUOT;

	/* a store that could not write its own records says EIO from then on, whatever it was at first */
	if (error != r->error && !(error == -EIO && !strcmp(r->type, "cow") && r->error))
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
		/* after one that failed others may, and be it only for the loss */
		if (entry->error && !r->error)
			complain(r, "a flush failed");
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

/* The image is opened anew: a store that has failed is well again, and has what was flushed. */
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
	for (const struct block_request *req = vbd->errors.first; req; req = req->next) {
		if (req->op == BLOCK_FLUSH && req->waits)
			complain(r, "a flush that has failed waits");
	}
	if (resume() != 0 && nr_busy)
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

static void make_image(const char *type, char *target, size_t size)
{
	static const struct cow_create_options options = { .sectors = DISK_SECTORS, .log_blocks = 64 };
	const char *path = scratch_path("image");
	struct error_text text = { "" };
	struct cow_device *device;

	unlink(path);
	if (!strcmp(type, "aio")) {
		scratch_file("image", BLOCKS * BLOCK);
	} else {
		assert_int_equal(cow_file_create(&device, path, &text), 0);
		if (cow_create(device, &options, &text))
			fail_msg("%s", text.text);
		cow_file_close(device);
	}
	snprintf(target, size, "%s:%s", type, path);
}

/* Read the whole disk on a device that is well, opened anew. */
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

/* False: the sequence was over before the io came. */
static bool run_one(struct run *r)
{
	char target[PATH_MAX];
	bool met;

	make_image(r->type, target, sizeof(target));
	for (unsigned i = 0; i < BLOCKS; i++) {
		model.now[i] = 1;
		model.durable[i] = 0;
	}
	disk_open(target, r->policy);
	fault.seen = 0;
	fault.fail_at = r->at;
	fault.error = r->error;
	run_sequence(r);
	met = fault.seen >= r->at;
	if (vbd->errors.waiting || vbd->errors.stopped)
		complain(r, "it is over, and still something waits");
	fault.fail_at = 0;
	disk_close();
	check_image(r, target);
	return met;
}

static void sweep(const char *type)
{
	static const int errors[] = { -EIO, -ENOSPC, -EREMOTEIO, 0 };
	static const enum vbd_on_error all[] = { ON_ERROR_REPORT, ON_ERROR_ENOSPC, ON_ERROR_STOP };
	unsigned faults = 0, stepped, e, p;

	for (p = 0; p < sizeof(all) / sizeof(all[0]); p++) {
		for (e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
			struct run r = { .type = type, .policy = all[p], .error = errors[e] };

			for (stepped = 0; r.flush_failed = r.reopened = false, r.at = stepped + 1, run_one(&r); stepped++)
				faults++;
			assert_true(stepped >= 10);
		}
	}
	printf("# %s: %u of %u faults ended as documented\n", type, faults, faults);
}

static void test_sweep_raw(void **state)
{
	sweep("aio");
}

static void test_sweep_cow(void **state)
{
	sweep("cow");
}

/* ---- by hand, on a raw image ---- */

static void break_disk(int error)
{
	fault.seen = 0;
	fault.fail_at = 1;
	fault.broken = true;
	fault.error = error;
}

static void mend_disk(void)
{
	fault.fail_at = 0;
}

static void open_raw(enum vbd_on_error policy)
{
	char target[PATH_MAX];

	make_image("aio", target, sizeof(target));
	disk_open(target, policy);
}

/* Once stopped nothing goes to the disk, flushes neither; resume tries all, and stops again at what still fails. */
static void test_stop(void **state)
{
	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 0, 1, 1);
	run();
	assert_true(vbd->errors.stopped);
	submit(1, BLOCK_FLUSH, 0, 0, 0);
	submit(2, BLOCK_READ, 0, 1, 9);
	run();
	assert_int_equal(fault.seen, 1);
	assert_int_equal(vbd->errors.waiting, 3);
	expect_events("io-error");
	assert_int_equal(resume(), 3);
	assert_int_equal(fault.seen, 2);	/* the write alone */
	assert_int_equal(vbd->errors.waiting, 3);
	expect_events("io-error");
	mend_disk();
	assert_int_equal(resume(), 3);
	assert_int_equal(nr_busy, 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(entries[i].error, 0);
	assert_int_equal(entries[2].data[0], 1);
	assert_int_equal(resume(), 0);
	expect_events("resumed");
	disk_close();
}

/* The disk is mended and full: that is no reason to stay stopped. A client that goes takes the probe with it. */
static void test_probe(void **state)
{
	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 0, 1, 1);
	run();
	submit(1, BLOCK_READ, 0, 1, 9);
	fault.error = -ENOSPC;
	fault.broken = false;
	fault.seen = 0;
	resume();
	assert_int_equal(entries[1].error, 0);
	expect_events("io-error resumed");
	assert_int_equal(entries[0].error, 0);	/* tried again at once, behind it */

	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 0, 1, 1);
	submit(1, BLOCK_WRITE, 8, 1, 1);
	run();
	nr_events = 0;
	fault.silent = true;
	assert_int_equal(vbd_error_go_on(vbd), 2);
	gone = true;
	vbd_error_drop_unwanted(&client);
	assert_int_equal(entries[1].error, -ECANCELED);
	fault.silent = false;
	run();
	assert_int_equal(entries[0].error, -EIO);
	assert_false(vbd->errors.stopped);	/* nothing waits any more, so nothing could find out */
	expect_events("resumed");
	mend_disk();
	disk_close();
}

/* Writes wait for room, reads and flushes go on; when there is room the writes go on by themselves, and that is told. */
static void test_no_room_ends_by_itself(void **state)
{
	open_raw(ON_ERROR_ENOSPC);
	break_disk(-ENOSPC);
	submit(0, BLOCK_WRITE, 0, 1, 1);
	run();
	mend_disk();
	submit(1, BLOCK_READ, 0, 1, 9);
	submit(2, BLOCK_FLUSH, 0, 0, 0);
	run();
	assert_int_equal(entries[1].error | entries[2].error, 0);
	assert_false(vbd->errors.stopped);
	assert_true(entries[0].busy);
	expect_events("no-space");
	wait_for_event();
	assert_int_equal(entries[0].error, 0);
	expect_events("space");
	disk_close();
}

/* What waits is not in flight: a pause is over at once, and then it goes to the image that is open. */
static void test_pause_while_stopped(void **state)
{
	struct error_text text = { "" };
	unsigned count;

	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	pause_forced();
	assert_int_equal(vbd->state, VBD_PAUSED);
	assert_true(entries[0].busy);
	assert_int_equal(vbd_error_resume(vbd, &count, &text), -EBUSY);
	mend_disk();
	unpause();
	assert_int_equal(entries[0].error, 0);
	assert_false(vbd->errors.stopped);
	submit(1, BLOCK_READ, 3, 1, 9);
	run();
	assert_int_equal(entries[1].data[0], 1);
	disk_close();
}

/* Not forced: the flush at its end fails, the disk runs on, and is stopped as before. */
static void test_pause_that_fails_while_stopped(void **state)
{
	struct error_text text = { "" };

	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	paused = false;
	assert_int_equal(vbd_pause(vbd, false, note_end, &paused, &text), 0);
	while (!paused)
		run();
	assert_int_equal(vbd->state, VBD_RUNNING);
	assert_true(vbd->errors.stopped && entries[0].busy);
	mend_disk();
	resume();
	assert_int_equal(entries[0].error, 0);
	disk_close();
}

static void close_ends(enum vbd_on_error policy, int error, bool while_paused)
{
	struct error_text text = { "" };

	open_raw(policy);
	break_disk(error);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	assert_true(entries[0].busy);
	if (while_paused)
		pause_forced();
	ended = false;
	assert_int_equal(vbd_close(vbd, true, note_end, &ended, &text), 0);
	assert_int_equal(entries[0].error, error);
	disk_close();
}

static void test_close_ends_what_waits(void **state)
{
	close_ends(ON_ERROR_STOP, -EIO, false);
	close_ends(ON_ERROR_STOP, -EIO, true);
	close_ends(ON_ERROR_ENOSPC, -ENOSPC, false);
	close_ends(ON_ERROR_ENOSPC, -ENOSPC, true);
}

/* What the new policy does not let wait is answered; what was held untried goes to the disk. */
static void test_another_policy(void **state)
{
	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	submit(1, BLOCK_READ, 3, 1, 9);
	mend_disk();
	vbd_on_error_set(vbd, ON_ERROR_REPORT);
	run();
	assert_int_equal(entries[0].error, -EIO);
	assert_int_equal(entries[1].error, 0);
	break_disk(-ENOSPC);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	assert_int_equal(entries[0].error, -ENOSPC);
	expect_events("io-error resumed io-error");
	disk_close();
}

/* Who goes takes along what waits; what it still had at the disk, and what comes, does not wait either. */
static void test_client_goes(void **state)
{
	open_raw(ON_ERROR_STOP);
	break_disk(-EIO);
	submit(0, BLOCK_WRITE, 3, 1, 1);
	run();
	fault.silent = true;
	vbd->errors.stopped = false;	/* one that was at the disk already */
	submit(1, BLOCK_WRITE, 3, 1, 1);
	vbd->errors.stopped = true;
	gone = true;
	vbd_error_drop_unwanted(&client);
	assert_int_equal(entries[0].error, -ECANCELED);
	fault.silent = false;
	run();
	assert_int_equal(entries[1].error, -EIO);
	submit(2, BLOCK_READ, 3, 1, 1);
	assert_int_equal(entries[2].error, -ECANCELED);
	assert_int_equal(vbd->errors.waiting, 0);
	mend_disk();
	disk_close();
}

/* Said once, however many fail, until a second is over. */
static void test_events_of_answered_errors(void **state)
{
	open_raw(ON_ERROR_REPORT);
	break_disk(-EIO);
	for (unsigned i = 0; i < 200; i++) {
		submit(0, BLOCK_READ, 3, 1, 1);
		run();
		assert_int_equal(entries[0].error, -EIO);
	}
	assert_int_equal(vbd->errors.answered, 200);
	assert_true(nr_events >= 1 && nr_events < 10);
	mend_disk();
	disk_close();
}

/* A request that is wrong in itself says nothing of the disk. */
static void test_bad_requests_never_wait(void **state)
{
	open_raw(ON_ERROR_STOP);
	submit(0, BLOCK_READ, BLOCKS, 1, 1);
	run();
	assert_int_equal(entries[0].error, -EINVAL);
	assert_false(vbd->errors.stopped);
	expect_events("");
	disk_close();
}

/* A device that answers nothing: told once, the disk can be asked, a pause waits; when it answers all goes on. */
static void test_silent_device(void **state)
{
	struct error_text text = { "" };
	json_t *info;

	open_raw(ON_ERROR_STOP);
	vbd_silence_ms = 20;
	fault.silent = true;
	submit(0, BLOCK_WRITE, 3, 1, 1);
	wait_for_event();
	expect_events("not-answering");
	info = vbd_info(vbd);
	assert_true(json_is_false(json_object_get(info, "answering")));
	json_decref(info);
	paused = false;
	assert_int_equal(vbd_pause(vbd, true, note_end, &paused, &text), 0);
	assert_false(paused);
	fault.silent = false;
	while (!paused)
		run();
	assert_int_equal(entries[0].error, 0);
	if (!nr_events)
		wait_for_event();
	expect_events("answering");
	unpause();
	vbd_silence_ms = 5000;
	disk_close();
}

/* One slow request is not told of while others are answered. */
static void test_latency_spikes(void **state)
{
	open_raw(ON_ERROR_STOP);
	vbd_silence_ms = 20;
	for (unsigned i = 0; i < 200; i++) {
		uint64_t until = loop_clock() + 1000000;

		fault.silent = true;
		submit(0, BLOCK_WRITE, 3, 1, 1);
		while (loop_clock() < until)
			;
		fault.silent = false;
		run();
		assert_int_equal(entries[0].error, 0);
	}
	expect_events("");
	vbd_silence_ms = 5000;
	disk_close();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sweep_raw),
		cmocka_unit_test(test_sweep_cow),
		cmocka_unit_test(test_stop),
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_no_room_ends_by_itself),
		cmocka_unit_test(test_pause_while_stopped),
		cmocka_unit_test(test_pause_that_fails_while_stopped),
		cmocka_unit_test(test_close_ends_what_waits),
		cmocka_unit_test(test_another_policy),
		cmocka_unit_test(test_client_goes),
		cmocka_unit_test(test_events_of_answered_errors),
		cmocka_unit_test(test_bad_requests_never_wait),
		cmocka_unit_test(test_silent_device),
		cmocka_unit_test(test_latency_spikes),
	};

	scratch_init_in(access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm");
	setenv(RUN_DIR_ENV, scratch_dir, 1);
	vbd_event = note_event;
	return cmocka_run_group_tests_name("on error", tests, NULL, NULL);
}
