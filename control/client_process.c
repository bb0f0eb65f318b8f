/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * client_process.c - tapdisk processes: starts one, lists the running ones,
 * and removes the files of dead ones.
 *
 * A tapdisk names its control socket only when it already listens on it, so a
 * socket that refuses connections belongs to a dead tapdisk.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client_internal.h"

#define TAPDISK_ENV	"TAPSNAP_TAPDISK"

static void remove_stats(int pid)
{
	char path[PATH_MAX], name[PATH_MAX];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), STATS_DIR_FORMAT, pid);
	dir = opendir(path);
	if (!dir)
		return;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.' && snprintf(name, sizeof(name), "%s/%s", path, entry->d_name) < (int)sizeof(name))
			unlink(name);
	}
	closedir(dir);
	rmdir(path);
}

/* A disk's NBD socket is named nbdPID.MINOR; tapdisk-tls adds ".tlsN". */
static bool is_nbd_socket(const char *name, int pid)
{
	int minor, number, end = 0;
	char prefix[32];

	snprintf(prefix, sizeof(prefix), "nbd%d.", pid);
	if (strncmp(name, prefix, strlen(prefix)))
		return false;
	name += strlen(prefix);
	return client_parse_number(name, MINOR_MAX) >= 0 ||
		(sscanf(name, "%d.tls%d%n", &minor, &number, &end) == 2 && !name[end]);
}

static void remove_nbd_sockets(int pid)
{
	DIR *dir = opendir(tapctl_run_dir());
	struct dirent *entry;
	char path[PATH_MAX];

	while (dir && (entry = readdir(dir))) {
		if (is_nbd_socket(entry->d_name, pid) &&
		    snprintf(path, sizeof(path), "%s/%s", tapctl_run_dir(), entry->d_name) < (int)sizeof(path))
			unlink(path);
	}
	if (dir)
		closedir(dir);
}

/* Has @pid ended, or is it a zombie? If we may not look, it counts as running. */
static bool process_is_dead(int pid)
{
	char path[64], program[8];

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	return readlink(path, program, sizeof(program)) < 0 && errno == ENOENT;
}

int tapctl_process_clean(int pid)
{
	struct tapctl *ctl;
	char path[PATH_MAX];
	int error;

	error = tapctl_connect(&ctl, pid, NULL);
	if (!error)
		tapctl_close(ctl);
	if (error != -ENOENT && error != -ECONNREFUSED)
		return error ? error : -EBUSY;
	remove_nbd_sockets(pid);
	/* the pid may have been reused by a tapdisk with its own statistics */
	if (process_is_dead(pid))
		remove_stats(pid);
	client_takeover_clean(pid);
	if (snprintf(path, sizeof(path), CONTROL_SOCKET_FORMAT, tapctl_run_dir(), pid) < (int)sizeof(path))
		unlink(path);
	return 0;
}

int tapctl_process_list(void (*each)(int pid, void *arg), void *arg)
{
	struct tapctl *ctl;
	size_t count, i;
	int *pids;
	int error, found;

	error = client_list_numbers(tapctl_run_dir(), "ctl", INT_MAX - 1, &pids, &count);
	for (i = 0; i < count; i++) {
		found = tapctl_connect(&ctl, pids[i], NULL);
		if (!found) {
			tapctl_close(ctl);
			each(pids[i], arg);
		} else if (found == -ECONNREFUSED) {
			tapctl_process_clean(pids[i]);
		} else if (found == -ENOMEM) {
			error = found;		/* unknown whether it answers */
		}
	}
	free(pids);
	return error;
}

static bool try_program(char path[PATH_MAX], const char *name, const char *directory, size_t length)
{
	struct stat st;

	return length && snprintf(path, PATH_MAX, "%.*s/%s", (int)length, directory, name) < PATH_MAX &&
	       !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

bool client_program_beside(const char *name, char path[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self));

	while (length > 0 && self[length - 1] != '/')
		length--;
	return length > 0 && try_program(path, name, self, (size_t)length - 1);
}

static bool search_directories(char path[PATH_MAX], const char *directories)
{
	size_t length;

	for (; directories && *directories; directories += length + (directories[length] == ':')) {
		length = strcspn(directories, ":");
		if (try_program(path, "tapdisk", directories, length))
			return true;
	}
	return false;
}

/* The tapdisk named by the environment, else the one beside the running program (a build tree, an installation). */
static int find_tapdisk(char path[PATH_MAX], struct error_text *text)
{
	const char *named = getenv(TAPDISK_ENV);

	if (named && *named) {
		if (snprintf(path, PATH_MAX, "%s", named) < PATH_MAX && !access(path, X_OK))
			return 0;
		return error_set(text, -ENOENT, "%s (from $" TAPDISK_ENV "): no program to run", named);
	}
	if (client_program_beside("tapdisk", path))
		return 0;
	if (search_directories(path, getenv("PATH")) ||
	    search_directories(path, "/usr/local/sbin:/usr/sbin:/usr/local/libexec:/usr/libexec"))
		return 0;
	return error_set(text, -ENOENT, "tapdisk is not installed beside this program, in $" TAPDISK_ENV " or in $PATH");
}

int tapctl_spawn(struct error_text *text)
{
	char ready_option[] = "--ready-fd", ready_number[] = "3";
	char found[PATH_MAX], path[PATH_MAX], line[1024];
	char *const arguments[] = { path, ready_option, ready_number, NULL };
	int error, pid;

	error = client_make_run_dir(text);
	if (!error)
		error = find_tapdisk(found, text);
	if (error)
		return error;
	if (!realpath(found, path))	/* it is started in another directory */
		return error_set(text, -errno, "%s: %s", found, strerror(errno));
	error = client_start_daemon(arguments, -1, line, sizeof(line), text);
	if (error)
		return error;
	if (sscanf(line, "listening %d", &pid) == 1 && pid > 0)
		return pid;
	return error_set(text, -EIO, "tapdisk ended before it was ready; see the system log");
}
