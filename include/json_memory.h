/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * json_memory.h - memory for jansson that does not run out.
 *
 * jansson ends the process when an allocation fails while it parses, and
 * drops members when one fails while it builds. So when malloc() fails,
 * memory comes from a reserve, which can be used again when all of it was
 * freed. A request that the reserve cannot satisfy is recorded as a failure.
 *
 * Threads: for programs that use jansson on one thread.
 */
#ifndef TAPSNAP_JSON_MEMORY_H
#define TAPSNAP_JSON_MEMORY_H

#include <stdbool.h>

/* Before the first use of jansson. */
void json_memory_init(void);
/* True when an allocation failed since the last call: do not trust what was parsed or built since. */
bool json_memory_failed(void);
/* For what json_dumps() returns, with or without json_memory_init(). */
void json_memory_free(void *memory);

#endif
