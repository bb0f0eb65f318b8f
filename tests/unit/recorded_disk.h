/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * recorded_disk.h - a disk in the test's process, over an engine that records
 * its operations and fails them on demand, and a hand-made frontend in a
 * memfd.
 */
#ifndef TESTS_RECORDED_DISK_H
#define TESTS_RECORDED_DISK_H

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

#include "blkif_frontend.h"
#include "metrics.h"
#include "transport.h"
#include "vbd.h"

#define PAGE 4096u
#define DISK_BYTES (1u << 20)
#define GUEST_PAGES 8			/* the ring, then data */

/* An engine that records 'r', 'w', 's' in order, and fails the syncs, or the others. */
static struct recorder {
	struct engine engine;
	char log[64];
	unsigned length;
	int sync_error, io_error;
	struct engine_io *held[64];
	unsigned nr_held;
	bool hold;			/* complete nothing for now */
} recorder;

static inline void recorder_queue(struct engine *engine, struct engine_io *io)
{
	recorder.log[recorder.length++] = io->op == ENGINE_SYNC ? 's' : io->op == ENGINE_WRITE ? 'w' : 'r';
	recorder.held[recorder.nr_held++] = io;
}

static inline int recorder_commit(struct engine *engine)
{
	return 0;
}

static inline int recorder_reap(struct engine *engine)
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

static inline int recorder_fd(struct engine *engine)
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
static bool releasing;			/* since the last turn */

/* The last hook: it sees when a thread closes the image. */
static inline bool reap(void *arg)
{
	releasing |= vbd->state == VBD_RELEASING;
	return engine_reap(&recorder.engine) > 0;
}

static inline void end_turn(void *arg)
{
	if (releasing)
		assert_int_equal(loop_add_timer(loop, &turn, 20, end_turn, NULL), 0);
	else
		loop_quit(loop);
	releasing = vbd->state == VBD_RELEASING;
}

/* Run until nothing is ready: the timer expires after all events that are ready now, but not while a thread closes the image. */
static inline void run(void)
{
	assert_int_equal(loop_add_timer(loop, &turn, 20, end_turn, NULL), 0);
	assert_int_equal(loop_run(loop), 0);
}

static inline void connect_frontend_with(bool persistent, bool direct_io_safe)
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
	if (blkif_connect(vbd, &params, &text))
		fail_msg("%s", text.text);
}

static inline void connect_frontend(void)
{
	connect_frontend_with(false, false);
}

static inline void ignore(void *arg, int error)
{
}

static inline void disconnect_frontend(void)
{
	struct error_text text = { "" };

	assert_int_equal(blkif_disconnect(vbd, 1, 51712, ignore, NULL, &text), 0);
	run();
	munmap(guest, GUEST_PAGES * PAGE);
	close(to_backend);
}

static inline void reconnect_frontend(void)
{
	disconnect_frontend();
	connect_frontend();
}

static inline int setup(void **state)
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

static inline int teardown(void **state)
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
	metrics_remove_directory();
	return 0;
}

static inline void put(uint8_t operation, uint64_t id, unsigned segments)
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

static inline void push(void)
{
	__atomic_store_n(&front.sring->req_prod, front.req_prod_pvt, __ATOMIC_RELEASE);
	assert_int_equal(eventfd_write(to_backend, 1), 0);
	run();
}

/* The next response must have this @id and @status. */
static inline void expect(uint64_t id, int16_t status)
{
	blkif_response_t *response = RING_GET_RESPONSE(&front, front.rsp_cons);

	assert_true(XEN_RING_NR_UNCONSUMED_RESPONSES(&front) > 0);
	front.rsp_cons++;
	assert_int_equal(response->id, id);
	assert_int_equal(response->status, status);
}

static inline void expect_log(const char *log)
{
	recorder.log[recorder.length] = 0;
	assert_string_equal(recorder.log, log);
}

static inline void note(void *arg, int error)
{
	*(int *)arg = error;
}

#define DISK_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
