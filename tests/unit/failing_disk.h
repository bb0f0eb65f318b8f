/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * failing_disk.h - a disk in the test's process, over an engine that fails I/Os
 * on demand, and its one client: requests of whole blocks, events, pause and
 * resume.
 */
#ifndef TESTS_FAILING_DISK_H
#define TESTS_FAILING_DISK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

static struct fault_engine fault;
static struct loop *loop;
static struct loop_source *reaper, *watcher;
static struct vbd *vbd;
static struct vbd_client client;
static struct entry entries[MAX_REQUESTS];
static unsigned nr_busy;
static char events[16][32];
static unsigned nr_events;
static bool paused, ended;
static bool patient;
static bool gone;			/* the client is gone: it takes no more results */

static inline void client_stop(struct vbd_client *c)
{
}

static inline bool client_wants(const struct vbd_client *c, const struct block_request *req)
{
	return !gone;
}

static const struct vbd_client_ops client_ops = { .stop = client_stop, .start = client_stop, .wanted = client_wants };

static inline void note_event(struct vbd *disk, json_t *event)
{
	assert_true(nr_events < 16);
	snprintf(events[nr_events++], sizeof(events[0]), "%s", json_string_value(json_object_get(event, "event")));
}

static inline void expect_events(const char *expected)
{
	char all[512] = "";

	for (unsigned i = 0; i < nr_events; i++)
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? " " : "", events[i]);
	assert_string_equal(all, expected);
	nr_events = 0;
}

static inline bool reap(void *arg)
{
	return engine_reap(&fault.engine) > 0;
}

/* Quit the loop when no more progress is possible; or, if the test waits for an event, when there is one. */
static inline bool watch(void *arg)
{
	if (patient && nr_events)
		loop_quit(loop);
	if (!patient && vbd->state != VBD_RELEASING && !fault.engine.queued && nr_busy == vbd->errors.waiting.count + (vbd->backend ? vbd->backend->waiting : 0))
		loop_quit(loop);
	return false;
}

static inline void run(void)
{
	assert_int_equal(loop_run(loop), 0);
}

static inline void wait_for_event(void)
{
	patient = true;
	run();
	patient = false;
}

static inline void request_over(struct block_request *req, int error)
{
	struct entry *entry = req->owner;

	assert_true(entry->busy);
	entry->busy = false;
	entry->error = error;
	nr_busy--;
}

static inline void submit(unsigned n, enum block_op op, unsigned first, unsigned count, unsigned stamp)
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

static inline void disk_open(const char *target, enum vbd_on_error policy)
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

static inline void note_end(void *arg, int error)
{
	*(bool *)arg = true;
}

static inline void disk_close(void)
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

static inline void pause_forced(void)
{
	struct error_text text = { "" };

	paused = false;
	assert_int_equal(vbd_pause(vbd, true, note_end, &paused, &text), 0);
	for (unsigned i = 0; !paused && i < 100; i++)
		run();
	assert_true(paused);
}

static inline void unpause(void)
{
	struct error_text text = { "" };

	if (vbd_unpause(vbd, NULL, &text))
		fail_msg("%s", text.text);
	run();
}

static inline unsigned resume(void)
{
	struct error_text text = { "" };
	unsigned count;

	if (vbd_error_resume(vbd, &count, &text))
		fail_msg("%s", text.text);
	run();
	return count;
}

static inline void make_image(const char *type, char *target, size_t size)
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

/* From the next I/O on all of them fail with @error. */
static inline void break_disk(int error)
{
	fault.seen = 0;
	fault.fail_at = 1;
	fault.broken = true;
	fault.error = error;
}

static inline void repair_disk(void)
{
	fault.fail_at = 0;
	fault.writes_only = fault.syncs_only = false;
}

static inline void open_raw(enum vbd_on_error policy)
{
	char target[PATH_MAX];

	make_image("aio", target, sizeof(target));
	disk_open(target, policy);
}

static inline void failing_disk_init(void)
{
	scratch_init_in(access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm");
	setenv(RUN_DIR_ENV, scratch_dir, 1);
	vbd_event = note_event;
}

#endif
