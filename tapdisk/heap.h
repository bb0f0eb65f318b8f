/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * heap.h - what becomes of freed memory: malloc's habits, of the whole
 * process. Called by the loop's thread.
 */
#ifndef TAPDISK_HEAP_H
#define TAPDISK_HEAP_H

/*
 * A store's tables of map changes come and go by the megabyte. Each is the
 * kernel's again when it is freed; by itself malloc would, after the first,
 * leave them and the holes between them in the heap (mallopt(3), "dynamic
 * mmap threshold").
 */
void heap_init(void);

/*
 * While somebody is there whose requests' buffers come and go all the time,
 * freed ones stay. By itself malloc gives them to the kernel and gets them
 * back, page by page and zeroed, for every few requests. To each
 * heap_keep() belongs a heap_release().
 */
void heap_keep(void);
void heap_release(void);

#endif
