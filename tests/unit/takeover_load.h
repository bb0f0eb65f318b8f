/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * takeover_load.h - a frontend's load for tests that kill tapdisks under it. It
 * checks every response: each request is answered once, with success, and
 * reads return the data written last.
 *
 * A block holds its number and the number of the write that wrote it. No two
 * requests in flight concern the same block, so the result of a read is known
 * exactly.
 */
#ifndef TESTS_TAKEOVER_LOAD_H
#define TESTS_TAKEOVER_LOAD_H

#include "fixture.h"

#define LOAD_DEPTH	24
#define LOAD_BLOCKS	1024		/* of 4 KiB */
#define LOAD_BYTES	(LOAD_BLOCKS * 4096ull)
#define LOAD_PAGES	20		/* of one request, at most: more than a direct one can have */

struct load {
	struct blkfront *front;
	uint64_t seed, choices;
	bool discards;
	uint32_t versions[LOAD_BLOCKS];		/* written last, or being written; 0: zeroes */
	bool busy[LOAD_BLOCKS];
	struct load_request {
		uint64_t id;			/* 0: free */
		uint8_t operation;
		unsigned block, count;
	} requests[LOAD_DEPTH];
	uint64_t next_id;
	unsigned in_flight, answered;
};

void load_start(struct load *load, struct blkfront *front, uint64_t seed);
/* Put up to @count requests into the ring, as many as there is room for. */
void load_put(struct load *load, unsigned count);
/* Put a flush, if there is room. */
void load_put_flush(struct load *load);
/* Take the available responses. */
void load_take(struct load *load);
/* Wait for responses and take them; false: the tapdisk is gone. */
bool load_wait(struct load *load);
/* Wait until all are answered; false: the tapdisk is gone. */
bool load_finish(struct load *load);
/* With nothing in flight: check the whole disk. */
void load_check(struct load *load);

/* Run a shell command, which must succeed. */
void load_shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Make the file @path, of LOAD_BYTES: "aio", a raw image; "cow", a store. */
void load_make_disk(const char *type, const char *path);

/* The options that a load's frontend needs. */
struct blkfront_options load_options(bool persistent);

#endif
