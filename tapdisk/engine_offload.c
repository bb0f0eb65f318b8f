/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * engine_offload.c - a helper thread for operations that the kernel only has in
 * blocking form.
 *
 * Invariants:
 *  1. An io is in exactly one place: the todo list, the thread, the finished
 *     list, or completed (engine_complete() was called).
 *  2. Lists and `stop` are changed under the lock only; `pending` belongs to
 *     the engine's thread.
 *  3. The eventfd is signalled after the io is on the finished list, so a
 *     reader that resets it before it reads the list misses nothing.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "engine_list.h"
#include "engine_offload.h"
#include "engine_syscall.h"
#include "thread.h"

struct offload {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct engine_list todo, finished;
	bool stop;
	int event;
	unsigned pending;
};

static void *offload_main(void *arg)
{
	struct offload *offload = arg;
	struct engine_io *io;

	pthread_mutex_lock(&offload->lock);
	while (!offload->stop) {
		io = engine_list_take(&offload->todo);
		if (!io) {
			pthread_cond_wait(&offload->work, &offload->lock);
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

int offload_create(struct offload **result, int event)
{
	struct offload *offload = calloc(1, sizeof(*offload));
	int error;

	if (!offload)
		return -ENOMEM;
	offload->event = event;
	engine_list_init(&offload->todo);
	engine_list_init(&offload->finished);
	pthread_mutex_init(&offload->lock, NULL);
	pthread_cond_init(&offload->work, NULL);
	error = thread_start(&offload->thread, offload_main, offload);
	if (error) {
		pthread_cond_destroy(&offload->work);
		pthread_mutex_destroy(&offload->lock);
		free(offload);
		return error;
	}
	*result = offload;
	return 0;
}

void offload_destroy(struct offload *offload)
{
	assert(!offload->pending);
	pthread_mutex_lock(&offload->lock);
	offload->stop = true;
	pthread_cond_signal(&offload->work);
	pthread_mutex_unlock(&offload->lock);
	pthread_join(offload->thread, NULL);
	pthread_cond_destroy(&offload->work);
	pthread_mutex_destroy(&offload->lock);
	free(offload);
}

void offload_queue(struct offload *offload, struct engine_io *io)
{
	offload->pending++;
	pthread_mutex_lock(&offload->lock);
	engine_list_add(&offload->todo, io);
	pthread_cond_signal(&offload->work);
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
