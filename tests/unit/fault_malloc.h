/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fault_malloc.h - what the test and the processes that fault_malloc.so is
 * loaded into share: a file that all of them have mapped.
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
