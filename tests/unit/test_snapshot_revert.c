/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_snapshot_revert.c - three disks are reverted to a snapshot: all of them
 * or none, whatever fails or is killed; and a revert finds one that another
 * process left unfinished. Over the driver of snapshot_process.h.
 */
#include "snapshot_group.h"

#include "array.h"
#include "client_many.h"

/* Of this process. The limit of a wait has passed when a test says so, and never because the machine is busy. */
static int64_t passed_ms;

int __real_clock_gettime(clockid_t id, struct timespec *now);
int __wrap_clock_gettime(clockid_t id, struct timespec *now);

int __wrap_clock_gettime(clockid_t id, struct timespec *now)
{
	int error = __real_clock_gettime(id, now);

	now->tv_sec += passed_ms / 1000;
	return error;
}

static void limit_passes(const char *step)
{
	passed_ms += TIMEOUT_MS;
}

static int go_back(void)
{
	return tapctl_snapshot_revert(disks, NR_DISKS, "snap", NULL, TIMEOUT_MS, NULL);
}

/* No disk is undecided, all or none were reverted (-1: either), and each disk can be used again. */
static void expect_gone_back(int times)
{
	struct error_text text = { "" };

	for (unsigned i = 0; i < NR_DISKS; i++) {
		volatile struct fake_disk *disk = processes[i].disk;

		wait_until(!disk->prepared[0]);
		if (times < 0)
			times = (int)disk->went_back;
		assert_int_equal(disk->went_back, times);
	}
	/* whether a connection is possible can only be tested with another operation: another revert does */
	if (tapctl_snapshot_revert(disks, NR_DISKS, "snap", NULL, TIMEOUT_MS, &text))
		fail_msg("%s", text.text);
	for (unsigned i = 0; i < NR_DISKS; i++) {
		assert_int_equal(processes[i].disk->went_back, times + 1);
		processes[i].disk->went_back = 0;
	}
}

static void begin_with_snapshot(void)
{
	for (unsigned i = 0; i < NR_DISKS; i++)
		strcpy(processes[i].disk->listed, "snap");
}

static void test_revert_together(void **state)
{
	struct error_text text = { "" };
	char record[400];

	begin_with_snapshot();
	assert_int_equal(go_back(), 0);
	expect_records(0);
	expect_gone_back(1);
	/* one disk fails */
	processes[1].disk->fail[SNAPSHOT_REVERT] = -EIO;
	assert_int_equal(tapctl_snapshot_revert(disks, NR_DISKS, "snap", NULL, TIMEOUT_MS, &text), -EIO);
	assert_non_null(strstr(text.text, "no disk was reverted"));
	processes[1].disk->fail[SNAPSHOT_REVERT] = 0;
	expect_records(0);
	expect_gone_back(0);
	/* another process has opened one meanwhile */
	client_group_step = decide_against;
	assert_int_equal(go_back(), -ECANCELED);
	client_group_step = NULL;
	expect_records(0);
	expect_gone_back(0);
	/* one fails after the decision: it stays undecided, and the record stays */
	processes[1].disk->fail[SNAPSHOT_COMMIT] = -EIO;
	processes[1].disk->calls[SNAPSHOT_COMMIT] = 0;
	text.text[0] = '\0';
	assert_int_equal(tapctl_snapshot_revert(disks, NR_DISKS, "snap", NULL, TIMEOUT_MS, &text), -EIO);
	assert_int_equal(count_records(record, sizeof(record)), 1);
	assert_non_null(strstr(text.text, record));
	assert_int_equal(processes[0].disk->went_back + processes[2].disk->went_back, 2);
	wait_until(processes[1].disk->calls[SNAPSHOT_COMMIT] == 3);	/* it was told twice, and has read the record as well */
	client_group_step = limit_passes;
	assert_int_equal(tapctl_snapshot_revert(&disks[1], 1, "snap", NULL, TIMEOUT_MS, NULL), -EALREADY);
	client_group_step = NULL;
}

static void test_reverter_killed(void **state)
{
	static const enum snapshot_op ops[] = { SNAPSHOT_REVERT, SNAPSHOT_COMMIT };
	static const struct { const char *step; int times; } steps[] = { { "prepared", 0 }, { "decided", 1 }, { "committed", 1 } };

	begin_with_snapshot();
	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
		killed_after = steps[i].step;
		coordinate(go_back, -1);
		expect_gone_back(steps[i].times);
	}
	killed_after = NULL;
	for (unsigned i = 0; i < ARRAY_SIZE(ops); i++) {
		for (int which = 0; which < NR_DISKS; which++) {
			processes[which].disk->kill_at = (int)ops[i];
			coordinate(go_back, which);
			processes[which].disk->kill_at = -1;
			expect_gone_back(ops[i] == SNAPSHOT_COMMIT);
		}
	}
}

static struct many other;		/* has one of the disks prepared */

static json_t *prepare_other(struct many_disk *disk, void *decision)
{
	return json_pack("{s:s, s:i, s:s, s:s}", "command", "snapshot-revert", "minor", disk->disk.minor, "name", "snap",
			 "decision", decision);
}

static void other_goes(const char *step)
{
	many_close(&other);
}

/* A revert after a killed coordinator waits until its disk knows the outcome of that one. */
static void test_revert_behind_another(void **state)
{
	char decision[PATH_MAX];
	struct error_text text = { "" };

	begin_with_snapshot();
	assert_int_equal(client_decision_name(decision, NULL, &text), 0);
	assert_int_equal(many_open(&other, &disks[1], 1, &text), 0);
	assert_int_equal(many_call(&other, prepare_other, decision, false, TIMEOUT_MS, &text), 0);
	client_group_step = other_goes;
	assert_int_equal(go_back(), 0);
	client_group_step = NULL;
	assert_int_equal(unlink(decision), 0);	/* the disk was prepared alone, so this record is its own */
	expect_records(0);
	expect_gone_back(1);

	/* the wait has a limit */
	assert_int_equal(many_open(&other, &disks[1], 1, &text), 0);
	assert_int_equal(many_call(&other, prepare_other, decision, false, TIMEOUT_MS, &text), 0);
	client_group_step = limit_passes;
	assert_int_equal(tapctl_snapshot_revert(disks, NR_DISKS, "snap", NULL, TIMEOUT_MS, &text), -EALREADY);
	client_group_step = NULL;
	assert_non_null(strstr(text.text, "a revert of"));
	many_close(&other);
	expect_gone_back(0);
}

static void held_is_released(const char *step)
{
	processes[1].disk->kill_at = -1;
	fake_release(&processes[1]);
}

static int go_back_alone(void)
{
	return tapctl_snapshot_revert(&disks[1], 1, "snap", NULL, TIMEOUT_MS, NULL);
}

/*
 * The same for a single disk: after another coordinator's group, and after a revert that still runs
 * although its client was killed.
 */
static void test_lone_revert_behind_another(void **state)
{
	struct fake_disk *disk = processes[1].disk;
	struct error_text text = { "" };
	char decision[PATH_MAX];

	begin_with_snapshot();
	assert_int_equal(client_decision_name(decision, NULL, &text), 0);
	assert_int_equal(many_open(&other, &disks[1], 1, &text), 0);
	assert_int_equal(many_call(&other, prepare_other, decision, false, TIMEOUT_MS, &text), 0);
	client_group_step = other_goes;
	assert_int_equal(go_back_alone(), 0);
	client_group_step = NULL;
	assert_int_equal(disk->went_back, 1);
	unlink(decision);

	disk->hold[SNAPSHOT_REVERT] = true;
	disk->kill_at = SNAPSHOT_REVERT;
	coordinate(go_back_alone, 1);
	client_group_step = held_is_released;
	assert_int_equal(go_back_alone(), 0);
	client_group_step = NULL;
	assert_int_equal(disk->went_back, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_DISKS(test_revert_together),
		ON_DISKS(test_reverter_killed),
		ON_DISKS(test_revert_behind_another),
		ON_DISKS(test_lone_revert_behind_another),
	};

	return cmocka_run_group_tests_name("snapshot revert", tests, fake_make_directory, fake_remove_directory);
}
