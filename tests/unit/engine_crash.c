/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_crash.c - see engine_crash.h.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cow_sim.h"
#include "engine_crash.h"
#include "engine_syscall.h"

#define BLOCK 4096u
#define MAX_BLOCKS (2 * ENGINE_CRASH_MAX / BLOCK)
#define DISCARDED 0xdb

/* What the engine keeps in io->priv. */
enum { HAD_EFFECT, RESULT, QUEUED, SIZE, SLOW };

static struct engine_crash *crash_of(struct engine *engine)
{
	return (struct engine_crash *)engine;
}

static bool one_in(struct engine_crash *crash, unsigned n)
{
	return !(sim_random(&crash->random) % n);
}

static bool all_zero(const uint8_t *data, uint64_t length)
{
	return !data[0] && !memcmp(data, data + 1, length - 1);
}

static void durable_write(struct engine_crash *crash, const uint8_t *data, uint64_t offset, uint64_t length)
{
	uint64_t block, n;

	for (; length; data += n, offset += n, length -= n) {
		block = offset / BLOCK;
		n = BLOCK - offset % BLOCK < length ? BLOCK - offset % BLOCK : length;
		if (!(crash->touched[block / 64] >> block % 64 & 1) && all_zero(data, n))
			continue;
		crash->touched[block / 64] |= 1ull << block % 64;
		memcpy(crash->durable + offset, data, n);
	}
}

static void write_forget(struct engine_crash *crash, struct crash_write **link)
{
	struct crash_write *write = *link;

	*link = write->next;
	if (!*link)
		crash->last_write = link;
	free(write->data);
	free(write);
}

static bool changes(const struct engine_io *io)
{
	return io->op == ENGINE_WRITE || io->op == ENGINE_DISCARD || io->op == ENGINE_ZERO;
}

/* And those that change its size. */
static bool alters(const struct engine_io *io)
{
	return changes(io) || io->op == ENGINE_RESIZE;
}

/* Where the data kept for the file of @fd begin. */
static uint64_t place_of(const struct engine_crash *crash, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		abort();
	return crash->second_fd >= 0 && st.st_ino == crash->second_ino ? ENGINE_CRASH_MAX : 0;
}

/* The length of a discard without its end where nothing durable ever was: its contents are undefined, so it may stay as it is. */
static uint64_t discard_length(const struct engine_crash *crash, uint64_t offset, uint64_t length)
{
	uint64_t block = (offset + length) / BLOCK;

	while (block * BLOCK > offset && !(crash->touched[(block - 1) / 64] >> (block - 1) % 64 & 1))
		block--;
	return block * BLOCK > offset ? block * BLOCK - offset : 0;
}

/* The whole range that @io writes. */
static struct crash_write *write_of(const struct engine_crash *crash, const struct engine_io *io)
{
	struct crash_write *write = calloc(1, sizeof(*write));
	uint64_t at = 0;
	int i;

	assert(write && io->offset + io->length <= ENGINE_CRASH_MAX);
	write->offset = io->offset + place_of(crash, io->fd);
	write->length = io->op == ENGINE_DISCARD ? discard_length(crash, write->offset, io->length) : io->length;
	write->data = malloc(write->length + 1);
	assert(write->data);
	memset(write->data, io->op == ENGINE_DISCARD ? DISCARDED : 0, write->length);
	for (i = 0; io->op == ENGINE_WRITE && i < io->iovcnt; at += io->iov[i++].iov_len)
		memcpy(write->data + at, io->iov[i].iov_base, io->iov[i].iov_len);
	return write;
}

static void medium_write(const struct crash_write *write, int fd, uint64_t at, uint64_t length)
{
	ssize_t n = pwrite(fd, write->data + at, length, (write->offset + at) % ENGINE_CRASH_MAX);

	assert(n == (ssize_t)length);
}

static void take_effect(struct engine_crash *crash, struct engine_io *io)
{
	struct crash_write *write;

	if (io->priv[HAD_EFFECT])
		return;
	io->priv[HAD_EFFECT] = 1;
	if (!changes(io)) {
		io->priv[RESULT] = io->op == ENGINE_SYNC ? 0 : engine_syscall(io);
		if (io->op == ENGINE_RESIZE && io->priv[RESULT] == -EPERM)
			io->priv[RESULT] = -ENOSPC;	/* F_SEAL_GROW stands for a full file system */
		return;
	}
	write = write_of(crash, io);
	write->io = io;
	medium_write(write, io->fd, 0, write->length);
	*crash->last_write = write;
	crash->last_write = &write->next;
	io->priv[RESULT] = io->op == ENGINE_WRITE ? (long)(io->length - io->moved) : 0;
}

/* A write that fails may have been done in part, in whole sectors. */
static void fail(struct engine_crash *crash, struct engine_io *io)
{
	struct crash_write *write;

	crash->failed = true;
	io->priv[HAD_EFFECT] = 1;
	io->priv[RESULT] = crash->off ? -EIO : crash->fail_error;
	if (crash->off || io->op != ENGINE_WRITE)
		return;
	write = write_of(crash, io);
	write->io = io;
	write->length = sim_random(&crash->random) % (io->length / 512) * 512;
	medium_write(write, io->fd, 0, write->length);
	*crash->last_write = write;
	crash->last_write = &write->next;
}

static bool overlap(const struct crash_write *a, const struct crash_write *b)
{
	return a->offset < b->offset + b->length && b->offset < a->offset + a->length;
}

/* An earlier write that is covered by a durable later one no longer matters. */
static bool covered(const struct crash_write *write, uint64_t queued)
{
	const struct crash_write *later;

	if (write->done && write->done < queued)
		return true;
	for (later = write->next; later; later = later->next) {
		if (later->done && later->done < queued && overlap(write, later))
			return true;
	}
	return false;
}

static bool is_at(const struct crash_write *write, uint64_t place)
{
	return (write->offset >= ENGINE_CRASH_MAX) == (place != 0);
}

static void synced(struct engine_crash *crash, const struct engine_io *io)
{
	struct crash_write **link = &crash->writes;
	uint64_t place = place_of(crash, io->fd);

	while (*link) {
		if (!is_at(*link, place) || !covered(*link, io->priv[QUEUED])) {
			link = &(*link)->next;
			continue;
		}
		durable_write(crash, (*link)->data, (*link)->offset, (*link)->length);
		write_forget(crash, link);
	}
	if (!place && (uint64_t)io->priv[SIZE] > crash->durable_size)
		crash->durable_size = io->priv[SIZE];
}

static void queue_add(struct engine_crash *crash, struct engine_io *io)
{
	if (crash->nr_flight == crash->room) {
		crash->room = crash->room * 2 + 64;
		crash->flight = reallocarray(crash->flight, crash->room, sizeof(*crash->flight));
		assert(crash->flight);
	}
	crash->flight[crash->nr_flight++] = io;
}

static bool must_fail(struct engine_crash *crash, const struct engine_io *io)
{
	if (crash->off)
		return true;
	if (crash->fail_resizes && io->op == ENGINE_RESIZE)
		return crash->fail_resizes--;
	if ((crash->fail_writes_only && !alters(io)) || (crash->fail_reads_only && io->op != ENGINE_READ))
		return false;
	return ++crash->queued >= crash->fail_at && crash->fail_at && crash->queued - crash->fail_at <= crash->fail_more;
}

static void crash_queue(struct engine *engine, struct engine_io *io)
{
	struct engine_crash *crash = crash_of(engine);
	struct stat st;

	io->priv[HAD_EFFECT] = 0;
	io->priv[QUEUED] = ++crash->clock;
	if (fstat(io->fd, &st))
		abort();
	assert(st.st_ino == crash->ino || place_of(crash, io->fd) || !alters(io));
	io->priv[SIZE] = st.st_size;
	io->priv[SLOW] = one_in(crash, 12);
	queue_add(crash, io);
	if (crash->hold_next && io->op == crash->hold_op) {
		crash->hold_next = false;
		crash->held = io;
	}
	if (must_fail(crash, io)) {
		fail(crash, io);
	} else if (crash->held != io && one_in(crash, 2)) {
		take_effect(crash, io);
	}
}

static int crash_commit(struct engine *engine)
{
	return 0;
}

/* The operation may be done in part for now. */
static long result_of(struct engine_crash *crash, struct engine_io *io)
{
	long result = io->priv[RESULT];

	if (io->op == ENGINE_READ || io->op == ENGINE_WRITE) {
		if (result > 512 && one_in(crash, 12))
			return sim_random(&crash->random) % (result / 512) * 512 + 512;
	}
	return result;
}

static void write_done(struct engine_crash *crash, struct engine_io *io)
{
	struct crash_write *write;

	for (write = crash->writes; write; write = write->next) {
		if (write->io != io)
			continue;
		write->io = NULL;
		write->done = crash->clock;
	}
}

/* An operation in flight when the power fails returns an error, whether it had its effect or not. */
static bool power_goes(struct engine_crash *crash, const struct engine_io *io)
{
	if (crash->off)
		return true;
	if (alters(io) || io->op == ENGINE_SYNC)
		crash->off = ++crash->steps == crash->cut;
	return crash->off;
}

/* False: part of it is left to do. */
static bool complete(struct engine_crash *crash, size_t i)
{
	struct engine_io *io = crash->flight[i];
	long result;

	if (power_goes(crash, io)) {
		io->priv[HAD_EFFECT] = 1;
		io->priv[RESULT] = -EIO;
	}
	take_effect(crash, io);
	result = result_of(crash, io);
	if (result > 0 && result < io->priv[RESULT]) {
		io->priv[RESULT] -= result;
		return engine_complete(&crash->engine, io, result);
	}
	crash->clock++;
	if (io->op == ENGINE_SYNC && !result)
		synced(crash, io);
	write_done(crash, io);
	crash->flight[i] = crash->flight[--crash->nr_flight];
	return engine_complete(&crash->engine, io, result);
}

/* Some operations are slow, and many others overtake them. */
static size_t choose(struct engine_crash *crash)
{
	size_t i;

	do
		i = sim_random(&crash->random) % crash->nr_flight;
	while (crash->flight[i] == crash->held || (crash->flight[i]->priv[SLOW] && !one_in(crash, 30)));
	return i;
}

static int crash_reap(struct engine *engine)
{
	struct engine_crash *crash = crash_of(engine);
	unsigned most = 1 + sim_random(&crash->random) % crash->at_most, count = 0;

	while (crash->nr_flight > (crash->held != NULL) && count < most)
		count += complete(crash, choose(crash));
	return count;
}

static int crash_fd(struct engine *engine)
{
	return -1;
}

static const struct engine_ops engine_crash_ops = {
	.name = "crash",
	.queue = crash_queue,
	.commit = crash_commit,
	.reap = crash_reap,
	.fd = crash_fd,
	.wait = crash_commit,
};

static void medium_load(struct engine_crash *crash, int fd, uint64_t place)
{
	static uint8_t bytes[BLOCK];
	off_t at = 0;

	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		at -= at % BLOCK;
		memset(bytes, 0, BLOCK);
		if (pread(fd, bytes, BLOCK, at) < 0)
			abort();
		durable_write(crash, bytes, place + at, BLOCK);
		at += BLOCK;
	}
}

static void *memory(uint64_t bytes)
{
	void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	assert(map != MAP_FAILED);
	return map;
}

void engine_crash_init(struct engine_crash *crash, int fd, uint64_t seed)
{
	struct stat st;

	if (fstat(fd, &st))
		abort();
	*crash = (struct engine_crash){ .engine.ops = &engine_crash_ops, .random = seed * 2 + 1, .fd = fd, .ino = st.st_ino,
		.second_fd = -1,
		.durable_size = st.st_size, .at_most = 3, .clock = 1 };
	crash->last_write = &crash->writes;
	crash->durable = memory(2 * ENGINE_CRASH_MAX);
	crash->touched = memory(MAX_BLOCKS / 8);
	medium_load(crash, fd, 0);
}

void engine_crash_second(struct engine_crash *crash, int fd)
{
	struct stat st;

	if (fstat(fd, &st))
		abort();
	crash->second_fd = fd;
	crash->second_ino = st.st_ino;
	medium_load(crash, fd, ENGINE_CRASH_MAX);
}

void engine_crash_free(struct engine_crash *crash)
{
	assert(!crash->nr_flight);
	while (crash->writes)
		write_forget(crash, &crash->writes);
	free(crash->flight);
	munmap(crash->durable, 2 * ENGINE_CRASH_MAX);
	munmap(crash->touched, MAX_BLOCKS / 8);
}

/* Each volatile write is kept, lost or torn; what did not fit into the file is lost. */
static void settle(struct engine_crash *crash, const struct crash_write *write, int fd, uint64_t size)
{
	uint64_t fate = sim_random(&crash->random) % 4, length = write->length, offset = write->offset % ENGINE_CRASH_MAX, at;

	if (offset >= size)
		return;
	length = length < size - offset ? length : size - offset;
	if (fate % 2)
		medium_write(write, fd, 0, length);
	for (at = 0; fate == 2 && at < length; at += 512) {
		if (sim_random(&crash->random) % 2)
			medium_write(write, fd, at, 512);
	}
}

/* The volatile writes to the file whose part begins at @place. */
static void settle_all(struct engine_crash *crash, int fd, uint64_t place, uint64_t size)
{
	struct crash_write *write;
	size_t i;

	for (write = crash->writes; write; write = write->next) {
		if (is_at(write, place))
			settle(crash, write, fd, size);
	}
	for (i = 0; i < crash->nr_flight; i++) {
		if (crash->flight[i]->priv[HAD_EFFECT] || !changes(crash->flight[i]))
			continue;
		write = write_of(crash, crash->flight[i]);
		if (is_at(write, place))
			settle(crash, write, fd, size);
		free(write->data);
		free(write);
	}
}

static void cut(struct engine_crash *crash, int fd, uint64_t place, uint64_t size)
{
	uint64_t block, first = place / BLOCK, length;

	if (ftruncate(fd, size))
		abort();
	for (block = 0; block * BLOCK < size; block++) {
		length = size - block * BLOCK < BLOCK ? size - block * BLOCK : BLOCK;
		if (!(block % 64) && !crash->touched[(first + block) / 64])
			block += 63;
		else if (crash->touched[(first + block) / 64] >> block % 64 & 1 &&
			 pwrite(fd, crash->durable + place + block * BLOCK, length, block * BLOCK) != (ssize_t)length)
			abort();
	}
	settle_all(crash, fd, place, size);
}

void engine_crash_cut(struct engine_crash *crash, int fd)
{
	struct stat st;

	if (fstat(crash->fd, &st))
		abort();
	cut(crash, fd, 0, one_in(crash, 2) ? crash->durable_size : (uint64_t)st.st_size);
}

void engine_crash_cut_second(struct engine_crash *crash, int fd)
{
	struct stat st;

	if (fstat(crash->second_fd, &st))
		abort();
	cut(crash, fd, ENGINE_CRASH_MAX, st.st_size);
}
