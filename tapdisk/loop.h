/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * loop.h - tapdisk's event loop: descriptors, timers, and prepare hooks that
 * run before each sleep (commit I/O, push responses). One thread, no locks.
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
/* Fires once after @ms milliseconds; the loop then frees the source. Until then loop_remove() cancels it. */
int loop_add_timer(struct loop *loop, struct loop_source **source, unsigned ms, void (*expired)(void *arg), void *arg);
/* Called before each sleep, newest first: the hook added first, the engine's commit, runs after all others.
 * Returns true if it made work, so that all hooks run again before the sleep. */
int loop_add_prepare(struct loop *loop, struct loop_source **source, bool (*prepare)(void *arg), void *arg);
/* Called when a sleep was interrupted (EINTR), which reports no ready descriptor even if there is one. */
void loop_set_interrupted(struct loop *loop, void (*interrupted)(void *arg), void *arg);
/*
 * Poll for up to @us microseconds before a sleep, while recent sleeps were
 * short (0, the default: never). This saves a wake-up and costs processor time.
 */
void loop_set_poll(struct loop *loop, unsigned us);
/* For prepare hooks: true if they are called again without a sleep, so no signal needs to be requested. */
bool loop_polling(const struct loop *loop);
/* Safe from inside any callback, its own included; NULL is ignored. */
void loop_remove(struct loop_source *source);

/* CLOCK_MONOTONIC, nanoseconds, read once per wake-up and per further pass of the prepare hooks: in some Xen domains
 * each read of the clock is a system call. */
uint64_t loop_now(const struct loop *loop);
/* The same, read now. */
uint64_t loop_clock(void);

#endif
