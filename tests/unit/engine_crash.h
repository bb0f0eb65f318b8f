/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_crash.h - an engine for tests, over a file whose medium can lose
 * its power: what a driver that has many requests in flight makes of it.
 *
 * Operations complete in random order, some of them in parts; each has its
 * effect at some time between queue() and done(). What was written stays
 * volatile until a sync that was queued after its done(). engine_crash_cut()
 * tells at any time what a power cut would leave: each volatile write kept,
 * lost, or torn at any of its 512-byte sectors. What was discarded has
 * undefined contents.
 *
 * A second file may lose its power together with the first; what is kept of
 * it in memory lies ENGINE_CRASH_MAX behind.
 */
#ifndef TESTS_ENGINE_CRASH_H
#define TESTS_ENGINE_CRASH_H

#include "engine.h"

struct crash_write {
	struct crash_write *next;
	struct engine_io *io;		/* NULL: done */
	uint64_t done;			/* when; 0: in flight */
	uint64_t offset, length;
	uint8_t *data;
};

struct engine_crash {
	struct engine engine;
	uint64_t random;
	struct engine_io **flight;
	size_t nr_flight, room;
	uint64_t clock;			/* of queue() and done() */

	int fd;				/* of the file that loses its power; others are only read */
	uint64_t ino;
	int second_fd;			/* -1: there is none. Its size does not change */
	uint64_t second_ino;
	uint8_t *durable;
	uint64_t *touched;		/* a bit for each 4096 bytes that are not zero in durable, or were not */
	uint64_t durable_size, sync_size;
	struct crash_write *writes, **last_write;	/* volatile, in the order in which they took effect */

	unsigned at_most;		/* that one reap() completes */
	bool hold_next;			/* the next operation of this kind */
	enum engine_op hold_op;
	struct engine_io *held;		/* stays in flight until the test sets this to NULL */
	uint64_t steps;			/* writes, syncs and discards that were done */
	uint64_t cut;			/* the power goes at this step, 0: never: all fails from then on */
	bool off;
	uint64_t queued, fail_at;	/* the Nth operation from here on fails; 0: none */
	int fail_error;
	bool fail_writes_only, fail_reads_only;
	bool failed;			/* it has */
};

#define ENGINE_CRASH_MAX (4ull << 30)	/* bytes that the file can grow to */

/* @fd: the file, as it is and as it is on the medium; stays the caller's. */
void engine_crash_init(struct engine_crash *crash, int fd, uint64_t seed);
void engine_crash_free(struct engine_crash *crash);	/* nothing may be in flight */
/* A second file, which stays the caller's, too. */
void engine_crash_second(struct engine_crash *crash, int fd);
/* Writes to @fd, an empty file, what would be there after a power cut at this moment. */
void engine_crash_cut(struct engine_crash *crash, int fd);
/* The same of the second file. */
void engine_crash_cut_second(struct engine_crash *crash, int fd);

#endif
