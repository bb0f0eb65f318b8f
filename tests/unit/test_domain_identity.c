/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_identity.c - snapshots of a domain, without Xen: which domain it
 * is, by its config file, its name and its uuid.
 */
#include "domain_expect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * A config file is named: for a running domain the host's configuration counts; of a domain that is
 * off the file is remembered.
 */
static void test_config_file(void **state)
{
	struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CREATE, .name = "on", .domain = "./guest.cfg",
	};
	char path[100], *config, *here = getcwd(NULL, 0);
	struct error_text text = { "" };
	json_t *info;
	int fd;

	assert_int_equal(chdir(fake_dir), 0);
	close(open("guest.cfg", O_WRONLY | O_CREAT, 0600));
	must(fake_run(request));
	info = read_info("on");
	assert_non_null(json_object_get(json_object_get(info, "config"), "b_info"));
	assert_null(info_string(info, "config_file"));
	fd = open(info_string(info, "save"), O_RDONLY);
	assert_int_equal(save_read_head(fd, &config, &text), 0);
	close(fd);
	assert_non_null(strstr(config, "b_info"));
	free(config);
	json_decref(info);
	fake_stop_domain();
	request.name = "off";
	request.hook = "./hook";
	must(fake_run(request));
	info = read_info("off");
	snprintf(path, sizeof(path), "%s/./guest.cfg", fake_dir);
	assert_string_equal(info_string(info, "config_file"), path);
	snprintf(path, sizeof(path), "%s/./hook", fake_dir);
	assert_string_equal(info_string(info, "hook"), path);
	json_decref(info);
	assert_int_equal(chdir(here), 0);
	free(here);
	must(delete("on", true));
}

/* A running domain is not taken for one that is shut off if its name has changed. */
static void test_renamed(void **state)
{
	json_t *info;

	must(create("before"));
	fake->renamed = true;
	must(create("after"));
	info = read_info("after");
	assert_non_null(info_string(info, "save"));
	json_decref(info);
	must(delete("before", true));
	fake->renamed = false;
}

/*
 * Nor if it was restarted without a uuid in its config file, and has another one: its snapshots stay
 * with the old uuid.
 */
static void test_other_uuid(void **state)
{
	const char *const names[] = { FAKE_UUID, NULL };
	char config[100];

	must(create("a"));
	fake_stop_domain();
	fake_start_domain();
	fake->memory = 2;
	fake->other_uuid = true;
	snprintf(config, sizeof(config), "%s/guest.cfg", fake_dir);
	close(open(config, O_WRONLY | O_CREAT, 0600));
	for (unsigned i = 0; i < 2; i++) {
		struct domain_snapshot_request request = {
			.command = DOMAIN_SNAPSHOT_CREATE, .name = "b", .domain = names[i] ? names[i] : config,
		};
		struct outcome outcome;

		must_fail(fake_run(request), -ENOENT, "put uuid=\"" FAKE_UUID "\" into its configuration");
		request.command = DOMAIN_SNAPSHOT_REVERT;
		request.name = "a";
		must_fail(fake_run(request), -ENOENT, "put uuid=\"" FAKE_UUID "\" into its configuration");
		request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_QUERY, .domain = request.domain };
		outcome = fake_run(request);
		must(outcome);
		assert_string_equal(outcome.names, "a");
		expect_running(2);
		expect_disks("a");
		expect_files(2);
	}
	must(fake_run((struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_DELETE, .name = "a", .domain = FAKE_UUID }));
	expect_disks("");
	fake->other_uuid = false;
}

/* When it is gone it is found by the name that it had when the snapshot began. */
static void test_name_lost(void **state)
{
	must(create("before"));
	fake->loses_store = true;
	must(create("a"));
	fake->loses_store = fake->store_lost = false;
	fake_stop_domain();
	must(revert("a"));
	expect_running(1);
	must(delete("before", true));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_config_file),
		DOMAIN_TEST(test_renamed),
		DOMAIN_TEST(test_other_uuid),
		DOMAIN_TEST(test_name_lost),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: which one it is", tests, NULL, NULL);
}
