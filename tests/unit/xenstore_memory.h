/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * xenstore_memory.h - a xenstore in memory for tests of tapback, which plays
 * xenstored; the test uses it as toolstack and frontend.
 */
#ifndef TESTS_STORE_MEMORY_H
#define TESTS_STORE_MEMORY_H

#include "tapback_xenstore.h"

struct xenstore *xenstore_memory_open(void);

/* Changes by another client: they fire watches and are not counted. */
void xenstore_memory_put(struct xenstore *xenstore, const char *path, const char *value);
void xenstore_memory_put_bytes(struct xenstore *xenstore, const char *path, const char *value, size_t length);
void xenstore_memory_delete(struct xenstore *xenstore, const char *path);	/* with all below it */
/* The node's value; NULL: no such node. */
const char *xenstore_memory_get(struct xenstore *xenstore, const char *path);

/* Number of writes and removals by tapback so far. */
unsigned xenstore_memory_changes(struct xenstore *xenstore);
/* The path of the last existing node that tapback removed, or NULL. */
const char *xenstore_memory_removed(struct xenstore *xenstore);
/* The next @count commits fail with -EAGAIN, as after a change by another client. */
void xenstore_memory_conflict(struct xenstore *xenstore, unsigned count);
/* Called before each read by tapback, as another client that may change nodes. NULL: no more. */
void xenstore_memory_on_read(struct xenstore *xenstore, void (*on_read)(struct xenstore *xenstore, const char *path));
/* The next @count writes fail with @error. */
void xenstore_memory_fail_writes(struct xenstore *xenstore, unsigned count, int error);
unsigned xenstore_memory_watches(struct xenstore *xenstore);
/* End the connection to xenstored. */
void xenstore_memory_lose(struct xenstore *xenstore);

#endif
