/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * heap.h - tunes malloc's handling of freed memory, for the whole process.
 * Called by the loop's thread.
 */
#ifndef TAPDISK_HEAP_H
#define TAPDISK_HEAP_H

/*
 * A store allocates and frees tables of map changes, megabytes each. Each is
 * returned to the kernel when it is freed; by default malloc would, after the
 * first, keep them and the holes between them in the heap (mallopt(3), "dynamic
 * mmap threshold").
 */
void heap_init(void);

/*
 * Keep freed memory while there are clients whose requests allocate and free
 * buffers all the time. By default malloc returns it to the kernel and gets it
 * back, page by page and zeroed, every few requests. Each heap_keep() needs a
 * heap_release().
 */
void heap_keep(void);
void heap_release(void);

#endif
