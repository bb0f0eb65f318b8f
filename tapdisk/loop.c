/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop.c - the event loop: epoll, timers, prepare hooks.
 *
 * Each turn: prepare hooks, sleep in epoll_wait, callbacks of ready
 * descriptors, expired timers, then free the sources removed meanwhile.
 *
 * Invariants:
 *  - A source that was removed is never called again and stays readable
 *    until the end of the turn: an event for it may already have been
 *    fetched. So loop_remove() may be called for any source from any
 *    callback, and twice.
 *  - timers is sorted by due time; those due at the same time expire in the
 *    order in which they were added.
 *  - Nothing is allocated for an event.
 *
 * Polling (loop_set_poll()): for up to poll_max after the last work the turns
 * poll instead of sleeping. It starts after POLL_AFTER sleeps in a row that
 * ended within poll_max of the last work, and stops at the first wait that took
 * longer, its polling included. So an idle or rarely busy loop only sleeps.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "loop.h"

#define MAX_EVENTS 64
#define MAX_PASSES 16	/* of the prepare hooks between two epoll_wait() calls */
#define POLL_AFTER 3	/* short sleeps: a single request has two, for its signal and for the disk */

enum source_kind { SOURCE_FD, SOURCE_TIMER, SOURCE_PREPARE };

struct loop_source {
	struct loop *loop;
	enum source_kind kind;
	bool removed;
	int fd;
	uint32_t events;		/* descriptors: that epoll waits for */
	uint64_t due;			/* timers: loop clock, ns */
	union {
		void (*ready)(void *arg, uint32_t events);
		void (*expired)(void *arg);
		bool (*prepare)(void *arg);
	};
	void *arg;
	struct loop_source *next;	/* in timers, prepares or removed; descriptors are in no list */
};

struct loop {
	int epoll_fd;
	bool quit;
	uint64_t now;
	struct loop_source *timers, *prepares, *removed;
	uint64_t poll_max;			/* how long to poll before a sleep, ns; 0: never */
	uint64_t found;				/* loop clock, ns: the last time there was work */
	unsigned short_sleeps;			/* in a row */
	bool polling;				/* this turn does not sleep */
	bool busy;				/* a hook of this turn had something to do */
	void (*interrupted)(void *arg);		/* or NULL */
	void *interrupted_arg;
};

uint64_t loop_clock(void)
{
	return clock_ns();
}

uint64_t loop_now(const struct loop *loop)
{
	return loop->now;
}

int loop_create(struct loop **loop)
{
	*loop = calloc(1, sizeof(**loop));
	if (!*loop)
		return -ENOMEM;
	(*loop)->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if ((*loop)->epoll_fd < 0) {
		int error = -errno;

		free(*loop);
		*loop = NULL;
		return error;
	}
	(*loop)->now = loop_clock();
	return 0;
}

static void free_removed(struct loop *loop)
{
	struct loop_source *source;

	while ((source = loop->removed)) {
		loop->removed = source->next;
		free(source);
	}
}

void loop_set_poll(struct loop *loop, unsigned us)
{
	loop->poll_max = (uint64_t)us * 1000;
}

bool loop_polling(const struct loop *loop)
{
	return loop->polling;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	while (loop->timers)
		loop_remove(loop->timers);
	while (loop->prepares)
		loop_remove(loop->prepares);
	free_removed(loop);
	close(loop->epoll_fd);
	free(loop);
}

void loop_quit(struct loop *loop)
{
	loop->quit = true;
}

static struct loop_source *new_source(struct loop *loop, enum source_kind kind, void *arg)
{
	struct loop_source *source = calloc(1, sizeof(*source));

	if (source) {
		source->loop = loop;
		source->kind = kind;
		source->fd = -1;
		source->arg = arg;
	}
	return source;
}

int loop_add_fd(struct loop *loop, struct loop_source **source, int fd, uint32_t events,
		void (*ready)(void *arg, uint32_t events), void *arg)
{
	struct epoll_event event = { .events = events };
	int error;

	*source = new_source(loop, SOURCE_FD, arg);
	if (!*source)
		return -ENOMEM;
	(*source)->fd = fd;
	(*source)->events = events;
	(*source)->ready = ready;
	event.data.ptr = *source;
	if (!epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event))
		return 0;
	error = -errno;
	free(*source);
	*source = NULL;
	return error;
}

int loop_modify_fd(struct loop_source *source, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = source };

	if (events == source->events)
		return 0;
	if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event))
		return -errno;
	source->events = events;
	return 0;
}

int loop_add_timer(struct loop *loop, struct loop_source **source, unsigned ms, void (*expired)(void *arg), void *arg)
{
	struct loop_source **place = &loop->timers;

	*source = new_source(loop, SOURCE_TIMER, arg);
	if (!*source)
		return -ENOMEM;
	(*source)->expired = expired;
	(*source)->due = loop_clock() + (uint64_t)ms * 1000000;
	while (*place && (*place)->due <= (*source)->due)
		place = &(*place)->next;
	(*source)->next = *place;
	*place = *source;
	return 0;
}

int loop_add_prepare(struct loop *loop, struct loop_source **source, bool (*prepare)(void *arg), void *arg)
{
	*source = new_source(loop, SOURCE_PREPARE, arg);
	if (!*source)
		return -ENOMEM;
	(*source)->prepare = prepare;
	(*source)->next = loop->prepares;
	loop->prepares = *source;
	return 0;
}

void loop_set_interrupted(struct loop *loop, void (*interrupted)(void *arg), void *arg)
{
	loop->interrupted = interrupted;
	loop->interrupted_arg = arg;
}

static void unlink_source(struct loop_source **list, const struct loop_source *source)
{
	while (*list != source)
		list = &(*list)->next;
	*list = source->next;
}

void loop_remove(struct loop_source *source)
{
	struct loop *loop;

	if (!source || source->removed)
		return;
	loop = source->loop;
	source->removed = true;
	switch (source->kind) {
	case SOURCE_FD:
		/* fails if the descriptor was closed before, which removed it as well */
		epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
		break;
	case SOURCE_TIMER:
		unlink_source(&loop->timers, source);
		break;
	case SOURCE_PREPARE:
		unlink_source(&loop->prepares, source);
		break;
	}
	source->next = loop->removed;
	loop->removed = source;
}

static bool run_prepares(struct loop *loop)
{
	struct loop_source *source, *next;
	bool work = false;

	for (source = loop->prepares; source; source = next) {
		work |= source->prepare(source->arg);
		if (source->removed)
			return true;	/* its `next` is no longer in the list; the rest runs in the next pass */
		next = source->next;
	}
	return work;
}

/* Run the hooks until they make no more work; true: work is left, but descriptors and timers must run first. */
static bool run_all_prepares(struct loop *loop)
{
	for (int passes = 0; passes < MAX_PASSES; passes++) {
		if (passes)
			loop->now = loop_clock();
		if (!run_prepares(loop))
			return false;
		loop->busy = true;
	}
	return true;
}

static int sleep_ms(const struct loop *loop)
{
	uint64_t ms;

	if (!loop->timers)
		return -1;
	if (loop->timers->due <= loop->now)
		return 0;
	/* rounded up, so that a timer is never early and the loop never spins */
	ms = (loop->timers->due - loop->now + 999999) / 1000000;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void run_timers(struct loop *loop)
{
	struct loop_source *source;

	/* a timer added by a callback is due later than loop->now, so this loop ends */
	while ((source = loop->timers) && source->due <= loop->now) {
		loop_remove(source);
		source->expired(source->arg);
	}
}

/* After epoll_wait(); @found: a descriptor was ready. */
static void poll_adapt(struct loop *loop, bool slept, bool found)
{
	if (slept && loop->now - loop->found > loop->poll_max)
		loop->short_sleeps = 0;
	else if (slept && loop->short_sleeps < POLL_AFTER)
		loop->short_sleeps++;
	if (found || loop->busy)
		loop->found = loop->now;
}

static int run_turn(struct loop *loop)
{
	struct epoll_event events[MAX_EVENTS];
	int i, count, timeout;

	loop->busy = false;
	loop->polling = loop->short_sleeps == POLL_AFTER && loop->now < loop->found + loop->poll_max;
	timeout = run_all_prepares(loop) || loop->quit || loop->polling ? 0 : sleep_ms(loop);
	count = epoll_wait(loop->epoll_fd, events, MAX_EVENTS, timeout);
	if (count < 0 && errno != EINTR)
		return -errno;
	loop->now = loop_clock();
	poll_adapt(loop, timeout != 0, count != 0);
	if (count < 0 && loop->interrupted)
		loop->interrupted(loop->interrupted_arg);
	for (i = 0; i < count; i++) {
		struct loop_source *source = events[i].data.ptr;

		if (!source->removed)
			source->ready(source->arg, events[i].events);
	}
	run_timers(loop);
	free_removed(loop);
	return 0;
}

int loop_run(struct loop *loop)
{
	int error = 0;

	loop->quit = false;
	while (!error && !loop->quit)
		error = run_turn(loop);
	return error;
}
