/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_kill.c - kill -9 of tapdisk under load: writes that a completed flush
 * covered are on the disk, a write in flight is there whole or not at all, and
 * a new tapdisk serves the same disk again.
 *
 * This proves that tapdisk answers no request before it is done. The kernel
 * outlives tapdisk, so a flush that never reached the device would go
 * unnoticed here.
 *
 * Each 4 KiB block holds its own number, the number of the write that wrote
 * it, and bytes that follow from the two. Of a block: flushed <= completed
 * <= submitted, and what is found must be from completed (hence flushed) to
 * submitted. One write a block is in flight at a time.
 *
 * TAPSNAP_SEED=<seed> repeats a round's choices; the timing still differs.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>
#include <xen/io/blkif.h>

#include "blkfront.h"
#include "protocol.h"
#include "tapctl.h"

#define BLOCK_SIZE	4096
#define NR_BLOCKS	4096		/* few enough that most are written several times */
#define DEPTH		24
#define WRITES_A_FLUSH	48
#define FLUSH_ID	DEPTH
#define ROUNDS		6
#define TIMEOUT_MS	30000

struct block {
	uint32_t submitted, completed, covered, flushed;
	bool busy;
};

static struct block blocks[NR_BLOCKS];
static int writing[DEPTH];		/* block that a data page is being written to, or -1 */
static unsigned in_flight, writes, flushes;
static bool flushing;
static char dir[] = "/var/tmp/test_kill.XXXXXX";
static char image[64];
static int tapdisk;			/* pid, 0 when there is none */
static int minor = -1;
static uint64_t seed, choices;

static uint64_t mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static unsigned random_below(unsigned limit)
{
	return mix(seed * 1000003 + choices++) % limit;
}

static void block_fill(uint64_t *words, uint32_t number, uint32_t version)
{
	unsigned i;

	words[0] = number;
	words[1] = version;
	for (i = 2; i < BLOCK_SIZE / sizeof(*words); i++)
		words[i] = mix((uint64_t)number << 32 ^ version) + i;
}

static void command(json_t *request)
{
	struct error_text text = { "" };
	struct tapctl *ctl;
	int r;

	r = tapctl_connect(&ctl, tapdisk, &text);
	if (r == 0) {
		r = tapctl_call(ctl, request, NULL, TIMEOUT_MS, &text);
		tapctl_close(ctl);
	}
	if (r)
		fail_msg("tapdisk %d: %s (%s)", tapdisk, text.text, strerror(-r));
}

static void tapdisk_start(void)
{
	struct error_text text = { "" };

	if (minor < 0)
		minor = tapctl_minor_allocate(-1, &text);
	if (minor < 0)
		fail_msg("allocate: %s", text.text);
	tapdisk = tapctl_spawn(&text);
	if (tapdisk < 0)
		fail_msg("spawn: %s", text.text);
	command(json_pack("{s:s, s:i}", "command", "attach", "minor", minor));
	command(json_pack("{s:s, s:i, s:o}", "command", "open", "minor", minor,
			  "target", json_sprintf("aio:%s", image)));
}

static struct blkfront *front_connect(void)
{
	struct blkfront_options options = { .pid = tapdisk, .minor = minor, .domid = 1, .data_pages = DEPTH,
					    .persistent = seed % 2 };
	struct blkfront *front;
	char text[512];

	if (blkfront_connect(&front, &options, text, sizeof(text)))
		fail_msg("connect: %s", text);
	return front;
}

static void write_submit(struct blkfront *front, unsigned page)
{
	struct blkfront_segment segment = { blkfront_data_ref(front, page), 0, BLOCK_SIZE / 512 - 1 };
	unsigned number;

	do
		number = random_below(NR_BLOCKS);
	while (blocks[number].busy);
	blocks[number].busy = true;
	blocks[number].submitted++;
	block_fill((uint64_t *)((uint8_t *)blkfront_data(front) + page * BLOCK_SIZE), number,
		   blocks[number].submitted);
	assert_int_equal(blkfront_rw(front, 0, page, true, number * (BLOCK_SIZE / 512), &segment, 1, false), 0);
	writing[page] = number;
	in_flight++;
	writes++;
}

static void flush_submit(struct blkfront *front)
{
	unsigned i;

	/* A flush covers the writes that had been answered when it was put into the ring. */
	for (i = 0; i < NR_BLOCKS; i++)
		blocks[i].covered = blocks[i].completed;
	assert_int_equal(blkfront_flush(front, 0, FLUSH_ID), 0);
	flushing = true;
	in_flight++;
}

static void response_take(const struct blkfront_response *response)
{
	struct block *block;
	unsigned i;

	assert_int_equal(response->status, BLKIF_RSP_OKAY);
	in_flight--;
	if (response->id == FLUSH_ID) {
		for (i = 0; i < NR_BLOCKS; i++)
			blocks[i].flushed = blocks[i].covered;
		flushing = false;
		flushes++;
		return;
	}
	assert_in_range(response->id, 0, DEPTH - 1);
	assert_true(writing[response->id] >= 0);
	block = &blocks[writing[response->id]];
	block->completed = block->submitted;
	block->busy = false;
	writing[response->id] = -1;
}

static bool response_next(struct blkfront *front)
{
	struct blkfront_response response;

	if (!blkfront_reap(front, 0, &response, 1))
		return false;
	response_take(&response);
	return true;
}

static void responses_take(struct blkfront *front)
{
	while (response_next(front))
		;
}

static void ring_fill(struct blkfront *front)
{
	unsigned page;

	for (page = 0; page < DEPTH; page++)
		if (writing[page] < 0)
			write_submit(front, page);
	if (!flushing && writes >= WRITES_A_FLUSH) {
		flush_submit(front);
		writes = 0;
	}
	blkfront_push(front, 0);
}

/* Keep the ring busy until @until flushes were answered; then some requests of a full ring are answered, but not all. */
static void load_run(struct blkfront *front, unsigned until)
{
	unsigned leave;

	while (flushes < until) {
		ring_fill(front);
		assert_int_equal(blkfront_wait(front, 0, TIMEOUT_MS), 1);
		responses_take(front);
	}
	ring_fill(front);
	leave = 1 + random_below(in_flight);
	while (in_flight > leave) {
		assert_int_equal(blkfront_wait(front, 0, TIMEOUT_MS), 1);
		response_next(front);
	}
}

/* kill -9, wait until the kernel has removed the process, and remove what it left in /dev/shm. */
static void tapdisk_kill(void)
{
	struct pollfd gone = { .fd = syscall(SYS_pidfd_open, tapdisk, 0), .events = POLLIN };

	assert_true(gone.fd >= 0);
	assert_int_equal(kill(tapdisk, SIGKILL), 0);
	assert_int_equal(poll(&gone, 1, TIMEOUT_MS), 1);
	close(gone.fd);
	assert_int_equal(tapctl_process_clean(tapdisk), 0);
	tapdisk = 0;
}

static void block_check(const uint64_t *found, unsigned number, const char *where)
{
	const struct block *block = &blocks[number];
	uint64_t expected[BLOCK_SIZE / sizeof(uint64_t)];
	uint32_t version = found[1];

	if (version < block->flushed)
		fail_msg("seed %llu: %s: block %u has write %u, a flush covered %u",
			 (unsigned long long)seed, where, number, version, block->flushed);
	if (version < block->completed || version > block->submitted)
		fail_msg("seed %llu: %s: block %u has write %u, answered %u, submitted %u",
			 (unsigned long long)seed, where, number, version, block->completed, block->submitted);
	memset(expected, 0, sizeof(expected));
	if (version)
		block_fill(expected, number, version);
	if (memcmp(found, expected, BLOCK_SIZE))
		fail_msg("seed %llu: %s: block %u is not as write %u left it",
			 (unsigned long long)seed, where, number, version);
}

/* A write in flight has now been done or not: from here on the block has this content. */
static void block_settle(const uint64_t *found, unsigned number)
{
	blocks[number].submitted = blocks[number].completed = found[1];
	blocks[number].busy = false;
}

static void file_check(void)
{
	int fd = open(image, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint64_t *buffer = NULL;
	unsigned i;

	assert_true(fd >= 0);
	assert_int_equal(posix_memalign((void **)&buffer, BLOCK_SIZE, BLOCK_SIZE), 0);
	for (i = 0; i < NR_BLOCKS; i++) {
		assert_int_equal(pread(fd, buffer, BLOCK_SIZE, (off_t)i * BLOCK_SIZE), BLOCK_SIZE);
		block_check(buffer, i, "file");
	}
	free(buffer);
	close(fd);
}

static void disk_check(struct blkfront *front)
{
	uint64_t buffer[BLOCK_SIZE / sizeof(uint64_t)];
	unsigned i;

	for (i = 0; i < NR_BLOCKS; i++) {
		assert_int_equal(blkfront_pread(front, buffer, BLOCK_SIZE, (uint64_t)i * BLOCK_SIZE), 0);
		block_check(buffer, i, "new tapdisk");
		block_settle(buffer, i);
	}
}

static void round_run(void)
{
	struct blkfront *front = front_connect();
	unsigned i;

	for (i = 0; i < DEPTH; i++)
		writing[i] = -1;
	in_flight = writes = flushes = 0;
	choices = 0;
	flushing = false;
	load_run(front, 3 + random_below(20));
	assert_true(in_flight > 0);
	tapdisk_kill();

	/* Every answer that it gave is a promise. */
	while (blkfront_wait(front, 0, TIMEOUT_MS) == 1)
		responses_take(front);
	assert_int_equal(blkfront_wait(front, 0, TIMEOUT_MS), -EPIPE);
	blkfront_vanish(front);
	file_check();

	tapdisk_start();
	front = front_connect();
	disk_check(front);
	blkfront_disconnect(front);
}

static void test_kill_under_load(void **state)
{
	const char *wanted = getenv("TAPSNAP_SEED");
	unsigned i;

	for (i = 0; i < ROUNDS; i++) {
		seed = wanted ? strtoull(wanted, NULL, 0) : i + 1;
		round_run();
	}
}

/* The frontend of a dead tapdisk gets an error, whatever it does. */
static void test_dead_tapdisk_is_noticed(void **state)
{
	struct blkfront *front = front_connect();
	uint8_t buffer[512];

	tapdisk_kill();
	assert_int_equal(blkfront_pread(front, buffer, sizeof(buffer), 0), -EPIPE);
	blkfront_disconnect(front);
	tapdisk_start();
}

static int suite_start(void **state)
{
	char self[256], program[300];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);
	int fd;

	assert_true(length > 0);
	self[length] = '\0';
	*strrchr(self, '/') = '\0';
	snprintf(program, sizeof(program), "%s/../../bin/tapdisk", self);
	setenv("TAPSNAP_TAPDISK", program, 0);

	assert_non_null(mkdtemp(dir));
	setenv(RUN_DIR_ENV, dir, 1);
	snprintf(image, sizeof(image), "%s/image", dir);
	fd = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)NR_BLOCKS * BLOCK_SIZE), 0);
	close(fd);
	tapdisk_start();
	return 0;
}

static int suite_end(void **state)
{
	char remove[64];

	if (tapdisk)
		tapdisk_kill();
	snprintf(remove, sizeof(remove), "rm -rf %s", dir);
	return system(remove);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kill_under_load),
		cmocka_unit_test(test_dead_tapdisk_is_noticed),
	};

	return cmocka_run_group_tests_name("kill", tests, suite_start, suite_end);
}
