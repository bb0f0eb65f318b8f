/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* memory_fault.c - see memory_fault.h. */
#include "memory_fault.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"

#define SHORT_MS 2000
#define MAX_WORDS 12

struct memory_fault fault;

long fault_first(unsigned step)
{
	return 1 + getpid() % step;
}

bool fault_goes_on(bool fired, int64_t start)
{
	return fired && (fault.stride == 1 || clock_ms() - start < SHORT_MS);
}

void fault_disarm(void)
{
	atomic_store(&fault.shared->fail_at, 0);
}

void fault_arm(long number)
{
	fault.number = number;
	atomic_store(&fault.shared->count, 0);
	atomic_store(&fault.shared->fail_at, number);
}

bool fault_disarm_fired(void)
{
	bool fired = atomic_load(&fault.shared->count) >= atomic_load(&fault.shared->fail_at);

	fault_disarm();
	return fired;
}

int fault_open_output(const char *name)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", fault.directory, name);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

static void read_output(int fd, char *text, size_t size)
{
	ssize_t length = pread(fd, text, size - 1, 0);

	assert_true(length >= 0);
	text[length] = '\0';
	close(fd);
}

int tap_ctl(const char *words)
{
	int out = fault_open_output("stdout"), err = fault_open_output("stderr"), status;
	char *arguments[MAX_WORDS + 1], line[PATH_MAX + 256], path[300], pid[16], minor[16], *save;
	unsigned count = 0;
	pid_t child;

	snprintf(pid, sizeof(pid), "%d", fault.disk.pid);
	snprintf(minor, sizeof(minor), "%d", fault.disk.minor);
	snprintf(line, sizeof(line), "tap-ctl %s", words);
	for (char *word = strtok_r(line, " ", &save); word && count < MAX_WORDS; word = strtok_r(NULL, " ", &save))
		arguments[count++] = !strcmp(word, "PID") ? pid : !strcmp(word, "MINOR") ? minor : word;
	arguments[count] = NULL;
	fixture_find_program(path, sizeof(path), "tap-ctl");
	child = fork();
	if (!child) {
		dup2(out, STDOUT_FILENO);
		dup2(err, STDERR_FILENO);
		execv(path, arguments);
		_exit(126);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	read_output(out, fault.out, sizeof(fault.out));
	read_output(err, fault.err, sizeof(fault.err));
	if (!WIFEXITED(status))
		fail_msg("tap-ctl %s: allocation %ld: signal %d", words, fault.number, WTERMSIG(status));
	return WEXITSTATUS(status);
}

void must(const char *words)
{
	if (tap_ctl(words))
		fail_msg("tap-ctl %s, after allocation %ld had failed: %s", words, fault.number, fault.err);
}

json_t *must_json(const char *words)
{
	json_t *json;

	must(words);
	json = json_loads(fault.out, 0, NULL);
	if (!json)
		fail_msg("tap-ctl %s: no JSON: %s", words, fault.out);
	return json;
}

/* All replies must have the same members, and with @values the same values; histograms differ in length. */
static bool same_shape(json_t *a, json_t *b, bool values)
{
	const char *key;
	json_t *member;
	size_t i;

	if (values)
		return json_equal(a, b);
	if (json_is_object(a)) {
		json_object_foreach(a, key, member) {
			if (strcmp(key, "histogram") && !same_shape(member, json_object_get(b, key), false))
				return false;
		}
		return json_is_object(b) && json_object_size(a) == json_object_size(b);
	}
	if (json_is_array(a)) {
		json_array_foreach(a, i, member) {
			if (!same_shape(member, json_array_get(b, i), false))
				return false;
		}
		return json_is_array(b) && json_array_size(a) == json_array_size(b);
	}
	return b && json_typeof(a) == json_typeof(b);
}

void fault_check_failure(const char *words, int status)
{
	size_t length = strlen(fault.err);

	if (!length || strchr(fault.err, '\n') != fault.err + length - 1)
		fail_msg("tap-ctl %s: allocation %ld: exit status %d, and said: %s", words, fault.number, status, fault.err);
}

static void check_answer(const char *words, json_t *wanted, bool values)
{
	json_t *got = json_loads(fault.out, 0, NULL);

	if (!got || !same_shape(wanted, got, values) || !same_shape(got, wanted, values))
		fail_msg("tap-ctl %s: allocation %ld: not what it should be: %s", words, fault.number, fault.out);
	json_decref(got);
}

static unsigned listed_state(void)
{
	json_t *list = must_json("list --json"), *disk;
	unsigned state = 0, found = 0;
	size_t i;

	json_array_foreach(json_object_get(list, "tapdisks"), i, disk) {
		if (json_integer_value(json_object_get(disk, "pid")) != fault.disk.pid)
			continue;
		state = (unsigned)json_integer_value(json_object_get(disk, "state"));
		found++;
	}
	json_decref(list);
	if (found != 1)
		fail_msg("after allocation %ld had failed the disk is listed %u times: %s", fault.number, found, fault.out);
	return state;
}

/* A client without memory may have ended before what it requested. */
unsigned fault_disk_state(void)
{
	int64_t deadline = clock_ms() + TIMEOUT_MS;
	unsigned state;

	do
		state = listed_state();
	while (state & (TD_PAUSE_REQUESTED | TD_SHUTDOWN_REQUESTED) && !(state & (TD_PAUSED | TD_CLOSED)) &&
	       clock_ms() < deadline);
	return state;
}

void fault_open_disk(void)
{
	char words[sizeof(fault.target) + 64];

	snprintf(words, sizeof(words), "open -p PID -m MINOR -a %s", fault.target);
	must(words);
}

void fault_restore_running(void)
{
	unsigned state = fault_disk_state();

	if (state & TD_CLOSED)
		fault_open_disk();
	else if (state & TD_PAUSED)
		must("unpause -p PID -m MINOR");
	assert_int_equal(fault_disk_state(), 0);
}

void fault_restore_paused(void)
{
	fault_restore_running();
	must("pause -p PID -m MINOR");
}

void fault_restore_closed(void)
{
	if (!(fault_disk_state() & TD_CLOSED))
		must("close -p PID -m MINOR");
}

void fault_sweep(const char *words, void (*restore)(void), json_t *wanted, bool values)
{
	int64_t start = clock_ms();
	bool fired = true;
	int status;

	for (long number = fault_first(fault.stride); fault_goes_on(fired, start); number += fault.stride) {
		restore();
		fault_arm(number);
		status = tap_ctl(words);
		fired = fault_disarm_fired();
		if (status)
			fault_check_failure(words, status);
		else if (wanted)
			check_answer(words, wanted, values);
		if (status && !fired)
			fail_msg("tap-ctl %s fails by itself: %s", words, fault.err);
	}
	fault_restore_running();
	json_decref(wanted);
}
