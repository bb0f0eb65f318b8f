/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_crash.h - an engine for tests of a driver with many requests in flight,
 * over a file whose medium can lose its power.
 *
 * Operations complete in random order, some of them in parts; each has its
 * effect at some time between queue() and done(). A write stays volatile until
 * a sync that was queued after its done() completes. engine_crash_cut() writes
 * at any time what a power cut would leave: each volatile write kept, lost, or
 * torn at any of its 512-byte sectors. Discarded sectors have undefined
 * contents.
 *
 * A second file may lose its power together with the first; in memory its data
 * are ENGINE_CRASH_MAX behind the first's.
 */
#ifndef TESTS_ENGINE_CRASH_H
#define TESTS_ENGINE_CRASH_H

#include "engine.h"

struct crash_write {
	struct crash_write *next;
	struct engine_io *io;		/* NULL: done */
	uint64_t done;			/* time of done(); 0: in flight */
	uint64_t offset, length;
	uint8_t *data;
};

struct engine_crash {
	struct engine engine;
	uint64_t random;
	struct engine_io **flight;
	size_t nr_flight, room;
	uint64_t clock;			/* counts queue() and done() */

	int fd;				/* the file that loses its power; other files are only read */
	uint64_t ino;
	int second_fd;			/* -1: none. A new size is durable immediately */
	uint64_t second_ino;
	uint8_t *durable;
	uint64_t *touched;		/* a bit for each 4096 bytes of durable that are or were not zero */
	uint64_t durable_size, sync_size;
	struct crash_write *writes, **last_write;	/* volatile, in the order in which they took effect */

	unsigned at_most;		/* limit of completions per reap() */
	bool hold_next;			/* hold the next operation of kind hold_op */
	enum engine_op hold_op;
	struct engine_io *held;		/* stays in flight until the test sets this to NULL */
	uint64_t steps;			/* completed writes, syncs, discards and changes of the size */
	uint64_t cut;			/* the power fails at this step, and all operations from then on; 0: never */
	bool off;
	uint64_t queued, fail_at;	/* the Nth operation from here on fails; 0: none */
	unsigned fail_more;		/* and this many after it */
	int fail_error;
	bool fail_writes_only, fail_reads_only;
	unsigned fail_resizes;		/* that many ENGINE_RESIZE fail with fail_error */
	bool failed;			/* the operation has failed */
};

#define ENGINE_CRASH_MAX (4ull << 30)	/* maximum size of the file in bytes */

/* @fd: the file, whose contents count as durable; the caller owns it. */
void engine_crash_init(struct engine_crash *crash, int fd, uint64_t seed);
void engine_crash_free(struct engine_crash *crash);	/* nothing may be in flight */
/* Add the second file; the caller owns @fd. */
void engine_crash_second(struct engine_crash *crash, int fd);
/* Write the contents after a power cut at this moment to @fd, an empty file. */
void engine_crash_cut(struct engine_crash *crash, int fd);
/* The same for the second file. */
void engine_crash_cut_second(struct engine_crash *crash, int fd);

#endif
