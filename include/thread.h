/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * thread.h - a thread that works for the one that started it.
 */
#ifndef TAPSNAP_THREAD_H
#define TAPSNAP_THREAD_H

#include <pthread.h>

/*
 * It gets no signals, which are for those who wait for them, and a stack of 256 KiB. Not for what starts programs: they
 * would get no signals either. @thread NULL: nobody joins it. 0 or -errno.
 */
int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);

#endif
