/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * life.c - scenarios: frontends of every shape that connect, close, start
 * over, vanish, and do I/O all the time.
 *
 * After each the tapdisk has to have given back what it had of the frontend:
 * a grant that stays mapped pins a page of the guest.
 */
#include "frontend.h"

/* The backend's nodes before InitWait. */
static unsigned max_queues(const struct disk *disk)
{
	unsigned queues = disk_read_number(disk->backend, "multi-queue-max-queues");

	if (!queues)
		fail("the backend has no multi-queue-max-queues");
	return queues;
}

static void use_shape(struct disk *disk, struct blkfront_options shape)
{
	struct resources before = disk_resources(disk);
	struct blkfront *front = disk_connect(disk, shape);
	struct load load;

	if (blkfront_geometry(front)->sectors != disk->extents * EXTENT_BLOCKS * BLOCK_SECTORS)
		fail("a disk of %llu sectors", (unsigned long long)blkfront_geometry(front)->sectors);
	load_init(&load, disk, front, shape.queues);
	load.indirect = blkfront_geometry(front)->max_indirect_segments;
	load_run(&load, 3 * SLOTS);
	load_drain(&load);
	must(blkfront_sync(front), "flush");
	disk_disconnect(disk, front);
	disk_same_resources(disk, before);
}

/* Every ABI with every size of the ring; one queue and the maximum, with and without persistent grants, in turn. */
void scenario_shapes(struct disk *disk)
{
	static const enum blkfront_abi abis[] = { BLKFRONT_NATIVE, BLKFRONT_X86_32, BLKFRONT_X86_64 };
	unsigned most = max_queues(disk);

	for (unsigned i = 0; i < 15; i++) {
		struct blkfront_options shape = {
			.abi = abis[i % 3], .ring_page_order = i % 5, .queues = i % 2 ? most : 1, .persistent = i / 2 % 2,
			.start_index = i % 4 ? 0 : UINT32_MAX - 20,
		};

		use_shape(disk, shape);
	}
	disk_verify_image(disk);
}

/* ---- a new ring while the old one is connected ---- */

enum farewell { FREE_BEFORE, FREE_AFTER };

static struct blkfront *prepare_next(struct disk *disk, struct load *load, unsigned round)
{
	struct blkfront_options shape = {
		.abi = round % 2 ? BLKFRONT_X86_32 : BLKFRONT_NATIVE, .ring_page_order = round % 3, .queues = load->queues,
		.persistent = round / 2 % 2,
	};

	load_fill(load);
	return disk_prepare(disk, shape);
}

/* kexec, crash kernel: back to Initialising without closing, with requests in flight. */
static void start_over(struct disk *disk, struct load *load, unsigned round, enum farewell farewell)
{
	struct blkfront *old = load->front, *next = prepare_next(disk, load, round);

	if (farewell == FREE_BEFORE)
		blkfront_vanish(old);
	must(blkfront_xen_set_state(next, BLKFRONT_INITIALISING), "state Initialising");
	must(blkfront_xen_wait_backend(next, BLKFRONT_INIT_WAIT, TIMEOUT_MS), "backend InitWait");
	must(blkfront_xen_publish(next), "publish");
	must(blkfront_xen_finish(next), "backend Connected");
	load_move(load, next, load->queues);
	if (farewell == FREE_AFTER)
		blkfront_vanish(old);
}

/*
 * Resume: new nodes and Initialised at once, and the requests again without waiting; the backend is
 * Connected all the time, so it may find the frontend Connected before it has looked at all.
 */
static void resume(struct disk *disk, struct load *load, unsigned round, enum farewell farewell)
{
	struct blkfront *old = load->front, *next = prepare_next(disk, load, round);

	if (farewell == FREE_BEFORE)
		blkfront_vanish(old);
	must(blkfront_xen_publish(next), "publish");
	load_move(load, next, load->queues);
	if (round % 4 < 2)
		must(blkfront_xen_finish(next), "backend Connected");
	load_run(load, 2 * SLOTS);
	if (round % 4 >= 2)
		must(blkfront_xen_finish(next), "backend Connected");
	if (farewell == FREE_AFTER)
		blkfront_vanish(old);
}

/*
 * Again and again, faster than the backend can react. The old grants stay until it has: if a page took
 * over the grant reference that a forgotten request names, it would get that request's data.
 */
static void stumble(struct disk *disk, struct load *load, unsigned round)
{
	enum { TIMES = 4 };
	struct blkfront *old[TIMES], *next;

	for (unsigned i = 0; i < TIMES; i++) {
		next = prepare_next(disk, load, round + i);
		if (i % 2)
			must(blkfront_xen_set_state(next, BLKFRONT_INITIALISING), "state Initialising");
		must(blkfront_xen_publish(next), "publish");
		old[i] = load->front;
		load_move(load, next, load->queues);
	}
	load_run(load, 2 * SLOTS);
	must(blkfront_xen_finish(load->front), "backend Connected");
	for (unsigned i = 0; i < TIMES; i++)
		blkfront_vanish(old[i]);
}

void scenario_restart(struct disk *disk)
{
	struct resources before = disk_resources(disk);
	unsigned queues = max_queues(disk);
	struct load load;

	load_init(&load, disk, disk_connect(disk, (struct blkfront_options){ .queues = queues }), queues);
	for (unsigned round = 0; round < 4; round++) {
		load_run(&load, SLOTS);
		start_over(disk, &load, round, round % 2 ? FREE_AFTER : FREE_BEFORE);
		load_run(&load, SLOTS);
		resume(disk, &load, round + 1, round % 2 ? FREE_BEFORE : FREE_AFTER);
		load_run(&load, SLOTS);
		stumble(disk, &load, round);
	}
	load_drain(&load);
	disk_no_error(disk);
	disk_disconnect(disk, load.front);
	disk_same_resources(disk, before);
	disk_verify_image(disk);
}

/* ---- closing ---- */

/* The frontend goes to Closing and still does I/O for a while. */
static void close_slowly(struct disk *disk, struct load *load)
{
	must(blkfront_xen_set_state(load->front, BLKFRONT_CLOSING), "state Closing");
	must(blkfront_xen_wait_backend(load->front, BLKFRONT_CLOSING, TIMEOUT_MS), "backend Closing");
	load_run(load, 4 * SLOTS);
	load_drain(load);
	must(blkfront_xen_set_state(load->front, BLKFRONT_CLOSED), "state Closed");
	must(blkfront_xen_wait_backend(load->front, BLKFRONT_CLOSED, TIMEOUT_MS), "backend Closed");
	blkfront_vanish(load->front);
}

/* The toolstack unplugs the disk while the frontend is too busy to notice, then too busy to close. */
static void unplug_slowly(struct disk *disk, struct load *load)
{
	disk_write_node(disk->backend, "online", "0");
	disk_write_node(disk->backend, "state", "5");
	load_run(load, 4 * SLOTS);
	disk_wait_backend(disk, BLKFRONT_CLOSING);
	close_slowly(disk, load);
}

void scenario_closing(struct disk *disk)
{
	struct resources before = disk_resources(disk);
	struct load load;

	load_init(&load, disk, disk_connect(disk, (struct blkfront_options){ .persistent = true }), 1);
	step("Closing, and I/O continues; Closed; again from Initialising");
	load_run(&load, SLOTS);
	close_slowly(disk, &load);
	disk_same_resources(disk, before);
	disk_write_node(disk->frontend, "state", "1");
	disk_wait_backend(disk, BLKFRONT_INIT_WAIT);

	step("again from Closed, straight to Initialised");
	load_move(&load, disk_connect(disk, (struct blkfront_options){ .persistent = true }), 1);
	load_run(&load, SLOTS);
	close_slowly(disk, &load);
	load.front = disk_prepare(disk, (struct blkfront_options){ 0 });
	must(blkfront_xen_publish(load.front), "publish");
	must(blkfront_xen_finish(load.front), "backend Connected");

	step("unplugged while it is busy");
	load_run(&load, SLOTS);
	unplug_slowly(disk, &load);
	disk_same_resources(disk, before);

	step("plugged in again");
	disk_remove_frontend(disk);
	disk_add(disk);
	use_shape(disk, (struct blkfront_options){ .queues = 1 });
	disk_verify_image(disk);
}

/* ---- vanishing ---- */

/* A forced destroy: the frontend's nodes go first, with requests in flight. */
void scenario_vanish(struct disk *disk)
{
	struct resources before = disk_resources(disk);
	struct load load;

	load_init(&load, disk, disk_connect(disk, (struct blkfront_options){ .queues = 1 }), 1);
	for (unsigned round = 0; round < 4; round++) {
		struct blkfront *old = load.front;

		load_run(&load, SLOTS);
		load_fill(&load);
		if (round % 2)
			blkfront_vanish(old);
		disk_remove_frontend(disk);
		disk_wait_backend(disk, BLKFRONT_CLOSED);
		disk_same_resources(disk, before);
		if (!(round % 2))
			blkfront_vanish(old);
		check_witnesses();
		disk_add(disk);
		load_move(&load, disk_connect(disk, (struct blkfront_options){ .persistent = round % 3 }), 1);
	}
	load_run(&load, SLOTS);
	load_drain(&load);
	disk_disconnect(disk, load.front);
	disk_same_resources(disk, before);
	disk_verify_image(disk);
}

/* ---- the same ring all the while ---- */

/* A failed save, a checkpoint: nothing changes in xenstore, and the ring stays. COMMAND runs meanwhile. */
void scenario_quiet(struct disk *disk)
{
	struct resources before = disk_resources(disk);
	struct load load;

	load_init(&load, disk, disk_connect(disk, (struct blkfront_options){ .persistent = true, .ring_page_order = 1 }), 1);
	load_run(&load, SLOTS);
	load_fill(&load);
	run_command();
	load_run(&load, 4 * SLOTS);
	check_witnesses();
	load_drain(&load);
	disk_disconnect(disk, load.front);
	disk_same_resources(disk, before);
	disk_verify_image(disk);
}

/* COMMAND enlarges the disk: `sectors` changes, then the backend's state is written once more. */
void scenario_resize(struct disk *disk)
{
	struct blkfront *front = disk_connect(disk, (struct blkfront_options){ .persistent = true });
	uint64_t sectors = blkfront_geometry(front)->sectors, grown;
	struct load load;

	load_init(&load, disk, front, 1);
	load_run(&load, SLOTS);
	run_command();
	do {
		must(blkfront_xen_wait_written(front, TIMEOUT_MS), "the backend's state written again");
		must(blkfront_xen_learn_geometry(front), "geometry");
		grown = blkfront_geometry(front)->sectors;
	} while (grown == sectors);
	disk->extents = grown / (EXTENT_BLOCKS * BLOCK_SECTORS);
	if (grown < sectors || disk->extents > MAX_EXTENTS)
		fail("from %llu to %llu sectors", (unsigned long long)sectors, (unsigned long long)grown);
	load_run(&load, 6 * SLOTS);
	load_drain(&load);
	disk_disconnect(disk, front);
	disk_verify_image(disk);
}
