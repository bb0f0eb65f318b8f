/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* domain_expect.c - see domain_expect.h. */
#include "domain_expect.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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

json_t *read_info(const char *name)
{
	struct domain_directory directory;
	struct error_text text = { "" };
	json_t *info;

	if (directory_open(&directory, FAKE_UUID, false, &text) || info_read(&directory, name, &info, &text))
		fail_msg("%s", text.text);
	directory_close(&directory);
	return info;
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
					      TIMEOUT_MS, &text), 0);
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

void lose_snapshot(const char *name)
{
	const struct tapctl_disk second = { fake->pid[1], fake->minor[1] };
	struct error_text text = { "" };

	if (tapctl_snapshot_delete(&second, 1, name, TIMEOUT_MS, &text))
		fail_msg("%s", text.text);
}

void replace_snapshot(const char *name)
{
	const struct tapctl_disk second = { fake->pid[1], fake->minor[1] };
	struct tapctl_snapshot snapshot = { .name = name, .timeout_ms = TIMEOUT_MS };
	struct error_text text = { "" };

	lose_snapshot(name);
	if (tapctl_snapshot_group(&second, 1, &snapshot, &text))
		fail_msg("%s", text.text);
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

unsigned count_there(const char *begin)
{
	DIR *dir = opendir(fake_dir);
	struct dirent *entry;
	unsigned count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		count += !strncmp(entry->d_name, begin, strlen(begin));
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
	assert_false(fake->torn || fake->unbuilt);
	assert_false(fake->suspended);
	assert_false(fake->paused);
	assert_int_equal(fake->memory, memory);
}

void expect_all_or_nothing(const char *name)
{
	struct outcome outcome = list();
	bool whole;

	must(outcome);
	whole = !strcmp(outcome.names, name);
	if (!whole)
		assert_string_equal(outcome.names, "");
	expect_running(3);
	expect_disks(whole ? name : "");
	expect_files(whole ? 2 : 0);
	expect_no_records();
	if (whole) {
		must(revert(name));
		expect_running(3);
		must(delete(name, false));
	}
}

void kill_tapdisk(int pid, void *arg)
{
	struct pollfd gone = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(poll(&gone, 1, TIMEOUT_MS), 1);
	close(gone.fd);
}

char hook[100];

void make_hook(void)
{
	FILE *file;

	snprintf(hook, sizeof(hook), "%s/hook", fake_dir);
	file = fopen(hook, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\ncd %s\necho $1 $2 >>hook.log\n"
		"[ ! -e refuse-$1 ] || { echo not now >&2; exit 1; }\n"
		"[ ! -e hang-$1 ] || { sleep 1000 & echo $! >sleeper; wait; }\n"
		"if [ $1 = freeze ]; then : >frozen; else rm -f frozen; fi\n", fake_dir);
	fclose(file);
	assert_int_equal(chmod(hook, 0700), 0);
}

static void set_mark(const char *what, const char *word, bool set)
{
	char path[120];

	snprintf(path, sizeof(path), "%s/%s-%s", fake_dir, what, word);
	if (set)
		close(open(path, O_WRONLY | O_CREAT, 0600));
	else
		assert_int_equal(unlink(path), 0);
}

void refuse(const char *word, bool refused)
{
	set_mark("refuse", word, refused);
}

void hang(const char *word, bool hangs)
{
	set_mark("hang", word, hangs);
}

static FILE *open_sleeper(char path[100])
{
	snprintf(path, 100, "%s/sleeper", fake_dir);
	return fopen(path, "r");
}

int sleeper(void)
{
	char path[100];
	FILE *file = open_sleeper(path);
	int pid = 0;

	if (!file || fscanf(file, "%d", &pid) != 1)
		pid = 0;
	if (file)
		fclose(file);
	return pid;
}

/* The end of a process may not have been noticed yet. */
void expect_no_sleeper(void)
{
	struct pollfd gone = { .fd = (int)syscall(SYS_pidfd_open, sleeper(), 0), .events = POLLIN };
	char path[100];

	if (gone.fd >= 0) {
		assert_int_equal(poll(&gone, 1, TIMEOUT_MS), 1);
		close(gone.fd);
	}
	fclose(open_sleeper(path));
	unlink(path);
}

void expect_told(const char *letters)
{
	char log[100], line[100], told[20] = "";
	FILE *file;

	snprintf(log, sizeof(log), "%s/hook.log", fake_dir);
	file = fopen(log, "r");
	while (file && fgets(line, sizeof(line), file)) {
		assert_non_null(strstr(line, " guest\n"));
		told[strlen(told)] = *line;
	}
	if (file)
		fclose(file);
	unlink(log);
	assert_string_equal(told, letters);
}

static void frozen_path(char path[100])
{
	snprintf(path, 100, "%s/frozen", fake_dir);
}

bool is_frozen(void)
{
	char path[100];

	frozen_path(path);
	return !access(path, F_OK);
}

void freeze(void)
{
	char path[100];

	frozen_path(path);
	close(open(path, O_WRONLY | O_CREAT, 0600));
}

void use_raw(int memory)
{
	fake_stop_domain();
	fake_make_raw();
	fake_start_domain();
	fake->memory = memory;
}

static struct domain_disk second_disk(void)
{
	return (struct domain_disk){ .vdev = "xvdb", .pid = fake->pid[1], .minor = fake->minor[1] };
}

bool is_moved(void)
{
	struct domain_disk disk = second_disk();
	struct domain_disks disks = { .disk = &disk, .count = 1 };
	struct error_text text = { "" };
	bool moved;

	if (disks_find_stores(&disks, &text))
		fail_msg("%s", text.text);
	moved = disk.moved;
	free(disk.moved);
	return moved;
}

void move_back(void)
{
	struct domain_disk disk = second_disk();
	struct error_text text = { "" };

	if (disk_move_back(&disk, NULL, &text))
		fail_msg("%s", text.text);
}
