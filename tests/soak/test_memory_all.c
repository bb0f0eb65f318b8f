/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* test_memory_all.c - each allocation fails, one at a time. */
#include "memory_sweep.h"

int main(void)
{
	return memory_sweep_run(1);
}
