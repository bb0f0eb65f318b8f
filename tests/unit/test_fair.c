/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_fair.c - a ring that is never empty does not starve another one: another
 * queue of the same frontend, another disk of the same process.
 *
 * All in one process: an engine that completes half of its I/Os each time, and
 * a frontend that refills its ring after each response, so that the ring is
 * never empty.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

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
#define DATA_PAGE 2			/* after the rings of two queues */
#define GUEST_PAGES 3
#define ENOUGH 10000			/* requests of the full ring, after which the other ring counts as starved */

struct disk {
	struct vbd *vbd;
	char path[80];
	uint8_t *guest;
	blkif_front_ring_t rings[2];
	int signals[2];
};

static char run_dir[48];
static struct loop *loop;
static struct loop_source *reaper;
static struct disk disks[2];
static blkif_front_ring_t *full, *lone;
static int full_signal;
static unsigned answered;		/* of the full ring */

static void put(blkif_front_ring_t *ring)
{
	blkif_request_t *request = RING_GET_REQUEST(ring, ring->req_prod_pvt);

	memset(request, 0, sizeof(*request));
	request->operation = BLKIF_OP_WRITE;
	request->nr_segments = 1;
	request->seg[0] = (struct blkif_request_segment){ .gref = DATA_PAGE, .first_sect = 0, .last_sect = 7 };
	ring->req_prod_pvt++;
	__atomic_store_n(&ring->sring->req_prod, ring->req_prod_pvt, __ATOMIC_RELEASE);
}

/* Every answered request is sent again at once. */
static void refill(void)
{
	unsigned before = answered;

	while (XEN_RING_NR_UNCONSUMED_RESPONSES(full)) {
		full->rsp_cons++;
		answered++;
		put(full);
	}
	if (answered != before)
		assert_int_equal(eventfd_write(full_signal, 1), 0);
	if (XEN_RING_NR_UNCONSUMED_RESPONSES(lone) || answered > ENOUGH)
		loop_quit(loop);
}

static struct eager {
	struct engine engine;
	struct engine_io *queued[256];
	unsigned count;
} eager;

static void eager_queue(struct engine *engine, struct engine_io *io)
{
	eager.queued[eager.count++] = io;
}

static int eager_commit(struct engine *engine)
{
	return 0;
}

/* Completes the older half, so that the full ring always has requests that come and end. */
static int eager_reap(struct engine *engine)
{
	unsigned count = (eager.count + 1) / 2;
	struct engine_io *done[256];

	memcpy(done, eager.queued, count * sizeof(*done));
	eager.count -= count;
	memmove(eager.queued, eager.queued + count, eager.count * sizeof(*done));
	for (unsigned i = 0; i < count; i++)
		engine_complete(engine, done[i], done[i]->op == ENGINE_SYNC ? 0 : (long)done[i]->length);
	return count;
}

static int eager_fd(struct engine *engine)
{
	return -1;
}

static const struct engine_ops eager_ops = {
	.name = "eager",
	.queue = eager_queue,
	.commit = eager_commit,
	.reap = eager_reap,
	.fd = eager_fd,
	.wait = eager_commit,
};

static bool reap(void *arg)
{
	bool some = eager_reap(&eager.engine) > 0;

	if (full)
		refill();
	return some;
}

static void connect_frontend(struct disk *disk)
{
	struct blkif_params params = { .shm = true, .domid = 1, .devid = 51712, .nr_queues = 2, .ring_pages = 1, .nr_fds = 5 };
	int memfd = memfd_create("guest", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	struct error_text text = { "" };

	assert_int_equal(ftruncate(memfd, GUEST_PAGES * PAGE), 0);
	assert_int_equal(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	disk->guest = mmap(NULL, GUEST_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	assert_ptr_not_equal(disk->guest, MAP_FAILED);
	params.fds[0] = memfd;
	for (unsigned i = 0; i < 2; i++) {
		XEN_FRONT_RING_INIT(&disk->rings[i], (blkif_sring_t *)(disk->guest + i * PAGE), PAGE);
		params.queues[i].refs[0] = i;
		params.queues[i].port = i;
		params.fds[1 + 2 * i] = eventfd(0, 0);
		params.fds[2 + 2 * i] = eventfd(0, 0);
		disk->signals[i] = dup(params.fds[1 + 2 * i]);
	}
	if (blkif_connect(disk->vbd, &params, &text))
		fail_msg("%s", text.text);
}

static void disk_open(struct disk *disk, int minor)
{
	struct driver_options options = { .shared = true };
	struct error_text text = { "" };
	char target[100];
	int fd;

	snprintf(disk->path, sizeof(disk->path), "%s/disk%d", run_dir, minor);
	fd = open(disk->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
	close(fd);
	assert_int_equal(vbd_create(&disk->vbd, loop, &eager.engine, minor), 0);
	snprintf(target, sizeof(target), "aio:%s", disk->path);
	if (vbd_open(disk->vbd, target, &options, &text))
		fail_msg("%s", text.text);
	connect_frontend(disk);
}

static int setup(void **state)
{
	memset(&eager, 0, sizeof(eager));
	eager.engine.ops = &eager_ops;
	answered = 0;
	full = lone = NULL;
	strcpy(run_dir, "/var/tmp/tapsnap-fair.XXXXXX");
	assert_non_null(mkdtemp(run_dir));
	setenv(RUN_DIR_ENV, run_dir, 1);
	assert_int_equal(loop_create(&loop), 0);
	assert_int_equal(loop_add_prepare(loop, &reaper, reap, NULL), 0);
	disk_open(&disks[0], 0);
	disk_open(&disks[1], 1);
	return 0;
}

static void disk_closed(void *arg, int error)
{
	unsigned *open = arg;

	assert_int_equal(error, 0);
	if (!--*open)
		loop_quit(loop);
}

static int teardown(void **state)
{
	struct error_text text = { "" };
	unsigned open = 2;

	full = NULL;
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(vbd_close(disks[i].vbd, true, disk_closed, &open, &text), 0);
	if (open)
		assert_int_equal(loop_run(loop), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(disks[i].vbd->state, VBD_CLOSED);
		vbd_destroy(disks[i].vbd);
		munmap(disks[i].guest, GUEST_PAGES * PAGE);
		close(disks[i].signals[0]);
		close(disks[i].signals[1]);
		unlink(disks[i].path);
	}
	loop_remove(reaper);
	loop_destroy(loop);
	rmdir(run_dir);
	metrics_remove_directory();
	return 0;
}

/* After the full ring has been served for a while, one request comes on the other. */
static void run_beside(blkif_front_ring_t *busy, int busy_signal, blkif_front_ring_t *other, int other_signal)
{
	unsigned before, size = RING_SIZE(busy);

	full = busy;
	full_signal = busy_signal;
	lone = other;
	while (busy->req_prod_pvt < size)
		put(busy);
	assert_int_equal(eventfd_write(busy_signal, 1), 0);
	assert_int_equal(loop_run(loop), 0);
	assert_true(answered > ENOUGH);

	answered = 0;
	before = other->rsp_cons;
	put(other);
	assert_int_equal(eventfd_write(other_signal, 1), 0);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(other->sring->rsp_prod - before, 1);
	/* The hooks run 16 times before the loop looks for new signals; each time a ring is served at most once. */
	assert_in_range(answered, 0, 18 * size);
}

static void test_queues_of_a_frontend(void **state)
{
	run_beside(&disks[0].rings[0], disks[0].signals[0], &disks[0].rings[1], disks[0].signals[1]);
}

static void test_queues_the_other_way(void **state)
{
	run_beside(&disks[0].rings[1], disks[0].signals[1], &disks[0].rings[0], disks[0].signals[0]);
}

static void test_disks(void **state)
{
	run_beside(&disks[0].rings[0], disks[0].signals[0], &disks[1].rings[0], disks[1].signals[0]);
}

static void test_disks_the_other_way(void **state)
{
	run_beside(&disks[1].rings[0], disks[1].signals[0], &disks[0].rings[0], disks[0].signals[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_queues_of_a_frontend, setup, teardown),
		cmocka_unit_test_setup_teardown(test_queues_the_other_way, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_disks_the_other_way, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
