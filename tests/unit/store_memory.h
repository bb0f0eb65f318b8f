/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * store_memory.h - a xenstore in memory for tests of tapback, which plays
 * xenstored, the toolstack and the frontend.
 */
#ifndef TESTS_STORE_MEMORY_H
#define TESTS_STORE_MEMORY_H

#include "tapback_store.h"

struct store *store_memory_open(void);

/* As somebody else: these fire watches and are not counted. */
void store_memory_put(struct store *store, const char *path, const char *value);
void store_memory_put_bytes(struct store *store, const char *path, const char *value, size_t length);
void store_memory_delete(struct store *store, const char *path);	/* with all below it */
/* NULL when there is none. */
const char *store_memory_get(struct store *store, const char *path);

/* Writes and removals by the one under test so far. */
unsigned store_memory_changes(struct store *store);
/* Nodes of which the one under test removed one that was there, or NULL: the last such path. */
const char *store_memory_removed(struct store *store);
/* The next @count commits fail with -EAGAIN, as when somebody else changed a node. */
void store_memory_conflict(struct store *store, unsigned count);
/* The next @count writes fail with @error. */
void store_memory_fail_writes(struct store *store, unsigned count, int error);
unsigned store_memory_watches(struct store *store);
/* The connection ends. */
void store_memory_lose(struct store *store);

#endif
