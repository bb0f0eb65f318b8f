/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_domain_clone.c - a second domain from a domain's snapshot, without Xen.
 */
#include "domain_expect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "array.h"
#include "client_disk.h"
#include "domain-snapshot-libxl.h"
#include "fixture.h"

static void test_clone(void **state)
{
	struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "dolly",
	};
	struct disk_options options = { .timeout_ms = TIMEOUT_MS };
	struct error_text text = { "" };
	struct outcome outcome;
	char target[200];
	json_t *disk;
	int pid, minor;

	must(create("c"));
	outcome = fake_run(request);
	must(outcome);
	assert_int_equal(access(outcome.clone, R_OK), 0);
	must_fail(fake_run(request), -EEXIST, "already exists");
	/* the clone's disk can be opened beside the original's */
	snprintf(target, sizeof(target), "cow:%s/dolly-xvda.cow", fake_dir);
	options.target = target;
	if (disk_create(&options, &pid, &minor, &disk, &text))
		fail_msg("%s", text.text);
	assert_int_equal(json_integer_value(json_object_get(disk, "sector_size")), 4096);
	json_decref(disk);
	assert_int_equal(disk_destroy(pid, minor, false, TIMEOUT_MS, &text), 0);
	must_fail(delete("c", false), -EBUSY, "dolly-xvda.cow");
	for (char letter = 'a'; letter <= 'b'; letter++) {
		snprintf(target, sizeof(target), "%s/dolly-xvd%c.cow", fake_dir, letter);
		assert_int_equal(unlink(target), 0);
	}
	must(delete("c", false));
	expect_files(0);
}

static void test_clone_directory(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "dolly" };
	char directory[200];
	unsigned step = 0;
	bool killed;

	must(create("c"));
	snprintf(directory, sizeof(directory), "%s/not-there", fake_dir);
	request.folder = directory;
	must_fail(fake_run(request), -ENOENT, "not-there");
	must(delete("c", false));	/* nothing is in the way */
	/* one that disappears after the clone was killed */
	must(create("c"));
	do {
		assert_int_equal(mkdir(directory, 0700), 0);
		killed = fake_run_killed(request, ++step);
		snprintf(directory, sizeof(directory), "rm -r %s/not-there", fake_dir);
		assert_int_equal(system(directory), 0);
		snprintf(directory, sizeof(directory), "%s/not-there", fake_dir);
		must(create("d"));
		must(delete("d", false));
	} while (killed);
	assert_true(step > 2);
	must(delete("c", false));
}

static const char *comes_at, *comes_as;

/* Somebody creates a file of that name. */
static void make_foreign(const char *step)
{
	char path[200];
	FILE *file;

	if (strcmp(step, comes_at))
		return;
	snprintf(path, sizeof(path), "%s/%s", fake_dir, comes_as);
	file = fopen(path, "wx");
	assert_non_null(file);
	fputs("his", file);
	fclose(file);
}

/* Files that appear while the clone is being made are neither written nor removed; the clone's own files are removed. */
static void test_clone_foreign(void **state)
{
	static const char *const files[] = { "dolly-xvda.cow", "dolly-xvdb.cow", "dolly.save" };
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "dolly",
	};
	char path[200], words[8];

	must(create("c"));
	for (unsigned i = 0; i < 3; i++) {
		comes_at = i == 2 ? "stores" : "intent";
		comes_as = files[i];
		domain_step = make_foreign;
		must_fail(fake_run(request), -EEXIST, files[i]);
		domain_step = NULL;
		for (unsigned j = 0; j < 3; j++) {
			FILE *file;

			snprintf(path, sizeof(path), "%s/%s", fake_dir, files[j]);
			file = fopen(path, "r");
			assert_int_equal(file != NULL, j == i);
			if (!file)
				continue;
			assert_string_equal(fgets(words, sizeof(words), file), "his");
			fclose(file);
			unlink(path);
		}
		expect_files(2);
	}
	must(delete("c", false));
}

/* A raw disk that has moved onto a store is recognised. */
static void test_clone_raw(void **state)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "c", .store = fake_dir };
	struct disk_options options = { .timeout_ms = TIMEOUT_MS };
	struct error_text text = { "" };
	struct domain_snapshot *typed;
	struct domain_directory directory;
	libxl_device_disk device;
	json_t *infos, *disk;
	char target[200];
	int pid, minor;

	fake_stop_domain();
	fake_make_raw();
	fake_start_domain();
	must(fake_run(request));
	assert_int_equal(directory_open(&directory, FAKE_UUID, false, &text), 0);
	assert_int_equal(info_read_all(&directory, &infos, NULL, &text), 0);
	directory_close(&directory);
	typed = info_typed(infos, NULL);
	assert_int_equal(domain_snapshot_device_disk(&typed->disks[1], "xvdc", &device), 0);
	snprintf(target, sizeof(target), "cow:%s/b.img.cow@c", fake_dir);
	assert_string_equal(device.pdev_path, target);
	libxl_device_disk_dispose(&device);
	free(typed);
	json_decref(infos);
	options.target = target;
	options.read_only = true;
	if (disk_create(&options, &pid, &minor, &disk, &text))
		fail_msg("%s", text.text);
	json_decref(disk);
	assert_int_equal(disk_destroy(pid, minor, false, TIMEOUT_MS, &text), 0);
	request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "rolly" };
	must(fake_run(request));
	options.read_only = false;
	snprintf(target, sizeof(target), "cow:%s/rolly-xvdb.cow", fake_dir);
	if (disk_create(&options, &pid, &minor, &disk, &text))
		fail_msg("%s", text.text);
	json_decref(disk);
	assert_int_equal(disk_destroy(pid, minor, false, TIMEOUT_MS, &text), 0);
	for (char letter = 'a'; letter <= 'b'; letter++) {
		snprintf(target, sizeof(target), "%s/rolly-xvd%c.cow", fake_dir, letter);
		assert_int_equal(unlink(target), 0);
	}
	must(delete("c", false));
}

/* Take a snapshot "c" of the disks, make a clone "polly" of it, and read its config file. */
static struct outcome clone_disks(char *words, size_t size)
{
	struct domain_snapshot_request request = { .command = DOMAIN_SNAPSHOT_CREATE, .name = "c", .disk_only = true };
	struct outcome outcome;
	FILE *file;

	must(fake_run(request));
	request = (struct domain_snapshot_request){ .command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "polly" };
	outcome = fake_run(request);
	must(outcome);
	file = fopen(outcome.clone, "r");
	assert_non_null(file);
	words[fread(words, 1, size - 1, file)] = '\0';
	fclose(file);
	return outcome;
}

static void remove_polly(void)
{
	char path[200];

	for (char letter = 'a'; letter <= 'b'; letter++) {
		snprintf(path, sizeof(path), "%s/polly-xvd%c.cow", fake_dir, letter);
		assert_int_equal(unlink(path), 0);
	}
	must(delete("c", false));
}

/* Settings of an HVM guest are in the file, and those that are not are named. */
static void test_clone_config_hvm(void **state)
{
	static const char *const written[] = {
		"bios = \"ovmf\"\n", "boot = \"cd\"\n", "vga = \"stdvga\"\n", "usb = 0\n", "vnc = 1\n", "vnclisten = \"::\"\n",
		"cpu_weight = 512\n",
	};
	char words[2000];
	struct outcome outcome;

	fake->hvm = true;
	outcome = clone_disks(words, sizeof(words));
	for (unsigned i = 0; i < ARRAY_SIZE(written); i++)
		assert_non_null(strstr(words, written[i]));
	assert_null(strstr(words, "hpet"));
	assert_non_null(strstr(outcome.text, "have their defaults: viridian, shadow"));
	remove_polly();
}

/* A clone without memory boots from a config file. */
static void test_clone_config(void **state)
{
	struct outcome outcome;
	char words[2000];

	outcome = clone_disks(words, sizeof(words));
	assert_string_equal(outcome.text, "");
	assert_non_null(strstr(words, "name = \"polly\""));
	assert_non_null(strstr(words, "memory = 256\n"));
	assert_non_null(strstr(words, "on_reboot = \"rename-restart\""));
	assert_non_null(strstr(words, "vdev=xvdb,script=block-tapsnap,access=rw,target=cow:"));
	assert_non_null(strstr(words, "bridge=br0"));
	assert_null(strstr(words, "mac="));
	assert_null(strstr(words, FAKE_UUID));
	remove_polly();
}

static bool is_there(const char *file)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", fake_dir, file);
	return !access(path, F_OK);
}

static void remove_file(const char *file)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", fake_dir, file);
	assert_int_equal(unlink(path), 0);
}

/* The clone is there and nothing else of it, or nothing is there. */
static bool is_whole(void)
{
	bool whole = is_there("molly.save");

	assert_int_equal(is_there("molly-xvda.cow"), whole);
	assert_int_equal(is_there("molly-xvdb.cow"), whole);
	assert_int_equal(count_there("molly"), whole ? 3 : 0);
	return whole;
}

static void remove_molly(void)
{
	remove_file("molly-xvda.cow");
	remove_file("molly-xvdb.cow");
	remove_file("molly.save");
}

static const struct domain_snapshot_request clone_k = {
	.command = DOMAIN_SNAPSHOT_CLONE, .name = "k", .new_name = "molly",
};

static void test_clone_killed(void **state)
{
	unsigned step = 0, wholes = 0;
	bool killed;

	must(create("k"));
	do {
		killed = fake_run_killed(clone_k, ++step);
		expect_list("k");
		expect_files(2);
		if (!is_whole()) {
			assert_true(killed);
			continue;
		}
		wholes++;
		must_fail(delete("k", false), -EBUSY, "molly-xvda.cow");
		remove_molly();
	} while (killed);
	assert_true(step > 3);
	assert_int_equal(wholes, 2);
	must(delete("k", false));
	expect_files(0);
}

/* Files that were created since, under the names of its own files, are not its own. */
static void test_clone_killed_foreign(void **state)
{
	static const char *const files[] = { "molly-xvda.cow", "molly-xvdb.cow", "molly.save" };
	bool killed;

	must(create("k"));
	for (unsigned i = 0; i < 3; i++) {
		unsigned step = 0;

		do {
			killed = fake_run_killed(clone_k, ++step);
			if (is_there(files[i]))
				remove_file(files[i]);
			comes_at = "";
			comes_as = files[i];
			make_foreign("");
			must(list());
			assert_true(is_there(files[i]));
			expect_files(2);
			remove_file(files[i]);
			for (unsigned j = 0; j < 3; j++) {
				if (is_there(files[j]))
					remove_file(files[j]);
			}
			assert_int_equal(count_there("molly"), 0);
		} while (killed);
	}
	must(delete("k", false));
}

/*
 * If a disk's snapshot was taken at another time than the memory and the other disks, it does not
 * belong to this snapshot.
 */
static void test_clone_of_another(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "dolly",
	};

	must(create("c"));
	replace_snapshot("c");
	must_fail(fake_run(request), -ENOENT, "has lost its snapshot \"c\"; another one has that name now");
	must_fail(revert("c"), -ENOENT, "has lost its snapshot \"c\"; another one has that name now");
	assert_false(is_there("dolly-xvda.cow"));
	expect_running(1);
	/* one that is not ours stays */
	must(delete("c", false));
	expect_disk(0, "");
	expect_disk(1, "c");
	lose_snapshot("c");
}

static void rebase_off(const char *file, int expected)
{
	char tap_img[300], command[600];

	fixture_find_program(tap_img, sizeof(tap_img), "tap-img");
	snprintf(command, sizeof(command), "%s rebase -b '' %s/%s >/dev/null", tap_img, fake_dir, file);
	assert_int_equal(system(command), expected);
}

static void damage(const char *file)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/%s", fake_dir, file);
	assert_int_equal(truncate(path, 100), 0);
}

/* A store that is no longer based on the snapshot does not keep it. A store whose base is unknown does. */
static void test_clone_rebased(void **state)
{
	const struct domain_snapshot_request request = {
		.command = DOMAIN_SNAPSHOT_CLONE, .name = "c", .new_name = "dolly",
	};
	const struct domain_snapshot_request other = {
		.command = DOMAIN_SNAPSHOT_CLONE, .name = "d", .new_name = "dolly",
	};

	must(create("c"));
	must(create("d"));
	must(fake_run(request));
	fake_stop_domain();
	rebase_off("dolly-xvda.cow", 0);
	must_fail(delete("c", false), -EBUSY, "dolly-xvdb.cow");
	rebase_off("dolly-xvdb.cow", 0);
	fake_start_domain();
	must(delete("c", false));
	expect_disks("d");
	/* others in their places */
	remove_file("dolly-xvda.cow");
	remove_file("dolly-xvdb.cow");
	remove_file("dolly.save");
	must(create("c"));
	must(fake_run(request));
	remove_file("dolly-xvda.cow");
	remove_file("dolly-xvdb.cow");
	remove_file("dolly.save");
	must(fake_run(other));
	must(delete("c", false));
	must_fail(delete("d", false), -EBUSY, "dolly-xvda.cow");
	remove_file("dolly-xvda.cow");
	damage("dolly-xvdb.cow");
	must_fail(delete("d", false), -EBUSY, "dolly-xvdb.cow");
	remove_file("dolly-xvdb.cow");
	must(delete("d", false));
	expect_files(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		DOMAIN_TEST(test_clone),
		DOMAIN_TEST(test_clone_directory),
		DOMAIN_TEST(test_clone_foreign),
		DOMAIN_TEST(test_clone_raw),
		DOMAIN_TEST(test_clone_config),
		DOMAIN_TEST(test_clone_config_hvm),
		DOMAIN_TEST(test_clone_killed),
		DOMAIN_TEST(test_clone_killed_foreign),
		DOMAIN_TEST(test_clone_of_another),
		DOMAIN_TEST(test_clone_rebased),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("domain: clones", tests, NULL, NULL);
}
