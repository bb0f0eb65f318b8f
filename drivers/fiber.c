/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * fiber.c - fibers by swapcontext(3).
 *
 * swapcontext() makes a system call for the signal mask, so fibers are for
 * calls that wait for I/O anyway, not for every request. A guard page ends
 * each stack; a few free stacks are kept. The sanitizers are told of each switch.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#include <dlfcn.h>
#include <sanitizer/common_interface_defs.h>
#elif defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

#include "fiber.h"

#define STACK_BYTES (256u << 10)
#define GUARD_BYTES 4096u
#define KEEP_STACKS 4

struct fiber {
	ucontext_t context, caller;
	struct fiber *outer;		/* the fiber that resumed this one */
	void *stack;
	void (*run)(void *arg);
	void *arg;
	bool ended;
#if defined(__SANITIZE_ADDRESS__)
	void *fake, *outer_fake;
	const void *outer_bottom;
	size_t outer_size;
#elif defined(__SANITIZE_THREAD__)
	void *self, *outer_self;
#endif
};

static _Thread_local struct fiber *running;
static _Thread_local void *stacks[KEEP_STACKS];
static _Thread_local int nr_stacks;

#if defined(__SANITIZE_ADDRESS__)
/*
 * Use libc's function: AddressSanitizer's wrapper prints a warning at the first switch, which a confined tapdisk cannot
 * write to the place for reports; AddressSanitizer then ends the process.
 */
static int libc_swapcontext(ucontext_t *from, const ucontext_t *to)
{
	static int (*swap)(ucontext_t *from, const ucontext_t *to);

	if (!swap)
		swap = (int (*)(ucontext_t *, const ucontext_t *))dlsym(dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD), "swapcontext");
	return swap(from, to);
}
#define swapcontext libc_swapcontext

static void switch_in(struct fiber *fiber)
{
	__sanitizer_start_switch_fiber(&fiber->outer_fake, fiber->stack, STACK_BYTES);
}

static void switched_in(struct fiber *fiber)
{
	__sanitizer_finish_switch_fiber(fiber->fake, &fiber->outer_bottom, &fiber->outer_size);
}

static void switch_out(struct fiber *fiber)
{
	__sanitizer_start_switch_fiber(fiber->ended ? NULL : &fiber->fake, fiber->outer_bottom, fiber->outer_size);
}

static void switched_out(struct fiber *fiber)
{
	__sanitizer_finish_switch_fiber(fiber->outer_fake, NULL, NULL);
}
#elif defined(__SANITIZE_THREAD__)
static void switch_in(struct fiber *fiber)
{
	fiber->outer_self = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(fiber->self, 0);
}

static void switched_in(struct fiber *fiber) { }

static void switch_out(struct fiber *fiber)
{
	__tsan_switch_to_fiber(fiber->outer_self, 0);
}

static void switched_out(struct fiber *fiber) { }
#else
static void switch_in(struct fiber *fiber) { }
static void switched_in(struct fiber *fiber) { }
static void switch_out(struct fiber *fiber) { }
static void switched_out(struct fiber *fiber) { }
#endif

static void *stack_get(void)
{
	char *base;

	if (nr_stacks)
		return stacks[--nr_stacks];
	base = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED)
		return NULL;
	if (mprotect(base, GUARD_BYTES, PROT_NONE)) {
		munmap(base, STACK_BYTES + GUARD_BYTES);
		return NULL;
	}
	return base + GUARD_BYTES;
}

static void stack_put(void *stack)
{
	if (nr_stacks < KEEP_STACKS)
		stacks[nr_stacks++] = stack;
	else
		munmap((char *)stack - GUARD_BYTES, STACK_BYTES + GUARD_BYTES);
}

static void fiber_free(struct fiber *fiber)
{
#if defined(__SANITIZE_THREAD__)
	__tsan_destroy_fiber(fiber->self);
#endif
	stack_put(fiber->stack);
	free(fiber);
}

static void fiber_main(void)
{
	struct fiber *fiber = running;

	switched_in(fiber);
	fiber->run(fiber->arg);
	fiber->ended = true;
	switch_out(fiber);
	setcontext(&fiber->caller);
}

int fiber_start(void (*run)(void *arg), void *arg)
{
	struct fiber *fiber = calloc(1, sizeof(*fiber));

	if (!fiber)
		return -ENOMEM;
	fiber->stack = stack_get();
	if (!fiber->stack) {
		free(fiber);
		return -ENOMEM;
	}
#if defined(__SANITIZE_THREAD__)
	fiber->self = __tsan_create_fiber(0);
#endif
	fiber->run = run;
	fiber->arg = arg;
	getcontext(&fiber->context);
	fiber->context.uc_stack.ss_sp = fiber->stack;
	fiber->context.uc_stack.ss_size = STACK_BYTES;
	makecontext(&fiber->context, fiber_main, 0);
	fiber_resume(fiber);
	return 0;
}

struct fiber *fiber_current(void)
{
	return running;
}

void fiber_yield(void)
{
	struct fiber *fiber = running;

	switch_out(fiber);
	swapcontext(&fiber->context, &fiber->caller);
	switched_in(fiber);
}

void fiber_resume(struct fiber *fiber)
{
	fiber->outer = running;
	running = fiber;
	switch_in(fiber);
	swapcontext(&fiber->caller, &fiber->context);
	switched_out(fiber);
	running = fiber->outer;
	if (fiber->ended)
		fiber_free(fiber);
}
