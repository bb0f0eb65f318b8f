/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * thread.c - start a helper thread (thread.h).
 */
#include "thread.h"

#include <signal.h>
#include <stddef.h>

#define STACK_SIZE (256 * 1024)

int thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
	pthread_attr_t attr;
	pthread_t detached;
	sigset_t all, old;
	int error = pthread_attr_init(&attr);

	if (error)
		return -error;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_attr_setstacksize(&attr, STACK_SIZE);
	if (!error && !thread)
		error = pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	if (!error)
		error = pthread_create(thread ? thread : &detached, &attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -error;
}
