/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_memory.c - allocations that fail, a few of them (tests/soak/test_memory_all.c: all). */
#include "memory_sweep.h"

int main(void)
{
	return memory_sweep_run(9);
}
