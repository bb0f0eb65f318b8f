/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_vbd.c - what reaches the disk, in which order, and what the guest is
 * told when it fails: flushes, barriers, pauses.
 *
 * All in one process: a disk over an engine that writes down what it is told
 * and fails what it is asked to fail, and a frontend made by hand in a memfd.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xen/io/blkif.h>

#include "metrics.h"
#include "transport.h"
#include "vbd.h"

#define PAGE 4096u
#define DISK_BYTES (1u << 20)
#define GUEST_PAGES 8			/* the ring, then data */

/* An engine that notes 'r', 'w', 's' in order, and fails the syncs, or the others. */
static struct recorder {
	struct engine engine;
	char log[64];
	unsigned length;
	int sync_error, io_error;
	struct engine_io *held[64];
	unsigned nr_held;
	bool hold;			/* complete nothing for now */
} recorder;

static void recorder_queue(struct engine *engine, struct engine_io *io)
{
	recorder.log[recorder.length++] = io->op == ENGINE_SYNC ? 's' : io->op == ENGINE_WRITE ? 'w' : 'r';
	recorder.held[recorder.nr_held++] = io;
}

static int recorder_commit(struct engine *engine)
{
	return 0;
}

static int recorder_reap(struct engine *engine)
{
	unsigned count = recorder.nr_held;

	if (recorder.hold)
		return 0;
	for (unsigned i = 0; i < count; i++) {
		struct engine_io *io = recorder.held[i];

		engine_complete(engine, io, io->op == ENGINE_SYNC ? recorder.sync_error :
				recorder.io_error ? recorder.io_error : (long)io->length);
	}
	memmove(recorder.held, recorder.held + count, (recorder.nr_held - count) * sizeof(recorder.held[0]));
	recorder.nr_held -= count;
	return count;
}

static int recorder_fd(struct engine *engine)
{
	return -1;
}

static const struct engine_ops recorder_ops = {
	.name = "recorder",
	.queue = recorder_queue,
	.commit = recorder_commit,
	.reap = recorder_reap,
	.fd = recorder_fd,
	.wait = recorder_commit,
};

static struct loop *loop;
static struct loop_source *reaper, *turn;
static struct vbd *vbd;
static char image[] = "/var/tmp/tapsnap-vbd.XXXXXX", path[64], run_dir[80];
static uint8_t *guest;
static blkif_front_ring_t front;
static int to_backend;

static bool reap(void *arg)
{
	return engine_reap(&recorder.engine) > 0;
}

static void end_turn(void *arg)
{
	loop_quit(loop);
}

/* Until everything that can happen has happened: the timer is due after all that is ready at once. */
static void run(void)
{
	assert_int_equal(loop_add_timer(loop, &turn, 20, end_turn, NULL), 0);
	assert_int_equal(loop_run(loop), 0);
}

static void connect_frontend_with(bool persistent, bool direct_io_safe)
{
	struct blkif_params params = { .shm = true, .domid = 1, .devid = 51712, .nr_queues = 1, .ring_pages = 1, .nr_fds = 3,
				       .persistent = persistent, .direct_io_safe = direct_io_safe };
	int memfd = memfd_create("guest", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	struct error_text text = { "" };

	assert_int_equal(ftruncate(memfd, GUEST_PAGES * PAGE), 0);
	assert_int_equal(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	guest = mmap(NULL, GUEST_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	assert_ptr_not_equal(guest, MAP_FAILED);
	XEN_FRONT_RING_INIT(&front, (blkif_sring_t *)guest, PAGE);
	params.fds[0] = memfd;
	params.fds[1] = eventfd(0, 0);
	params.fds[2] = eventfd(0, 0);
	to_backend = dup(params.fds[1]);
	if (vbd_connect(vbd, &params, &text))
		fail_msg("%s", text.text);
}

static void connect_frontend(void)
{
	connect_frontend_with(false, false);
}

static void ignore(void *arg, int error)
{
}

static void disconnect_frontend(void)
{
	struct error_text text = { "" };

	assert_int_equal(vbd_disconnect(vbd, 1, 51712, ignore, NULL, &text), 0);
	run();
	munmap(guest, GUEST_PAGES * PAGE);
	close(to_backend);
}

static void reconnect_frontend(void)
{
	disconnect_frontend();
	connect_frontend();
}

static int setup(void **state)
{
	struct driver_options options = { .shared = true };
	struct error_text text = { "" };
	char target[80];
	int fd;

	memset(&recorder, 0, sizeof(recorder));
	recorder.engine.ops = &recorder_ops;
	strcpy(path, image);
	fd = mkstemp(path);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
	snprintf(run_dir, sizeof(run_dir), "%s.run", path);
	assert_int_equal(mkdir(run_dir, 0700), 0);
	setenv(RUN_DIR_ENV, run_dir, 1);
	assert_int_equal(loop_create(&loop), 0);
	/* hooks run in the reverse order: the disk's before the engine's, as in main.c */
	assert_int_equal(loop_add_prepare(loop, &reaper, reap, NULL), 0);
	assert_int_equal(vbd_create(&vbd, loop, &recorder.engine, 0), 0);
	snprintf(target, sizeof(target), "aio:%s", path);
	if (vbd_open(vbd, target, &options, &text))
		fail_msg("%s", text.text);
	connect_frontend();
	return 0;
}

static int teardown(void **state)
{
	struct error_text text = { "" };

	recorder.hold = false;
	assert_int_equal(vbd_close(vbd, true, ignore, NULL, &text), 0);
	run();
	assert_int_equal(vbd->state, VBD_CLOSED);
	vbd_destroy(vbd);
	loop_remove(reaper);
	loop_destroy(loop);
	munmap(guest, GUEST_PAGES * PAGE);
	close(to_backend);
	unlink(path);
	rmdir(run_dir);
	metrics_remove_folder();
	return 0;
}

static void put(uint8_t operation, uint64_t id, unsigned segments)
{
	blkif_request_t *request = RING_GET_REQUEST(&front, front.req_prod_pvt);

	memset(request, 0, sizeof(*request));
	request->operation = operation;
	request->id = id;
	request->nr_segments = segments;
	for (unsigned i = 0; i < segments; i++)
		request->seg[i] = (struct blkif_request_segment){ .gref = 1 + i, .first_sect = 0, .last_sect = 7 };
	front.req_prod_pvt++;
}

static void push(void)
{
	__atomic_store_n(&front.sring->req_prod, front.req_prod_pvt, __ATOMIC_RELEASE);
	assert_int_equal(eventfd_write(to_backend, 1), 0);
	run();
}

/* The next answer must be @id's, with @status. */
static void expect(uint64_t id, int16_t status)
{
	blkif_response_t *response = RING_GET_RESPONSE(&front, front.rsp_cons);

	assert_true(XEN_RING_NR_UNCONSUMED_RESPONSES(&front) > 0);
	front.rsp_cons++;
	assert_int_equal(response->id, id);
	assert_int_equal(response->status, status);
}

static void expect_log(const char *log)
{
	recorder.log[recorder.length] = 0;
	assert_string_equal(recorder.log, log);
}

static void test_flush_is_a_sync(void **state)
{
	put(BLKIF_OP_WRITE, 1, 1);
	push();
	put(BLKIF_OP_FLUSH_DISKCACHE, 2, 0);
	push();
	expect(1, BLKIF_RSP_OKAY);
	expect(2, BLKIF_RSP_OKAY);
	expect_log("ws");
}

/* Held, in order; a flush passes; time, a pause, or the end of the limit lets go. */
static void test_throttle(void **state)
{
	struct error_text text = { "" };

	vbd_throttle_set(vbd, 0, 1, 1);		/* a byte a second */
	put(BLKIF_OP_WRITE, 1, 1);
	put(BLKIF_OP_READ, 2, 1);
	put(BLKIF_OP_WRITE, 3, 1);
	put(BLKIF_OP_FLUSH_DISKCACHE, 4, 0);
	push();
	expect(1, BLKIF_RSP_OKAY);		/* nothing was owed when it came */
	expect(4, BLKIF_RSP_OKAY);
	expect_log("ws");
	assert_int_equal(vbd->throttle.nr_held, 2);
	assert_int_equal(vbd->throttle.delayed, 2);
	vbd_throttle_set(vbd, 0, 0, 1);
	run();
	expect(2, BLKIF_RSP_OKAY);
	expect(3, BLKIF_RSP_OKAY);
	expect_log("wsrw");
	assert_int_equal(vbd->throttle.nr_held, 0);

	vbd_throttle_set(vbd, 1, 0, 1);
	put(BLKIF_OP_READ, 5, 1);
	put(BLKIF_OP_READ, 6, 1);
	push();
	expect(5, BLKIF_RSP_OKAY);
	assert_int_equal(vbd->throttle.nr_held, 1);
	assert_int_equal(vbd_pause(vbd, false, ignore, NULL, &text), 0);
	run();
	assert_int_equal(vbd->state, VBD_PAUSED);
	expect(6, BLKIF_RSP_OKAY);
	assert_int_equal(vbd_unpause(vbd, NULL, &text), 0);
	put(BLKIF_OP_READ, 7, 1);
	push();
	assert_int_equal(vbd->throttle.nr_held, 1);	/* what the pause let go is paid for */

	vbd_throttle_set(vbd, 1000, 0, 1);
	while (!XEN_RING_NR_UNCONSUMED_RESPONSES(&front))
		run();
	expect(7, BLKIF_RSP_OKAY);
	vbd_throttle_set(vbd, 1, 0, 1);
	put(BLKIF_OP_READ, 8, 1);
	put(BLKIF_OP_READ, 9, 1);
	push();
	assert_int_equal(vbd->throttle.nr_held, 1);
	reconnect_frontend();			/* who goes does not wait */
	assert_int_equal(vbd->throttle.nr_held, 0);
}

/* Parked, with its data, and answered in the end; what comes behind it stays behind. */
static void test_stopped_by_an_error(void **state)
{
	struct error_text text = { "" };
	unsigned count;

	vbd_on_error_set(vbd, ON_ERROR_STOP);
	recorder.io_error = -EIO;
	put(BLKIF_OP_WRITE, 1, 2);
	push();
	put(BLKIF_OP_WRITE_BARRIER, 2, 1);
	push();
	put(BLKIF_OP_READ, 3, 1);
	push();
	assert_int_equal(XEN_RING_NR_UNCONSUMED_RESPONSES(&front), 0);
	expect_log("w");
	recorder.io_error = 0;
	assert_int_equal(vbd_error_resume(vbd, &count, &text), 0);
	assert_int_equal(count, 1);
	run();
	expect(1, BLKIF_RSP_OKAY);
	expect(2, BLKIF_RSP_OKAY);
	expect(3, BLKIF_RSP_OKAY);
	expect_log("wwswsr");
}

/* What waits is the guest's, which issues it again on its next connection: no answer, and it never reaches the disk. */
static void test_disconnect_while_stopped(void **state)
{
	struct error_text text = { "" };

	vbd_on_error_set(vbd, ON_ERROR_STOP);
	recorder.io_error = -EIO;
	put(BLKIF_OP_WRITE, 1, 2);
	put(BLKIF_OP_WRITE, 2, 1);
	push();
	put(BLKIF_OP_READ, 3, 1);		/* held untried */
	push();
	assert_int_equal(vbd_disconnect(vbd, 1, 51712, ignore, NULL, &text), 0);
	run();
	assert_null(vbd->connections);
	assert_int_equal(XEN_RING_NR_UNCONSUMED_RESPONSES(&front), 0);
	assert_int_equal(vbd->errors.waiting, 0);
	recorder.io_error = 0;
	munmap(guest, GUEST_PAGES * PAGE);
	close(to_backend);
	connect_frontend();
	put(BLKIF_OP_WRITE, 1, 2);		/* finds out that all is well again: nothing else would try */
	push();
	assert_true(vbd->errors.stopped);
	assert_int_equal(vbd_error_go_on(vbd), 1);
	run();
	expect(1, BLKIF_RSP_OKAY);
	expect_log("www");
}

static void test_failed_flush_is_reported(void **state)
{
	recorder.sync_error = -EIO;
	put(BLKIF_OP_FLUSH_DISKCACHE, 1, 0);
	push();
	expect(1, BLKIF_RSP_ERROR);
	/* and what could not be made durable then is not durable now, whatever the device says next */
	recorder.sync_error = 0;
	put(BLKIF_OP_FLUSH_DISKCACHE, 2, 0);
	push();
	expect(2, BLKIF_RSP_ERROR);
}

static void test_barrier_is_flush_write_flush(void **state)
{
	put(BLKIF_OP_WRITE_BARRIER, 1, 1);
	push();
	expect(1, BLKIF_RSP_OKAY);
	expect_log("sws");
}

static void test_flush_with_data_is_flush_write_flush(void **state)
{
	put(BLKIF_OP_FLUSH_DISKCACHE, 1, 2);
	push();
	expect(1, BLKIF_RSP_OKAY);
	expect_log("sws");
}

static void test_failed_barrier_is_reported(void **state)
{
	recorder.sync_error = -EIO;
	put(BLKIF_OP_WRITE_BARRIER, 1, 1);
	push();
	expect(1, BLKIF_RSP_ERROR);
	expect_log("s");	/* nothing is written when what was before it is not safe */
}

/* A barrier waits for what is in flight, and what follows waits for it. */
static void test_barrier_order(void **state)
{
	recorder.hold = true;
	put(BLKIF_OP_WRITE, 1, 1);
	put(BLKIF_OP_WRITE_BARRIER, 2, 1);
	put(BLKIF_OP_READ, 3, 1);
	push();
	expect_log("w");
	recorder.hold = false;
	run();
	expect(1, BLKIF_RSP_OKAY);
	expect(2, BLKIF_RSP_OKAY);
	expect(3, BLKIF_RSP_OKAY);
	expect_log("wswsr");
}

static void note(void *arg, int error)
{
	*(int *)arg = error;
}

/* A pause waits for what is in flight, flushes, and only then is done. */
static void test_pause_flushes(void **state)
{
	struct error_text text = { "" };
	int result = 1;

	recorder.hold = true;
	put(BLKIF_OP_WRITE, 1, 1);
	push();
	assert_int_equal(vbd_pause(vbd, false, note, &result, &text), 0);
	put(BLKIF_OP_WRITE, 2, 1);
	push();
	assert_int_equal(result, 1);
	expect_log("w");
	recorder.hold = false;
	run();
	assert_int_equal(result, 0);
	assert_int_equal(vbd->state, VBD_PAUSED);
	expect_log("ws");
	expect(1, BLKIF_RSP_OKAY);
	assert_int_equal(XEN_RING_NR_UNCONSUMED_RESPONSES(&front), 0);
	assert_int_equal(vbd_unpause(vbd, NULL, &text), 0);
	run();
	expect(2, BLKIF_RSP_OKAY);
	expect_log("wsw");
}

/* If that flush fails, the guest's own next one has to fail too: the image stays open and the disk runs on. */
static void test_pause_with_failing_flush(void **state)
{
	struct error_text text = { "" };
	int result = 1;

	recorder.sync_error = -EIO;
	assert_int_equal(vbd_pause(vbd, false, note, &result, &text), 0);
	run();
	assert_int_equal(result, -EIO);
	assert_int_equal(vbd->state, VBD_RUNNING);
	recorder.sync_error = 0;
	put(BLKIF_OP_FLUSH_DISKCACHE, 1, 0);
	push();
	expect(1, BLKIF_RSP_ERROR);
}

/* A write, a pause whose flush fails, and the disk running again on a device that is well. */
static void lose_writes(void)
{
	struct error_text text = { "" };
	int result = 1;

	put(BLKIF_OP_WRITE, 1, 1);
	push();
	expect(1, BLKIF_RSP_OKAY);
	recorder.sync_error = -EIO;
	assert_int_equal(vbd_pause(vbd, true, note, &result, &text), 0);
	run();
	assert_int_equal(result, 0);
	assert_int_equal(vbd->state, VBD_PAUSED);
	assert_true(vbd->lost);
	recorder.sync_error = 0;
	if (vbd_unpause(vbd, NULL, &text))
		fail_msg("%s", text.text);
	run();
}

/* Forced, the pause goes through, and the guest learns from its next flush that writes were lost, once. */
static void test_forced_pause_tells_the_loss(void **state)
{
	struct error_text text = { "" };
	int result = 1;

	lose_writes();
	put(BLKIF_OP_WRITE, 2, 1);
	push();
	expect(2, BLKIF_RSP_OKAY);
	put(BLKIF_OP_FLUSH_DISKCACHE, 3, 0);
	push();
	expect(3, BLKIF_RSP_ERROR);
	expect_log("wsw");
	put(BLKIF_OP_FLUSH_DISKCACHE, 4, 0);
	push();
	expect(4, BLKIF_RSP_OKAY);
	/* and a pause works again, without force */
	assert_int_equal(vbd_pause(vbd, false, note, &result, &text), 0);
	run();
	assert_int_equal(result, 0);
	assert_false(vbd->lost);
	assert_int_equal(vbd_unpause(vbd, NULL, &text), 0);
	put(BLKIF_OP_FLUSH_DISKCACHE, 5, 0);
	push();
	expect(5, BLKIF_RSP_OKAY);
}

/* A barrier is a flush as well, and what it would have written is not written. */
static void test_forced_pause_fails_a_barrier(void **state)
{
	lose_writes();
	put(BLKIF_OP_WRITE_BARRIER, 2, 1);
	push();
	expect(2, BLKIF_RSP_ERROR);
	expect_log("ws");
}

/* After a second pause, with another image, and with another frontend: it is still to be told. */
static void test_loss_outlives_image_and_frontend(void **state)
{
	struct error_text text = { "" };
	char target[80];
	int result = 1;

	lose_writes();
	assert_int_equal(vbd_pause(vbd, false, note, &result, &text), 0);
	run();
	assert_int_equal(result, 0);
	snprintf(target, sizeof(target), "null:%u", DISK_BYTES);
	if (vbd_unpause(vbd, target, &text))
		fail_msg("%s", text.text);
	reconnect_frontend();
	put(BLKIF_OP_FLUSH_DISKCACHE, 1, 0);
	push();
	expect(1, BLKIF_RSP_ERROR);
	/* but who comes when it has been told hears nothing of it */
	reconnect_frontend();
	put(BLKIF_OP_FLUSH_DISKCACHE, 1, 0);
	push();
	expect(1, BLKIF_RSP_OKAY);
}

/* Does what the engine was given change when the guest changes its page? */
static bool engine_has_guest_page(uint8_t operation)
{
	const uint8_t *data;
	bool shared;

	memset(guest + PAGE, 'a', PAGE);
	recorder.hold = true;
	put(operation, 1, 1);
	push();
	assert_int_equal(recorder.nr_held, 1);
	assert_int_equal(recorder.held[0]->iovcnt, 1);
	data = recorder.held[0]->iov->iov_base;
	if (operation == BLKIF_OP_WRITE)
		assert_int_equal(data[0], 'a');
	memset(guest + PAGE, 'b', PAGE);
	shared = data[0] == 'b' && data[PAGE - 1] == 'b';
	recorder.hold = false;
	run();
	expect(1, BLKIF_RSP_OKAY);
	return shared;
}

/* To be written, a guest's page goes to the device only where that is done with it in time, or somebody vouches for it. */
static void test_whose_pages_are_written(void **state)
{
	static const struct { bool persistent, stable, safe, shared; } cases[] = {
		{ true, false, false, false }, { true, true, false, true }, { true, false, true, true },
		{ false, true, true, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		disconnect_frontend();
		connect_frontend_with(cases[i].persistent, cases[i].safe);
		vbd->geometry.pages_stable = cases[i].stable;
		if (engine_has_guest_page(BLKIF_OP_WRITE) != cases[i].shared)
			fail_msg("write, case %zu", i);
		if (engine_has_guest_page(BLKIF_OP_READ) != cases[i].persistent)
			fail_msg("read, case %zu", i);
	}
}

/* A frontend that disconnects with requests at the disk is let go only when they are back; all who asked are told. */
static void test_disconnect_drains(void **state)
{
	struct error_text text = { "" };
	int result = 1, second = 1;

	recorder.hold = true;
	put(BLKIF_OP_READ, 1, 1);
	push();
	assert_int_equal(vbd_disconnect(vbd, 1, 51712, note, &result, &text), 0);
	run();
	assert_int_equal(result, 1);
	assert_non_null(vbd->connections);
	assert_int_equal(vbd_disconnect(vbd, 1, 51712, note, &second, &text), 0);
	recorder.hold = false;
	run();
	assert_int_equal(result, 0);
	assert_int_equal(second, 0);
	assert_null(vbd->connections);
}

static struct block_request *without_room[4];
static unsigned nr_without_room;

static void full_submit(void *handle, struct block_request *req)
{
	if (req->op != BLOCK_WRITE) {
		driver_aio.submit(handle, req);
		return;
	}
	without_room[nr_without_room++] = req;
	req->backend->waiting++;
}

static void full_give_up(void *handle)
{
	while (nr_without_room) {
		struct block_request *req = without_room[--nr_without_room];

		req->backend->waiting--;
		backend_done(req, -ENOSPC);
	}
}

static void note_write(struct block_request *req, int error)
{
	*(int *)req->owner = error;
}

static void do_nothing(struct vbd_client *client)
{
}

/* What waits for room on a full disk does not keep a frontend that goes; what another client wants waits on. */
static void test_disconnect_does_not_wait_for_room(void **state)
{
	static const struct vbd_client_ops client_ops = { .stop = do_nothing, .start = do_nothing };
	static struct driver_ops full;
	struct vbd_client other = { .ops = &client_ops };
	struct error_text text = { "" };
	int result = 1, written = 1;
	struct iovec iov = { guest + PAGE, SECTOR_SIZE };
	struct block_request req = { .op = BLOCK_WRITE, .sector = 8, .nr_sectors = 1, .iov = &iov, .iovcnt = 1,
		.done = note_write, .owner = &written };

	full = driver_aio;
	full.submit = full_submit;
	full.give_up = full_give_up;
	vbd->backend->ops = &full;
	assert_int_equal(vbd_add_client(vbd, &other), 0);
	put(BLKIF_OP_WRITE, 1, 1);
	push();
	vbd_submit(&other, &req);
	assert_int_equal(nr_without_room, 2);
	assert_int_equal(vbd_disconnect(vbd, 1, 51712, note, &result, &text), 0);
	run();
	assert_int_equal(result, 0);
	assert_null(vbd->connections);
	assert_int_equal(written, 1);
	vbd->backend->ops = &driver_aio;	/* there is room */
	while (written == 1)
		run();
	assert_int_equal(written, 0);
	vbd_remove_client(&other);
}

static unsigned count_lines(int fd)
{
	char text[16384];
	ssize_t length = pread(fd, text, sizeof(text), 0);
	unsigned lines = 0;

	assert_true(length >= 0);
	for (ssize_t i = 0; i < length; i++)
		lines += text[i] == '\n';
	return lines;
}

/* A guest may come and go as often as it likes, and may not fill the host's log with it. */
static void note_snapshot(struct vbd_snapshot *snapshot, int error)
{
	*(int *)snapshot->owner = error;
}

/* A raw disk that drains for its first snapshot is not paused for somebody else, whom the snapshot's end would not ask. */
static void test_pause_beside_a_snapshot(void **state)
{
	int result = 1;
	struct vbd_snapshot snapshot = { .command = { .op = SNAPSHOT_FREEZE }, .store = "/nowhere", .lease_ms = 60000,
		.holder = &result, .done = note_snapshot, .owner = &result };
	struct error_text text = { "" };

	recorder.hold = true;
	put(BLKIF_OP_WRITE, 1, 1);
	push();
	vbd_snapshot(vbd, &snapshot);
	assert_int_equal(vbd->state, VBD_DRAINING);
	vbd_release_freeze(vbd, &result);	/* whoever takes it has gone */
	assert_int_equal(vbd_pause(vbd, false, ignore, NULL, &text), -EBUSY);
	recorder.hold = false;
	run();
	expect(1, BLKIF_RSP_OKAY);
	assert_int_equal(result, -ETIMEDOUT);
	assert_int_equal(vbd->state, VBD_RUNNING);
	assert_int_equal(vbd_pause(vbd, false, ignore, NULL, &text), 0);
	run();
	assert_int_equal(vbd->state, VBD_PAUSED);
	assert_int_equal(vbd_unpause(vbd, NULL, &text), 0);
}

static void test_log_of_reconnects(void **state)
{
	enum { TIMES = 30 };
	int log = memfd_create("log", MFD_CLOEXEC), stderr_before = dup(STDERR_FILENO);
	uint64_t start = loop_clock();
	unsigned seconds;

	assert_true(dup2(log, STDERR_FILENO) >= 0);
	for (int i = 0; i < TIMES; i++)
		reconnect_frontend();
	assert_true(dup2(stderr_before, STDERR_FILENO) >= 0);
	close(stderr_before);
	/* ten lines a second and one that says how many there were besides, in every second that was touched */
	seconds = (loop_clock() - start) / 1000000000 + 2;
	assert_in_range(count_lines(log), 0, 11 * seconds);
	close(log);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_flush_is_a_sync, setup, teardown),
		cmocka_unit_test_setup_teardown(test_throttle, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stopped_by_an_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disconnect_while_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_flush_is_reported, setup, teardown),
		cmocka_unit_test_setup_teardown(test_barrier_is_flush_write_flush, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flush_with_data_is_flush_write_flush, setup, teardown),
		cmocka_unit_test_setup_teardown(test_failed_barrier_is_reported, setup, teardown),
		cmocka_unit_test_setup_teardown(test_barrier_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause_flushes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause_with_failing_flush, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forced_pause_tells_the_loss, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forced_pause_fails_a_barrier, setup, teardown),
		cmocka_unit_test_setup_teardown(test_loss_outlives_image_and_frontend, setup, teardown),
		cmocka_unit_test_setup_teardown(test_whose_pages_are_written, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disconnect_drains, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disconnect_does_not_wait_for_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pause_beside_a_snapshot, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log_of_reconnects, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
