/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-doctor.c - tap-ctl doctor: checks the rights of every tapdisk, and
 * lists what is missing or left over on this host. It changes nothing.
 *
 * A finding has a name, a state - ok, note (worth knowing) or wrong - and a
 * line of text that says what to do. The exit status is 1 when anything is
 * wrong.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xenstore.h>

#include "client_internal.h"
#include "image_directories.h"
#include "tap-ctl.h"
#include "tap-ctl-doctor.h"

#define SCRIPTS "/etc/xen/scripts"

void doctor_find(json_t *findings, const char *name, const char *state, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	/* a failure shows in json_memory_failed() */
	json_array_append_new(findings, json_pack("{s:s, s:s, s:o}", "name", name, "state", state, "text", tapctl_text_json(text)));
}

static void look_at_run_dir(json_t *findings)
{
	const char *path = tapctl_run_dir();
	struct stat st;

	if (stat(path, &st))
		doctor_find(findings, "run directory", errno == ENOENT ? "ok" : "wrong", "%s: %s", path,
			    errno == ENOENT ? "missing: nothing was started yet" : strerror(errno));
	else if (st.st_uid && st.st_uid != geteuid())
		doctor_find(findings, "run directory", "wrong", "%s belongs to user %u, who can impersonate any disk: chown it "
			    "to root", path, st.st_uid);
	else if (st.st_mode & 022)
		doctor_find(findings, "run directory", "wrong", "%s can be written to by others (mode %o): chmod 755", path,
			    st.st_mode & 07777);
	else
		doctor_find(findings, "run directory", "ok", "%s: user %u, mode %o", path, st.st_uid, st.st_mode & 07777);
}

static void add_marker(int minor, int locked_by, void *arg)
{
	if (!locked_by)
		doctor_find(arg, "marker", "wrong", "minor %d belongs to no tapdisk: 'tap-ctl free -m %d' frees it", minor,
			    minor);
}

static int look_at_socket(json_t *findings, json_t *tapdisks, int pid)
{
	struct tapctl *ctl = NULL;
	int error = tapctl_connect(&ctl, pid, NULL);
	char path[4096];
	struct stat st;

	tapctl_close(ctl);
	if (error == -ECONNREFUSED)
		doctor_find(findings, "socket", "wrong", "%s/ctl%d is a dead tapdisk's: 'tap-ctl list' removes it", tapctl_run_dir(),
			    pid);
	else if (!error)
		json_array_append_new(tapdisks, doctor_process(pid));
	snprintf(path, sizeof(path), CONTROL_SOCKET_FORMAT, tapctl_run_dir(), pid);
	if (!stat(path, &st) && st.st_mode & 077)
		doctor_find(findings, "socket", "wrong", "%s has mode %o: others could reach it: chmod 600", path, st.st_mode & 0777);
	return error == -ENOMEM ? error : 0;
}

/* Does not use tapctl_process_list(), which would remove the files of dead tapdisks. */
static int look_at_sockets(json_t *findings, json_t *tapdisks)
{
	size_t count;
	int *pids, one, error = client_list_numbers(tapctl_run_dir(), "ctl", INT32_MAX - 1, &pids, &count);

	for (size_t i = 0; i < count; i++) {
		one = look_at_socket(findings, tapdisks, pids[i]);
		error = error ? error : one;
	}
	free(pids);
	return error;
}

static void look_for_left_overs(json_t *findings)
{
	char path[4096];
	int *pids;
	size_t count;

	if (!client_list_numbers("/dev/shm", "td3-", INT32_MAX - 1, &pids, &count)) {
		for (size_t i = 0; i < count; i++) {
			snprintf(path, sizeof(path), "/proc/%d", pids[i]);
			if (access(path, F_OK))
				doctor_find(findings, "counters", "note", STATS_DIR_FORMAT " is a dead tapdisk's and can be removed",
					    pids[i]);
		}
		free(pids);
	}
	if (tapctl_minor_list(add_marker, findings) == -ENOMEM)
		doctor_find(findings, "marker", "wrong", "out of memory");
}

static void look_at_device(json_t *findings, const char *path, const char *state, const char *what)
{
	if (access(path, R_OK | W_OK))
		doctor_find(findings, path, state, "%s: %s", strerror(errno), what);
	else
		doctor_find(findings, path, "ok", "there");
}

static void look_at_script(json_t *findings, const char *path)
{
	if (access(path, X_OK))
		doctor_find(findings, path, "wrong", "%s: disks that name it cannot be attached", strerror(errno));
	else
		doctor_find(findings, path, "ok", "installed");
}

/* tapback holds a lock while it runs. */
static void look_for_tapback(json_t *findings)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), TAPBACK_LOCK_FORMAT, tapctl_run_dir());
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK)
		doctor_find(findings, "tapback", "ok", "running");
	else
		doctor_find(findings, "tapback", "wrong", "not running: no guest's disk is connected: systemctl start tapback");
	if (fd >= 0)
		close(fd);
}

static void look_at_xenstore(json_t *findings)
{
	struct xs_handle *xs = xs_open(0);
	char **names = NULL;
	unsigned count;

	if (xs)
		names = xs_directory(xs, XBT_NULL, "/", &count);
	if (names)
		doctor_find(findings, "xenstore", "ok", "answers");
	else
		doctor_find(findings, "xenstore", "wrong", "does not answer: %s", strerror(errno));
	free(names);
	if (xs)
		xs_close(xs);
}

static void look_at_xen(json_t *findings)
{
	if (access("/proc/xen/capabilities", F_OK)) {
		doctor_find(findings, "xen", "note", "not a Xen host: only frontends without Xen can connect");
		return;
	}
	look_at_device(findings, "/dev/xen/gntdev", "wrong", "no guest's memory can be reached: modprobe xen-gntdev");
	look_at_device(findings, "/dev/xen/evtchn", "wrong", "no guest can be connected: modprobe xen-evtchn");
	look_at_device(findings, "/dev/xen/gntalloc", "note", "only frontends in this domain's user space need it: modprobe xen-gntalloc");
	look_at_xenstore(findings);
	look_for_tapback(findings);
	look_at_script(findings, SCRIPTS "/block-tap");
	look_at_script(findings, SCRIPTS "/block-tapsnap");
}

static void look_at_io_uring(json_t *findings)
{
	char value[16] = "0";
	FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");

	if (file && !fgets(value, sizeof(value), file))
		value[0] = '0';
	if (file)
		fclose(file);
	if (value[0] != '0')
		doctor_find(findings, "io_uring", "note", "kernel.io_uring_disabled=%c: tapdisk uses libaio, which is slower", value[0]);
}

static void look_at_directories(json_t *findings)
{
	struct error_text text = { "" };
	char *const *directories;
	int error = image_directories(&directories, &text);

	if (error)
		doctor_find(findings, "image directories", "wrong", "%s: no tapdisk can start", text.text);
	else if (!directories)
		doctor_find(findings, "image directories", "note", "no " IMAGE_DIRECTORIES_DEFAULT ": tapdisk may open any file");
	for (; directories && *directories; directories++)
		doctor_find(findings, "image directories", strcmp(*directories, "/") ? "ok" : "note", "%s", *directories);
}

static int run_doctor(const struct arguments *args, json_t *result, struct error_text *text)
{
	json_t *findings = json_array(), *tapdisks = json_array();
	int error;

	look_at_run_dir(findings);
	error = look_at_sockets(findings, tapdisks);
	look_for_left_overs(findings);
	look_at_directories(findings);
	look_at_io_uring(findings);
	look_at_xen(findings);
	if (error)
		error_set(text, error, "%s: %s", tapctl_run_dir(), strerror(-error));
	if (json_object_set_new(result, "tapdisks", tapdisks) || json_object_set_new(result, "host", findings))
		error = -ENOMEM;
	return error;
}

static bool any_wrong(const json_t *findings)
{
	for (size_t i = 0; i < json_array_size(findings); i++) {
		if (!strcmp(json_string_value(json_object_get(json_array_get(findings, i), "state")), "wrong"))
			return true;
	}
	return false;
}

static int doctor_status(const json_t *result)
{
	const json_t *tapdisks = json_object_get(result, "tapdisks");
	bool wrong = any_wrong(json_object_get(result, "host"));

	for (size_t i = 0; i < json_array_size(tapdisks); i++)
		wrong |= any_wrong(json_object_get(json_array_get(tapdisks, i), "findings"));
	return wrong;
}

static void print_findings(const json_t *findings, const char *indent)
{
	for (size_t i = 0; i < json_array_size(findings); i++) {
		const json_t *finding = json_array_get(findings, i);

		printf("%s%-5s  %s: %s\n", indent, json_string_value(json_object_get(finding, "state")),
		       json_string_value(json_object_get(finding, "name")), json_string_value(json_object_get(finding, "text")));
	}
}

static void print_doctor(const json_t *result, bool terminal)
{
	const json_t *tapdisks = json_object_get(result, "tapdisks");

	print_findings(json_object_get(result, "host"), "");
	for (size_t i = 0; i < json_array_size(tapdisks); i++) {
		const json_t *tapdisk = json_array_get(tapdisks, i);

		printf("tapdisk %lld:\n", (long long)json_integer_value(json_object_get(tapdisk, "pid")));
		print_findings(json_object_get(tapdisk, "findings"), "  ");
	}
}

const struct command command_doctor = {
	.name = "doctor", .options = "", .required = "", .words = "",
	.summary = "show what each tapdisk may do, and what is missing or left over on this host",
	.run = run_doctor, .print = print_doctor, .status = doctor_status,
};
