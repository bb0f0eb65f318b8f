/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_memory_all.c - allocations that fail, each of them. */
#include "memory_sweep.h"

int main(void)
{
	return memory_sweep_run(1);
}
