/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_disk_only.c - snapshots of a domain, without Xen: of its disks,
 * without its memory.
 */
#include "domain_expect.h"

#include <errno.h>

static void test_disks_only(void **state)
{
	const char *const left_out[] = { "xvdb", NULL };
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "d", .disk_only = true };

	must(fake_run(request));
	request.name = "half";
	request.leave_out = left_out;
	must(fake_run(request));
	expect_disk(0, "d half");
	expect_disk(1, "d");
	request.live = true;
	must_fail(fake_run(request), -EINVAL, "live");
	/* without memory the domain is left shut off */
	must(revert("d"));
	assert_false(fake->there);
	/* and can have snapshots in that state */
	must(create("off"));
	expect_list("d half off");
	expect_disk(0, "d half off");
	expect_disk(1, "d off");
	must(delete("half", false));
	request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_REVERT, .name = "off", .after = DOMAIN_SNAPSHOT_PAUSED };
	must(fake_run(request));
	assert_true(fake->there && fake->paused);
	fake->paused = false;
	must(delete("d", true));
	expect_disks("");
	expect_files(0);
}

/* A domain that cannot be booted is noticed while it runs. */
static void test_unbootable(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "d", .disk_only = true };

	must(fake_run(request));
	fake->memory = 2;
	fake->unbootable = true;
	request.command = DOMAIN_SNAPSHOT_REVERT;
	for (request.after = DOMAIN_SNAPSHOT_RUNNING; request.after <= DOMAIN_SNAPSHOT_PAUSED; request.after++) {
		must_fail(fake_run(request), -EOPNOTSUPP, "it has devices");
		expect_running(2);
		expect_files(1);
	}
	request.after = DOMAIN_SNAPSHOT_AS_SAVED;
	must(fake_run(request));
	assert_false(fake->there);
	fake->unbootable = false;
	must(delete("d", false));
}

/* A paused domain stays paused, or gets the state that was asked for. */
static void test_disks_only_paused(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "a", .disk_only = true };

	fake->paused = true;
	must(fake_run(request));
	assert_true(fake->paused);
	request.name = "b";
	request.after = DOMAIN_SNAPSHOT_RUNNING;
	must(fake_run(request));
	expect_running(1);
	must(delete("a", false));
	must(delete("b", false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_disks_only),
		DOMAIN_TEST(test_unbootable),
		DOMAIN_TEST(test_disks_only_paused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: disks only", tests, NULL, NULL);
}
