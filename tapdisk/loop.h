/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop.h - tapdisk's event loop: descriptors, timers, and what has to happen
 * once before each sleep (commit I/O, push responses). One thread, no locks.
 */
#ifndef TAPDISK_LOOP_H
#define TAPDISK_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;
struct loop_source;

int loop_create(struct loop **loop);
void loop_destroy(struct loop *loop);
int loop_run(struct loop *loop);		/* until loop_quit(); 0 or -errno */
void loop_quit(struct loop *loop);

/* @events: EPOLLIN, EPOLLOUT; @ready is called while they hold (level triggered). */
int loop_add_fd(struct loop *loop, struct loop_source **source, int fd, uint32_t events,
		void (*ready)(void *arg, uint32_t events), void *arg);
int loop_modify_fd(struct loop_source *source, uint32_t events);
/* Once after @ms milliseconds. Freed by itself when it has fired; until then loop_remove() cancels it. */
int loop_add_timer(struct loop *loop, struct loop_source **source, unsigned ms, void (*expired)(void *arg), void *arg);
/* Called before each sleep, the newest first (so that the hook added first, the engine's commit, sees what all
 * others made); returns true when it made work that should be looked at before sleeping. */
int loop_add_prepare(struct loop *loop, struct loop_source **source, bool (*prepare)(void *arg), void *arg);
/* Called when a sleep was interrupted: then nothing is reported as ready, even if something is. */
void loop_set_interrupted(struct loop *loop, void (*interrupted)(void *arg), void *arg);
/*
 * Before a sleep look for up to @us microseconds whether there is something to
 * do, where that has been found to pay (0, as at the start: never). It spares
 * a wake-up, and costs processor time.
 */
void loop_set_poll(struct loop *loop, unsigned us);
/* For prepare hooks: they will be called again before the next sleep, so nobody needs to signal. */
bool loop_polling(const struct loop *loop);
/* Safe from inside any callback, its own included; NULL is ignored. */
void loop_remove(struct loop_source *source);

/* CLOCK_MONOTONIC, nanoseconds, read once per wake-up and again when the prepare hooks go round once more: where no
 * process can read the clock (some Xen domains) each look is a system call. */
uint64_t loop_now(const struct loop *loop);
/* The same, read afresh. */
uint64_t loop_clock(void);

#endif
