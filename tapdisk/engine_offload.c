/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_offload.c - helper threads for operations that the kernel only has in
 * blocking form.
 *
 * Each descriptor with such operations has a thread of its own, so that one
 * whose storage does not answer does not delay the others: up to MAX_THREADS;
 * descriptors beyond that share one. The first thread is made at once, the
 * others when they are needed; they remain.
 *
 * Invariants:
 *  1. An io is in exactly one place: the todo list of a helper, its thread, the
 *     finished list, or completed (engine_complete() was called). priv[1] is
 *     the number of its helper.
 *  2. Lists and `stop` are changed under the lock only; the rest belongs to
 *     the engine's thread.
 *  3. The eventfd is signalled after the io is on the finished list, so a
 *     reader that resets it before it reads the list misses nothing.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "engine_list.h"
#include "engine_offload.h"
#include "engine_syscall.h"
#include "thread.h"

#define MAX_THREADS 32u

struct helper {
	struct offload *offload;
	pthread_t thread;
	pthread_cond_t work;
	struct engine_list todo;
	unsigned pending;		/* its ios, queued and not yet reaped */
	int fd;				/* the descriptor of the last one */
};

struct offload {
	pthread_mutex_t lock;
	struct engine_list finished;
	bool stop;
	int event;
	unsigned pending;
	bool has_processors;
	cpu_set_t processors;		/* at the start: the engine's thread may be bound to one later (processor.h) */
	unsigned count;			/* helpers with a thread */
	struct helper helpers[MAX_THREADS];
};

static void *offload_main(void *arg)
{
	struct helper *helper = arg;
	struct offload *offload = helper->offload;
	struct engine_io *io;

	if (offload->has_processors)
		sched_setaffinity(0, sizeof(offload->processors), &offload->processors);
	pthread_mutex_lock(&offload->lock);
	while (!offload->stop) {
		io = engine_list_take(&helper->todo);
		if (!io) {
			pthread_cond_wait(&helper->work, &offload->lock);
			continue;
		}
		pthread_mutex_unlock(&offload->lock);
		io->priv[0] = engine_syscall(io);
		pthread_mutex_lock(&offload->lock);
		engine_list_add(&offload->finished, io);
		eventfd_write(offload->event, 1);
	}
	pthread_mutex_unlock(&offload->lock);
	return NULL;
}

static int offload_add_thread(struct offload *offload)
{
	struct helper *helper = &offload->helpers[offload->count];
	int error;

	helper->offload = offload;
	engine_list_init(&helper->todo);
	pthread_cond_init(&helper->work, NULL);
	error = thread_start(&helper->thread, offload_main, helper);
	if (error)
		pthread_cond_destroy(&helper->work);
	else
		offload->count++;
	return error;
}

int offload_create(struct offload **result, int event)
{
	struct offload *offload = calloc(1, sizeof(*offload));
	int error;

	if (!offload)
		return -ENOMEM;
	offload->event = event;
	offload->has_processors = !sched_getaffinity(0, sizeof(offload->processors), &offload->processors);
	engine_list_init(&offload->finished);
	pthread_mutex_init(&offload->lock, NULL);
	error = offload_add_thread(offload);
	if (error) {
		pthread_mutex_destroy(&offload->lock);
		free(offload);
		return error;
	}
	*result = offload;
	return 0;
}

void offload_destroy(struct offload *offload)
{
	unsigned i;

	assert(!offload->pending);
	pthread_mutex_lock(&offload->lock);
	offload->stop = true;
	for (i = 0; i < offload->count; i++)
		pthread_cond_signal(&offload->helpers[i].work);
	pthread_mutex_unlock(&offload->lock);
	for (i = 0; i < offload->count; i++) {
		pthread_join(offload->helpers[i].thread, NULL);
		pthread_cond_destroy(&offload->helpers[i].work);
	}
	pthread_mutex_destroy(&offload->lock);
	free(offload);
}

/* The helper that has ios of this descriptor, or one without ios; if all are in use and no thread can be made, the least busy. */
static struct helper *offload_choose(struct offload *offload, int fd)
{
	struct helper *best = &offload->helpers[0], *helper;

	for (helper = best; helper < &offload->helpers[offload->count]; helper++) {
		if (helper->pending && helper->fd == fd)
			return helper;
		if (helper->pending < best->pending)
			best = helper;
	}
	if (best->pending && offload->count < MAX_THREADS && !offload_add_thread(offload))
		best = helper;
	return best;
}

void offload_queue(struct offload *offload, struct engine_io *io)
{
	struct helper *helper = offload_choose(offload, io->fd);

	io->priv[1] = helper - offload->helpers;
	helper->fd = io->fd;
	helper->pending++;
	offload->pending++;
	pthread_mutex_lock(&offload->lock);
	engine_list_add(&helper->todo, io);
	pthread_cond_signal(&helper->work);
	pthread_mutex_unlock(&offload->lock);
}

int offload_reap(struct offload *offload, struct engine *engine)
{
	struct engine_io *io;
	int count = 0;

	for (;;) {
		pthread_mutex_lock(&offload->lock);
		io = engine_list_take(&offload->finished);
		pthread_mutex_unlock(&offload->lock);
		if (!io)
			return count;
		offload->helpers[io->priv[1]].pending--;
		offload->pending--;
		if (engine_complete(engine, io, io->priv[0]))
			count++;
		else
			offload_queue(offload, io);
	}
}

unsigned offload_pending(const struct offload *offload)
{
	return offload->pending;
}
