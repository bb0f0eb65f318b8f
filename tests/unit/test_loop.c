/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_loop.c - the event loop: a removed source is never called again,
 * wherever and whenever it is removed; timers in order; hooks before each
 * sleep, and one for an interrupted sleep; when it polls instead of sleeping.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include "loop.h"

#define COUNT 100	/* more than are fetched from the kernel at once */
#define TIMEOUT_MS 10000	/* the end of a test whose events do not come */

static struct loop *loop;
static struct loop_source *sources[COUNT];
static int fds[COUNT];
static unsigned calls;

static int setup(void **state)
{
	calls = 0;
	return loop_create(&loop);
}

static int teardown(void **state)
{
	loop_destroy(loop);
	return 0;
}

static void quit(void *arg)
{
	loop_quit(loop);
}

/* The first one that is called removes all of them, itself included. */
static void remove_all(void *arg, uint32_t events)
{
	calls++;
	for (int i = 0; i < COUNT; i++) {
		loop_remove(sources[i]);
		loop_remove(sources[i]);	/* a second call changes nothing */
	}
}

static void add_ready_fds(void (*ready)(void *arg, uint32_t events))
{
	for (int i = 0; i < COUNT; i++) {
		fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		assert_true(fds[i] >= 0);
		assert_int_equal(loop_add_fd(loop, &sources[i], fds[i], EPOLLIN, ready, &fds[i]), 0);
	}
}

static void close_fds(void)
{
	for (int i = 0; i < COUNT; i++)
		close(fds[i]);
}

static void test_remove_all_from_one(void **state)
{
	struct loop_source *timer;

	add_ready_fds(remove_all);
	assert_int_equal(loop_add_timer(loop, &timer, 20, quit, NULL), 0);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(calls, 1);
	close_fds();
}

/* A time that begins with the last event, however late the machine lets that come. */
static void quit_after(unsigned ms)
{
	struct loop_source *timer;

	assert_int_equal(loop_add_timer(loop, &timer, ms, quit, NULL), 0);
}

/* Each removes its successor and puts a new source in its place, whose memory may be that of the old one. */
static void replace_next(void *arg, uint32_t events)
{
	int next = (int)((int *)arg - fds) + 1;
	eventfd_t value;

	calls++;
	assert_int_equal(eventfd_read(*(int *)arg, &value), 0);
	if (next == COUNT) {
		quit_after(50);
		return;
	}
	loop_remove(sources[next]);
	assert_int_equal(loop_add_fd(loop, &sources[next], fds[next], EPOLLIN, replace_next, &fds[next]), 0);
}

static void test_replace_from_callback(void **state)
{
	add_ready_fds(replace_next);
	quit_after(TIMEOUT_MS);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(calls, COUNT);		/* each descriptor was readable once */
	for (int i = 0; i < COUNT; i++)
		loop_remove(sources[i]);
	close_fds();
}

static struct loop_source *timers[4];
static char order[16];

static void note_timer(void *arg)
{
	order[calls++] = *(const char *)arg;
	if (*(const char *)arg == 'b')
		loop_remove(timers[2]);
}

static void test_timers(void **state)
{
	struct loop_source *last;
	uint64_t start = loop_clock();

	assert_int_equal(loop_add_timer(loop, &timers[3], 30, note_timer, "d"), 0);
	assert_int_equal(loop_add_timer(loop, &timers[0], 5, note_timer, "a"), 0);
	assert_int_equal(loop_add_timer(loop, &timers[1], 10, note_timer, "b"), 0);
	assert_int_equal(loop_add_timer(loop, &timers[2], 20, note_timer, "c"), 0);
	assert_int_equal(loop_add_timer(loop, &last, 40, quit, NULL), 0);
	assert_int_equal(loop_run(loop), 0);
	order[calls] = '\0';
	assert_string_equal(order, "abd");
	assert_true(loop_clock() - start >= 40000000);	/* never early */
	assert_true(loop_now(loop) >= start + 40000000);
}

static struct loop_source *hooks[3];

static bool note_hook(void *arg)
{
	order[calls++] = *(const char *)arg;
	if (*(const char *)arg == 'b') {
		loop_remove(hooks[1]);
		loop_remove(hooks[0]);
	}
	if (calls == 5)
		loop_quit(loop);
	return calls < 5;	/* as long as it returns true the loop does not sleep; nothing would wake it */
}

static void test_prepare_hooks(void **state)
{
	assert_int_equal(loop_add_prepare(loop, &hooks[0], note_hook, "a"), 0);
	assert_int_equal(loop_add_prepare(loop, &hooks[1], note_hook, "b"), 0);
	assert_int_equal(loop_add_prepare(loop, &hooks[2], note_hook, "c"), 0);
	assert_int_equal(loop_run(loop), 0);
	order[calls] = '\0';
	assert_string_equal(order, "cbccc");	/* the newest first; b removes itself and a */
}

static void quit_hook_again(void *arg)
{
	calls++;
	quit(arg);
}

static void test_remove_before_run_and_run_again(void **state)
{
	struct loop_source *source, *timer;
	int fd = eventfd(1, EFD_CLOEXEC);

	assert_int_equal(loop_add_fd(loop, &source, fd, EPOLLIN, remove_all, NULL), 0);
	loop_remove(source);
	loop_remove(NULL);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(loop_add_timer(loop, &timer, 1, quit_hook_again, NULL), 0);
		assert_int_equal(loop_run(loop), 0);
	}
	assert_int_equal(calls, 2);
	close(fd);
}

static void no_handler(int signal)
{
}

static void interrupted(void *arg)
{
	calls++;
	assert_ptr_equal(arg, &calls);
	quit(NULL);
}

/* Called repeatedly, if a signal comes before the sleep. */
static void test_interrupted_sleep(void **state)
{
	struct itimerval often = { .it_interval.tv_usec = 1000, .it_value.tv_usec = 1000 }, never = { 0 };
	struct sigaction action = { .sa_handler = no_handler };

	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	loop_set_interrupted(loop, interrupted, &calls);
	assert_int_equal(setitimer(ITIMER_REAL, &often, NULL), 0);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &never, NULL), 0);
	assert_int_equal(calls, 1);
}

static unsigned polls;		/* hooks that were called in turn without a sleep */
static bool polling;		/* the one that was called last */

static bool watch_polling(void *arg)
{
	calls++;
	polling = loop_polling(loop);
	polls += polling;
	return false;
}

/* An event that comes @left times, each at once: that many short sleeps. Then none for @quiet_ms. */
static unsigned left, quiet_ms;
static bool until_polling;	/* it comes on until the loop polls: on a busy machine some sleeps are not short */

static void come_again(void *arg, uint32_t events)
{
	eventfd_t value;

	eventfd_read(*(int *)arg, &value);
	left -= left > 0;
	if (left || (until_polling && !polls))
		eventfd_write(*(int *)arg, 1);
	else
		quit_after(quiet_ms);
}

static void run_events(unsigned count, unsigned poll_us, unsigned ms)
{
	struct loop_source *source, *hook;
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	polls = calls = 0;
	left = count;
	quiet_ms = ms;
	loop_set_poll(loop, poll_us);
	assert_int_equal(loop_add_fd(loop, &source, fd, EPOLLIN, come_again, &fd), 0);
	assert_int_equal(loop_add_prepare(loop, &hook, watch_polling, NULL), 0);
	quit_after(TIMEOUT_MS);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(left, 0);
	loop_remove(source);
	loop_remove(hook);
	close(fd);
}

#define APART_MS 30
#define EVENTS 4u

static void take(void *arg, uint32_t events)
{
	eventfd_t value;

	eventfd_read(*(int *)arg, &value);
}

/* Makes an event @left times, one after the other; the polls are counted from the first. */
static void event_again(void *arg)
{
	struct loop_source *timer;

	if (left == EVENTS)
		polls = 0;
	eventfd_write(*(int *)arg, 1);
	if (left-- > 1)
		assert_int_equal(loop_add_timer(loop, &timer, APART_MS, event_again, arg), 0);
	else
		loop_quit(loop);
}

/*
 * If the next event comes only after the polling time, but before a sleep as long as that, polling was
 * useless and stops.
 */
static void test_useless_poll(void **state)
{
	struct loop_source *source, *hook, *timer;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	until_polling = true;
	run_events(5, APART_MS * 1000 * 2 / 3, 1);
	until_polling = false;
	assert_true(polls > 0);
	left = EVENTS;
	assert_int_equal(loop_add_fd(loop, &source, fd, EPOLLIN, take, &fd), 0);
	assert_int_equal(loop_add_prepare(loop, &hook, watch_polling, NULL), 0);
	assert_int_equal(loop_add_timer(loop, &timer, APART_MS, event_again, &fd), 0);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(polls, 0);
	assert_false(polling);
	loop_remove(source);
	loop_remove(hook);
	close(fd);
}

/* A single request does not start polling. */
static void test_poll_not_at_once(void **state)
{
	run_events(1, 10000000, 20);
	assert_int_equal(polls, 0);
	assert_in_range(calls, 2, 3);
}

static void test_poll_off(void **state)
{
	run_events(20, 0, 20);
	assert_int_equal(polls, 0);
	assert_in_range(calls, 21, 22);
}

/* After several short sleeps the loop polls; timers and descriptors are still served. */
static void test_poll_after_short_sleeps(void **state)
{
	run_events(5, 10000000, 20);
	assert_true(polls > 0);
	assert_true(polling);
}

/* And polling ends with a sleep when nothing comes. */
static void test_poll_ends(void **state)
{
	run_events(5, 1000, 200);
	assert_false(polling);
}

static void test_bad_descriptor(void **state)
{
	struct loop_source *source;

	assert_int_equal(loop_add_fd(loop, &source, -1, EPOLLIN, remove_all, NULL), -EBADF);
	assert_null(source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_remove_all_from_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_replace_from_callback, setup, teardown),
		cmocka_unit_test_setup_teardown(test_timers, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prepare_hooks, setup, teardown),
		cmocka_unit_test_setup_teardown(test_remove_before_run_and_run_again, setup, teardown),
		cmocka_unit_test_setup_teardown(test_interrupted_sleep, setup, teardown),
		cmocka_unit_test_setup_teardown(test_poll_not_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_poll_off, setup, teardown),
		cmocka_unit_test_setup_teardown(test_poll_after_short_sleeps, setup, teardown),
		cmocka_unit_test_setup_teardown(test_poll_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_useless_poll, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_descriptor, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
