/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * json_memory.h - memory for jansson that does not run out.
 *
 * jansson ends the process when an allocation fails while it parses, and
 * leaves out members when one fails while it builds. So when malloc() fails
 * it is served from a reserve, which is its own again when all of it was
 * given back. What does not fit in there is remembered as a failure.
 *
 * Threads: for programs that use jansson on one thread.
 */
#ifndef TAPSNAP_JSON_MEMORY_H
#define TAPSNAP_JSON_MEMORY_H

#include <stdbool.h>

/* Before the first use of jansson. */
void json_memory_init(void);
/* True when an allocation failed since this was asked last: what was parsed or built since is not to be trusted. */
bool json_memory_failed(void);
/* For what json_dumps() returns, with or without json_memory_init(). */
void json_memory_free(void *memory);

#endif
