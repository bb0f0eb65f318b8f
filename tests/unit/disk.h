/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * disk.h - open a disk in a test, on the synchronous engine, and do single
 * requests to it.
 */
#ifndef TESTS_DISK_H
#define TESTS_DISK_H

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "driver.h"
#include "engine_run.h"

static struct engine *sync_engine;	/* from disk_run() */

/* Open "aio:PATH"; on failure the message is in @text. */
static inline int open_path(struct backend **backend, const char *path, struct driver_options options,
		     struct error_text *text)
{
	char target[PATH_MAX + 8];

	snprintf(target, sizeof(target), "aio:%s", path);
	text->text[0] = '\0';
	return backend_open(backend, sync_engine, target, &options, text);
}

/* The open must fail with @error, and a one-line message that contains the path and @words. */
static inline void open_fails(const char *path, struct driver_options options, int error, const char *words)
{
	struct error_text text;
	struct backend *backend;
	int ret = open_path(&backend, path, options, &text);

	if (ret != error || !strstr(text.text, words) || !strstr(text.text, path) || strchr(text.text, '\n'))
		fail_msg("open %s: %d \"%s\", expected %d \"...%s...\"", path, ret, text.text, error, words);
}

static inline struct backend *open_works(const char *path, struct driver_options options)
{
	struct error_text text;
	struct backend *backend;
	int ret = open_path(&backend, path, options, &text);

	if (ret)
		fail_msg("open %s: %d \"%s\"", path, ret, text.text);
	return backend;
}

#define OPTIONS(...) ((struct driver_options){ __VA_ARGS__ })

struct request {
	struct block_request req;
	struct iovec iov;
	int error;
	unsigned calls;
};

static inline void request_done(struct block_request *req, int error)
{
	struct request *request = req->owner;

	request->error = error;
	request->calls++;
}

static inline void request_set(struct request *request, enum block_op op, uint64_t sector, uint64_t count, void *data)
{
	request->req.op = op;
	request->req.sector = sector;
	request->req.nr_sectors = count;
	request->iov = (struct iovec){ data, count * 512 };
	request->req.iov = &request->iov;
	request->req.iovcnt = 1;
	request->req.owner = request;
	request->req.done = request_done;
	request->error = 1;
	request->calls = 0;
}

static inline int do_request(struct backend *backend, enum block_op op, uint64_t sector, uint64_t count, void *data)
{
	struct request request = { 0 };

	request_set(&request, op, sector, count, data);
	backend_submit(backend, &request.req);
	engine_run(backend->engine);
	assert_int_equal(request.calls, 1);
	assert_int_equal(backend->in_flight, 0);
	return request.error;
}

/* Run @tests with the engine open. */
#define disk_run(tests) (engine_open(&sync_engine, "sync", 16) ? 1 : cmocka_run_group_tests(tests, NULL, NULL))

#endif
