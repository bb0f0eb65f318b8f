/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_vbd_commit.c - the pace of a commit: bytes copied against the clock,
 * which the test supplies, with the timers and a driver that only counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "loop.h"
#include "vbd_internal.h"

#define MS 1000000u
#define MIB (1ull << 20)
#define TOTAL (100 * MIB)
#define STEP MIB
#define STEP_MS 20u		/* a step takes that long: at most 50 MiB a second */

static uint64_t now, copied;
static uint64_t stall_ms;	/* the next step takes longer by this */
static bool synced;
static struct vbd vbd;

static struct {
	uint64_t at;
	void (*expired)(void *arg);
	void *arg;
} timer;

uint64_t __wrap_loop_clock(void);
int __wrap_loop_add_timer(struct loop *on, struct loop_source **source, unsigned ms, void (*expired)(void *arg), void *arg);
void __wrap_loop_remove(struct loop_source *source);

uint64_t __wrap_loop_clock(void)
{
	return now;
}

int __wrap_loop_add_timer(struct loop *on, struct loop_source **source, unsigned ms, void (*expired)(void *arg), void *arg)
{
	timer.at = now + (uint64_t)ms * MS;
	timer.expired = expired;
	timer.arg = arg;
	*source = (struct loop_source *)&timer;
	return 0;
}

void __wrap_loop_remove(struct loop_source *source)
{
}

static void copy(void *handle, struct snapshot_command *command)
{
	if (command->op == SNAPSHOT_MERGE_STEP) {
		now += (STEP_MS + stall_ms) * MS;
		stall_ms = 0;
		copied += STEP;
		command->copied = STEP;
	}
	synced = command->op == SNAPSHOT_MERGE_SYNC;
	command->left = TOTAL - copied;
	command->pass = 1;
	command->done(command, 0);
}

static const struct driver_ops ops = { .name = "counting", .snapshot = copy };
static struct backend backend = { .ops = &ops, .overlay = "store" };

static void begin(uint64_t rate)
{
	struct error_text error = { "" };

	now = 1000u * MS;
	copied = 0;
	synced = false;
	vbd = (struct vbd){ .state = VBD_RUNNING, .backend = &backend, .target = "aio:image" };
	vbd.geometry.sectors = TOTAL >> SECTOR_SHIFT;
	assert_int_equal(vbd_commit(&vbd, rate, true, &error), 0);
}

/* Until @bytes are copied; returns the milliseconds that it took. */
static uint64_t run(uint64_t bytes)
{
	uint64_t before = now;

	while (copied < bytes && !synced) {
		if (vbd_commit_run(&vbd) || !vbd.commit.timer)
			continue;
		assert_true(timer.at > now);
		now = timer.at;
		timer.expired(timer.arg);
	}
	return (now - before) / MS;
}

static void set_rate(uint64_t rate)
{
	struct error_text error = { "" };

	assert_int_equal(vbd_commit(&vbd, rate, true, &error), 0);
}

/* It copies at the rate, neither slower nor faster, although its steps take time, too. */
static void test_rate(void **state)
{
	begin(10 * MIB);
	assert_in_range(run(50 * MIB), 4900, 5000);
	assert_in_range(run(90 * MIB), 3950, 4050);
}

/* A new rate holds at once; what was copied at the old one is neither caught up with nor paid for. */
static void test_another_rate(void **state)
{
	begin(1 * MIB);
	assert_in_range(run(10 * MIB), 9000, 10000);
	set_rate(20 * MIB);
	assert_in_range(run(50 * MIB), 1900, 2100);
	set_rate(1 * MIB);
	assert_in_range(run(60 * MIB), 9000, 10000);
	set_rate(0);
	assert_int_equal(run(90 * MIB), 30 * STEP_MS);
}

/* What storage that stood still has delayed is not caught up with: the rate is a limit. */
static void test_after_a_stall(void **state)
{
	begin(10 * MIB);
	run(10 * MIB);
	stall_ms = 5000;
	run(11 * MIB);
	assert_in_range(run(31 * MIB), 1900, 2000);
}

/* Without a limit it never waits; with one that the steps do not reach, only after the first of them. */
static void test_no_limit(void **state)
{
	begin(0);
	assert_int_equal(run(90 * MIB), 90 * STEP_MS);
	begin(1000 * MIB);
	assert_in_range(run(90 * MIB), 90 * STEP_MS, 90 * STEP_MS + 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rate),
		cmocka_unit_test(test_another_rate),
		cmocka_unit_test(test_after_a_stall),
		cmocka_unit_test(test_no_limit),
	};

	return cmocka_run_group_tests_name("vbd: the pace of a commit", tests, NULL, NULL);
}
