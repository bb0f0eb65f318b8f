/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault_malloc.h - the file that the test and all processes with
 * fault_malloc.so preloaded map, to share these counters.
 */
#ifndef TESTS_FAULT_MALLOC_H
#define TESTS_FAULT_MALLOC_H

#include <stdatomic.h>

#define FAULT_MALLOC_ENV "TEST_FAULT_MALLOC"	/* the file's path */

struct fault_malloc {
	atomic_long fail_at;		/* the allocation that fails, counted from 1; 0: none */
	atomic_long count;		/* allocations so far, of all processes */
};

#endif
