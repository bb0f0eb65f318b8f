/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domain_expect.c - see domain_expect.h. */
#include "domain_expect.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void must_fail(struct outcome outcome, int error, const char *word)
{
	if (outcome.error != error || !strstr(outcome.text, word) || strchr(outcome.text, '\n'))
		fail_msg("%d, \"%s\"; expected %d, \"...%s...\"", outcome.error, outcome.text, error, word);
}

void expect_list(const char *names)
{
	struct outcome outcome = list();

	must(outcome);
	assert_string_equal(outcome.names, names);
}

void expect_disk(unsigned number, const char *names)
{
	struct domain_disks disks = { 0 };
	struct domain_disk disk = { .vdev = "xvda", .pid = -1, .minor = -1 };
	char path[128], found[400] = "";
	struct error_text text = { "" };
	json_t *snapshots, *one;
	size_t i;

	fake_store(path, number);
	assert_true(asprintf(&disk.target, "%s:%s", fake_type(number), path) > 0);
	assert_int_equal(disks_append(&disks, &disk), 0);
	assert_int_equal(disks_open(&disks, &text), 0);
	assert_int_equal(tapctl_snapshot_list(&(struct tapctl_disk){ disks.disk[0].pid, disks.disk[0].minor }, &snapshots,
					      PATIENCE_MS, &text), 0);
	json_array_foreach(snapshots, i, one) {
		size_t used = strlen(found);

		snprintf(found + used, sizeof(found) - used, "%s%s", used ? " " : "", info_string(one, "name"));
	}
	json_decref(snapshots);
	disks_close(&disks);
	disks_free(&disks);
	assert_string_equal(found, names);
}

void expect_disks(const char *names)
{
	for (unsigned i = 0; i < FAKE_DISKS; i++)
		expect_disk(i, names);
}

unsigned count_files(void)
{
	struct dirent *entry;
	unsigned count = 0;
	char path[200];
	DIR *dir;

	snprintf(path, sizeof(path), "%s/snapshots/" FAKE_UUID, fake_dir);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		count += entry->d_name[0] != '.' && strcmp(entry->d_name, "lock") != 0 && strcmp(entry->d_name, STATE_FILE) != 0;
	if (dir)
		closedir(dir);
	return count;
}

void expect_files(unsigned count)
{
	assert_int_equal(count_files(), count);
}

void expect_no_records(void)
{
	struct dirent *entry;
	char path[200];
	DIR *dir;

	snprintf(path, sizeof(path), "%s/state/groups", fake_dir);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			fail_msg("%s/%s is left", path, entry->d_name);
	}
	if (dir)
		closedir(dir);
}

void expect_running(int memory)
{
	assert_true(fake->there);
	assert_false(fake->suspended);
	assert_false(fake->paused);
	assert_int_equal(fake->memory, memory);
}
