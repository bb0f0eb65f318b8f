/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fixture.h - a real tapdisk process for a test: its own run directory, an
 * image, a minor, the disk open. The teardown removes everything, and checks
 * that nothing is left.
 */
#ifndef TESTS_FIXTURE_H
#define TESTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "blkfront.h"
#include "tapctl.h"

#define TIMEOUT_MS 60000		/* after this an answer counts as missing */

struct fixture {
	char dir[64];			/* the run directory; images are in it too */
	char image[96];
	char target[128];
	int pid, minor;
	struct tapctl *ctl;
};

/* The program to start as tapdisk; NULL: this build's. */
extern const char *fixture_tapdisk;
/* The path of a program of this build. */
void fixture_find_program(char *path, size_t size, const char *name);

/* Make only the directory, and use it as the run directory. */
void fixture_make_dir(struct fixture *f);

/*
 * fixture_start() - spawn a tapdisk and open "aio:<image of @bytes bytes>", or
 * @target if @bytes is 0. @extra: more members for `open`, may be NULL.
 */
void fixture_start(struct fixture *f, uint64_t bytes, const char *target, json_t *extra);
void fixture_stop(struct fixture *f);

/* Send one command to the tapdisk and return the reply, which the caller owns. An error fails the test. */
json_t *fixture_call(struct fixture *f, json_t *request);
/* The same, but the command must fail with @error (-errno). */
void fixture_call_fails(struct fixture *f, json_t *request, int error);

/* The number of descriptors that the tapdisk has open. */
unsigned fixture_count_descriptors(const struct fixture *f);

struct blkfront *fixture_connect(struct fixture *f, struct blkfront_options options);

/* Push the pending requests, wait for @count responses on @queue, in any order. */
void fixture_finish(struct blkfront *front, unsigned queue, struct blkfront_response *responses, unsigned count);
/* Push one request and return its status, checking id and operation. */
int fixture_one(struct blkfront *front, unsigned queue, uint64_t id, uint8_t operation);

/* Fill with a pattern unique to @seed and the position. */
void fixture_pattern(void *buffer, size_t bytes, uint64_t seed);

#endif
