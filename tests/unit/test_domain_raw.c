/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_raw.c - snapshots of a domain, without Xen: one of its disks is a
 * raw image, which moves onto a store.
 */
#include "domain_expect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* A raw disk is refused, or moves onto a store; the domain's configuration still says "aio:". */
static void test_raw(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "r" };
	char path[128];
	json_t *info, *disk;

	use_raw(6);
	must_fail(fake_run(request), -EOPNOTSUPP, "--store");
	expect_running(6);
	expect_disk(0, "");
	request.store = fake_dir;
	must(fake_run(request));
	expect_disks("r");
	info = read_info("r");
	disk = json_array_get(json_object_get(info, "disks"), 1);
	snprintf(path, sizeof(path), "aio:%s/b.img", fake_dir);
	assert_string_equal(info_string(disk, "target"), path);
	snprintf(path, sizeof(path), "%s/b.img.cow", fake_dir);
	assert_string_equal(info_string(disk, "path"), path);
	assert_string_equal(info_string(disk, "format"), "cow");
	json_decref(info);
	fake->memory = 7;
	must(revert("r"));
	expect_running(6);
	must(delete("r", false));
	expect_disks("");
}

/* A disk has moved for a snapshot that failed: it moves back. */
static void test_raw_undone(void **state)
{
	struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "r", .store = fake_dir, .hook = hook,
	};

	use_raw(6);
	make_hook();
	refuse("thaw", true);
	must_fail(fake_run(request), -EIO, "not now");
	assert_false(is_moved());
	expect_files(0);
	fake->fail_save = -EIO;
	must_fail(fake_run(request), -EIO, "the guest did not answer");
	fake->fail_save = 0;
	assert_false(is_moved());
	expect_files(0);
	expect_running(6);
	expect_disk(0, "");
	refuse("thaw", false);
	must(fake_run(request));
	expect_disks("r");
	must(delete("r", false));
}

/* A disk without a tapdisk in its configuration may be written by others, who do not know of a store: it is not moved. */
static void test_raw_unsaid(void **state)
{
	const char *const left_out[] = { "xvdb", NULL };
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "r", .store = fake_dir };
	char config[100];

	use_raw(6);
	fake_stop_domain();
	snprintf(config, sizeof(config), "%s/guest.cfg", fake_dir);
	close(open(config, O_WRONLY | O_CREAT, 0600));
	request.domain = config;
	fake->unsaid = true;
	must_fail(fake_run(request), -EOPNOTSUPP, "disk xvdb: no tapdisk serves it");
	request.leave_out = left_out;
	must(fake_run(request));
	must(delete("r", false));
	fake->unsaid = false;
	fake_start_domain();
	assert_false(is_moved());
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_raw),
		DOMAIN_TEST(test_raw_undone),
		DOMAIN_TEST(test_raw_unsaid),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: raw disks", tests, NULL, NULL);
}
