/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fixture.h - a real tapdisk process for a test: its own run directory, an
 * image, a minor, the disk open. Everything is gone again after the test, and
 * that is checked.
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

#define TIMEOUT_MS 60000		/* what has not come by then does not come */

struct fixture {
	char dir[64];			/* the run directory; images are in it too */
	char image[96];
	char target[128];
	int pid, minor;
	struct tapctl *ctl;
};

/* The program that is started as tapdisk; NULL: this build's. */
extern const char *fixture_tapdisk;
/* The path of a program of this build. */
void fixture_find_program(char *path, size_t size, const char *name);

/* The directory alone, as the run directory. */
void fixture_make_dir(struct fixture *f);

/*
 * fixture_start() - spawn a tapdisk and open "aio:<image of @bytes bytes>", or
 * with @bytes 0 whatever @target says. @extra: more members for `open`, may be NULL.
 */
void fixture_start(struct fixture *f, uint64_t bytes, const char *target, json_t *extra);
void fixture_stop(struct fixture *f);

/* One command to the tapdisk; the reply, which is the caller's. Fails the test if it fails. */
json_t *fixture_call(struct fixture *f, json_t *request);
/* The same, and it has to fail with @error (-errno). */
void fixture_call_fails(struct fixture *f, json_t *request, int error);

struct blkfront *fixture_connect(struct fixture *f, struct blkfront_options options);

/* Push what was put, wait for @count responses on @queue, in any order. */
void fixture_finish(struct blkfront *front, unsigned queue, struct blkfront_response *responses, unsigned count);
/* Push one request and return its status, checking id and operation. */
int fixture_one(struct blkfront *front, unsigned queue, uint64_t id, uint8_t operation);

/* Fill with what nothing else has filled it: @seed and the position. */
void fixture_pattern(void *buffer, size_t bytes, uint64_t seed);

#endif
