/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * in_child.h - test irreversible changes to a process (confinement, a filter,
 * another user) in a child. There a failed assertion of cmocka would continue
 * with the parent's tests: require() ends the child instead.
 */
#ifndef TESTS_IN_CHILD_H
#define TESTS_IN_CHILD_H

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static inline void require_at(bool condition, const char *text, int line)
{
	if (condition)
		return;
	fprintf(stderr, "# line %d: %s: %s\n", line, text, strerror(errno));
	_exit(1);
}
#define require(condition) require_at(condition, #condition, __LINE__)
#define require_errno(call, number) do { errno = 0; require((long)(call) == -1); require(errno == (number)); } while (0)

/* Run @body in a child, which must exit with success. */
static inline void in_child(void (*body)(void))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* The line of /proc/@pid/status that begins with @key. */
static inline bool status_is(pid_t pid, const char *key, const char *value)
{
	char path[64], line[256];
	size_t length = strlen(key);
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		found |= !strncmp(line, key, length) && !strncmp(line + length + strspn(line + length, "\t "), value, strlen(value));
	if (file)
		fclose(file);
	return found;
}

#endif
