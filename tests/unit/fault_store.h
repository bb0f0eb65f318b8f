/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault_store.h - a store that the driver `cow` serves on the engine of
 * fault_engine.h, which does each I/O when it is queued.
 */
#ifndef TESTS_FAULT_STORE_H
#define TESTS_FAULT_STORE_H

#include "cow.h"
#include "fault_engine.h"
#include "scratch.h"

struct fault_store {
	char target[PATH_MAX + 4];
	struct fault_engine fault;
	struct backend *backend;
};

/* Set the store's path, for a test that makes the store itself. */
static inline const char *fault_store_name(struct fault_store *store, const char *name)
{
	snprintf(store->target, sizeof(store->target), "cow:%s", scratch_path(name));
	return store->target + 4;
}

static inline void fault_store_open(struct fault_store *store)
{
	struct driver_options options = { .no_direct = true };
	struct error_text error = { "" };

	fault_engine_init(&store->fault, 0, 0);
	if (backend_open(&store->backend, &store->fault.engine, store->target, &options, &error))
		fail_msg("%s", error.text);
}

static inline void fault_store_make(struct fault_store *store, const char *name, const struct cow_create_options *options)
{
	struct error_text error = { "" };
	struct cow_device *device;

	if (cow_file_create(&device, fault_store_name(store, name), &error) || cow_create(device, options, &error))
		fail_msg("%s", error.text);
	cow_file_close(device);
	fault_store_open(store);
}

/* Make the store with the smallest possible log. */
static inline void fault_store_small(struct fault_store *store, const char *name, uint64_t sectors)
{
	fault_store_make(store, name, &(struct cow_create_options){ .sectors = sectors, .log_blocks = COW_LOG_MIN_BLOCKS });
}

/* Close and remove the store. */
static inline void fault_store_end(struct fault_store *store)
{
	backend_close(store->backend);
	unlink(store->target + 4);
}

static inline void fault_store_noted(struct block_request *req, int error)
{
	*(int *)req->owner = error;
}

/* *@result is 1 until the request has ended. @iov is NULL for a flush. */
static inline void fault_store_submit(struct fault_store *store, struct block_request *req, enum block_op op, uint64_t sector,
				      const struct iovec *iov, int *result)
{
	*result = 1;
	*req = (struct block_request){ .op = op, .sector = sector, .nr_sectors = iov ? iov->iov_len / SECTOR_SIZE : 0, .iov = iov,
		.iovcnt = iov != NULL, .done = fault_store_noted, .owner = result };
	backend_submit(store->backend, req);
}

/* Reap until nothing is in flight, at most @most times. */
static inline void fault_store_reap(struct fault_store *store, unsigned most)
{
	while (store->backend->in_flight && most--)
		engine_reap(&store->fault.engine);
}

#endif
