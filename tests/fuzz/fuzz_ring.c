/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fuzz_ring.c - a frontend that writes arbitrary data to its ring, to the pages
 * that its requests name, and to the indices. The real request path over the
 * stand-in transport, on a disk of zeros.
 *
 * An input is a byte of switches, then actions of a byte each, below 0xf0
 * modulo 6, followed by what they need:
 *   0  a request into the next slot: length (1), bytes; counted, not announced
 *   1  bytes into the guest's memory: page (1), offset (2), length (1), bytes
 *   2  announce the requests
 *   3  the producer index: 4 bytes
 *   4  let the backend run
 *   5  pause and resume
 * From 0xf0 on: a ring full of requests that are nearly right, made from the
 * next two bytes, then 2 and 4.
 *
 * At the end it prints the number of answered requests.
 */
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
#include <xen/io/protocols.h>

#include "blkif.h"
#include "fuzz_input.h"
#include "log.h"
#include "metrics.h"
#include "vbd.h"

#define PAGE 4096u
#define PAGES 12u			/* the ring's, then data */
#define TURNS 12			/* of the disk, when the backend runs */
#define STORM 0xf0

static struct loop *loop;
static struct engine *engine;
static struct vbd *vbd;
static uint8_t *guest;
static int to_backend;
static unsigned turns;
static uint32_t produced;
static unsigned entry_size, slots;

/* Run the loop without sleeping. */
static bool turn(void *arg)
{
	if (!--turns)
		loop_quit(loop);
	return true;
}

static void run(void)
{
	turns = TURNS;
	must(loop_run(loop));
}

static void note_end(void *arg, int error)
{
	*(bool *)arg = true;
}

static char directory[] = "/tmp/tapsnap-fuzz.XXXXXX";

/* Print the number of requests of all past frontends, which check adds up; and remove the disk's socket. */
static void end(void)
{
	unsigned long long count = vbd->past.invalid;
	char path[128];

	for (unsigned op = 0; op < BLOCK_NR_OPS; op++)
		count += vbd->past.ops[op].completed;
	printf("counted %llu requests\n", count);
	fflush(stdout);
	snprintf(path, sizeof(path), NBD_SOCKET_FORMAT, directory, (int)getpid(), vbd->minor);
	unlink(path);
	rmdir(directory);
	metrics_remove_directory();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct driver_options options = { 0 };
	struct error_text error = { "" };

	if (!mkdtemp(directory))
		abort();
	setenv(RUN_DIR_ENV, directory, 1);
	log_open("fuzz", true);
	must(loop_create(&loop));
	must(loop_add_prepare(loop, &(struct loop_source *){ NULL }, turn, NULL));
	must(engine_open(&engine, "sync", 64));
	must(vbd_create(&vbd, loop, engine, 0));
	must(vbd_open(vbd, "null:1G", &options, &error));
	must(atexit(end));
	return 0;
}

static bool connect_frontend(uint8_t switches)
{
	static const char *const protocols[] = { XEN_IO_PROTO_ABI_X86_64, XEN_IO_PROTO_ABI_X86_32, XEN_IO_PROTO_ABI_ARM, NULL };
	struct blkif_params params = {
		.shm = true, .domid = 1, .devid = 51712, .nr_queues = 1, .ring_pages = switches & 4 ? 2 : 1, .nr_fds = 3,
		.protocol = protocols[switches & 3], .persistent = switches & 8, .direct_io_safe = switches & 16,
		.read_only = switches & 32,
	};
	int memfd = memfd_create("guest", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	const struct blkif *blkif;
	struct error_text error = { "" };

	must(ftruncate(memfd, PAGES * PAGE));
	must(fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	guest = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (guest == MAP_FAILED)
		abort();
	for (unsigned i = 0; i < params.ring_pages; i++)
		params.queues[0].refs[i] = i;
	params.fds[0] = memfd;
	params.fds[1] = eventfd(0, 0);
	params.fds[2] = eventfd(0, EFD_NONBLOCK);
	to_backend = dup(params.fds[1]);
	produced = 0;
	must(blkif_connect(vbd, &params, &error));
	blkif = (const struct blkif *)vbd->clients;	/* the newest */
	entry_size = blkif->abi->entry_size;
	slots = blkif->queues[0].ring.size;
	return true;
}

static void put_request(struct input *input)
{
	const uint8_t *at;
	size_t length = bytes(input, next(input) % (entry_size + 1), &at);
	uint8_t *slot = guest + offsetof(struct blkif_sring, ring) + (size_t)(produced++ & (slots - 1)) * entry_size;

	memset(slot, 0, entry_size);
	memcpy(slot, at, length);
}

static void put_memory(struct input *input)
{
	size_t page = next(input) % PAGES, offset = next(input), length;
	const uint8_t *at;

	offset = (offset | (size_t)next(input) << 8) % PAGE;
	length = bytes(input, next(input), &at);
	memcpy(guest + page * PAGE + offset, at, length < PAGE - offset ? length : PAGE - offset);
}

static void announce(uint32_t index)
{
	((struct blkif_sring *)guest)->req_prod = index;
	must(eventfd_write(to_backend, 1));
}

static void pause_and_go_on(void)
{
	struct error_text error = { "" };
	bool paused = false;

	must(vbd_pause(vbd, false, note_end, &paused, &error));
	while (!paused)
		run();
	must(vbd_unpause(vbd, NULL, &error));
}

static uint32_t random_below(uint32_t *state, uint32_t range)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state % range;
}

/* In the layout of x86_64; the other ABIs read something else in it. */
static void put_nearly_right(uint32_t *state)
{
	uint8_t *slot = guest + offsetof(struct blkif_sring, ring) + (size_t)(produced++ & (slots - 1)) * entry_size;
	blkif_request_t request = { .operation = random_below(state, 7), .nr_segments = 1 + random_below(state, 12),
				    .sector_number = random_below(state, 3u << 20), .id = produced };

	for (unsigned i = 0; i < BLKIF_MAX_SEGMENTS_PER_REQUEST; i++)
		request.seg[i] = (struct blkif_request_segment){ .gref = random_below(state, PAGES + 1),
								 .first_sect = random_below(state, 5),
								 .last_sect = random_below(state, 9) };
	memcpy(slot, &request, entry_size < sizeof(request) ? entry_size : sizeof(request));
}

static void storm(struct input *input)
{
	uint32_t state = 1 + next(input);

	state |= (uint32_t)next(input) << 16;
	for (unsigned i = 0; i < slots; i++)
		put_nearly_right(&state);
	announce(produced);
	run();
}

static void act(struct input *input)
{
	uint8_t action = next(input);
	uint32_t index;

	if (action >= STORM) {
		storm(input);
		return;
	}
	switch (action % 6) {
	case 0:
		put_request(input);
		break;
	case 1:
		put_memory(input);
		break;
	case 2:
		announce(produced);
		break;
	case 3:
		index = next(input);
		index |= (uint32_t)next(input) << 8 | (uint32_t)next(input) << 16 | (uint32_t)next(input) << 24;
		announce(index);
		break;
	case 4:
		run();
		break;
	case 5:
		pause_and_go_on();
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	struct error_text error = { "" };
	bool gone = false;

	connect_frontend(next(&input));
	while (input.size)
		act(&input);
	announce(produced);
	run();
	must(blkif_disconnect(vbd, 1, 51712, note_end, &gone, &error));
	while (!gone)
		run();		/* a hang is a finding, too */
	munmap(guest, PAGES * PAGE);
	close(to_backend);
	return 0;
}
