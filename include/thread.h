/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * thread.h - start a helper thread.
 */
#ifndef TAPSNAP_THREAD_H
#define TAPSNAP_THREAD_H

#include <pthread.h>

/*
 * The thread blocks all signals, so that they reach threads that wait for them, and has a stack of 256 KiB. It must not
 * start programs: they would inherit the blocked signals. @thread NULL: detached. 0 or -errno.
 */
int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);

#endif
