/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_memory.c - some allocations fail, one at a time (tests/soak/test_memory_all.c: each of them). */
#include "memory_sweep.h"

int main(void)
{
	return memory_sweep_run(9);
}
