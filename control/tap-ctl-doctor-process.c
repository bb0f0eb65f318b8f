/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tap-ctl-doctor-process.c - the rights of one tapdisk, from the kernel
 * (/proc/PID/status, /proc/PID/limits); for Landlock, which the kernel does not
 * report, from tapdisk itself; and the rights of the process that opens its
 * files (tapdisk/opener.h).
 *
 * The least restricted thread counts: a right of one thread is a right of the
 * process.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "confine.h"
#include "image_directories.h"
#include "tap-ctl.h"
#include "tap-ctl-doctor.h"

#define OPENS_FILES (1ull << CAP_DAC_OVERRIDE)	/* the capability kept by the process that opens images */
#define SECCOMP_FILTER 2
#define TIMEOUT_MS 10000

struct rights {
	unsigned threads;
	int uid;
	uint64_t capabilities, bounding;	/* of all threads together */
	int no_new_privs, seccomp;		/* of the least restricted thread */
};

static void take_line(struct rights *rights, const char *line)
{
	unsigned long long mask;
	int number;

	if (sscanf(line, "Uid: %*d %d", &number) == 1)
		rights->uid = number;
	else if (sscanf(line, "CapPrm: %llx", &mask) == 1)
		rights->capabilities |= mask;
	else if (sscanf(line, "CapBnd: %llx", &mask) == 1)
		rights->bounding |= mask;
	else if (sscanf(line, "NoNewPrivs: %d", &number) == 1 && number < rights->no_new_privs)
		rights->no_new_privs = number;
	else if (sscanf(line, "Seccomp: %d", &number) == 1 && number < rights->seccomp)
		rights->seccomp = number;
}

static void read_thread(struct rights *rights, int pid, const char *thread)
{
	char path[320], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/task/%s/status", pid, thread);
	file = fopen(path, "re");
	if (!file)
		return;
	while (fgets(line, sizeof(line), file))
		take_line(rights, line);
	fclose(file);
	rights->threads++;
}

static void read_rights(struct rights *rights, int pid)
{
	struct dirent *entry;
	char path[64];
	DIR *dir;

	*rights = (struct rights){ .no_new_privs = 1, .seccomp = SECCOMP_FILTER };
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		if (entry->d_name[0] != '.')
			read_thread(rights, pid, entry->d_name);
	}
	if (dir)
		closedir(dir);
}

/* The soft limit called @name; -1: none, or unknown. */
static long long read_limit(int pid, const char *name)
{
	char path[64], line[256];
	long long limit = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, name, strlen(name)) && sscanf(line + strlen(name), " %lld", &limit) != 1)
			limit = -1;
	}
	if (file)
		fclose(file);
	return limit;
}

static void judge_user(json_t *findings, int uid, bool has_opener)
{
	if (!uid)
		doctor_find(findings, "user", "note", "0: it was not permitted to change to another one (CAP_SETUID, "
			    "CAP_SETGID), or --no-sandbox");
	else if (has_opener && uid == CONFINE_NOBODY)
		doctor_find(findings, "user", "note", "%d, which others may also use: there was no user tapsnap "
			    "(systemd-sysusers creates it)", uid);
	else
		doctor_find(findings, "user", "ok", "%d", uid);
}

/* The findings about the process that opens files for tapdisk @pid. */
static json_t *judge_opener(json_t *findings, int pid)
{
	struct rights rights;

	if (!pid)
		return json_null();
	read_rights(&rights, pid);
	if (!rights.threads)
		doctor_find(findings, "opener", "wrong", "process %d has ended: no image can be opened; kill the tapdisk too, "
			    "and another one takes over its disks", pid);
	else if ((rights.capabilities | rights.bounding) & ~OPENS_FILES || !rights.no_new_privs || rights.seccomp != SECCOMP_FILTER)
		doctor_find(findings, "opener", "wrong", "process %d has more rights than it uses", pid);
	else
		doctor_find(findings, "opener", "ok", "process %d, user %d, CAP_DAC_OVERRIDE", pid, rights.uid);
	return json_pack("{s:i, s:i, s:I, s:b, s:i}", "pid", pid, "uid", rights.uid, "capabilities",
			 (json_int_t)rights.capabilities, "no_new_privs", rights.no_new_privs, "seccomp", rights.seccomp);
}

static void judge(json_t *findings, const struct rights *rights, bool has_opener, long long core, long long files,
		  const json_t *landlock)
{
	uint64_t expected = has_opener ? 0 : OPENS_FILES;
	uint64_t more = (rights->capabilities | (rights->uid && !has_opener ? 0 : rights->bounding)) & ~expected;

	judge_user(findings, rights->uid, has_opener);
	if (more)
		doctor_find(findings, "capabilities", "wrong", "has, or could get, more than it uses (%#" PRIx64 "): was it started with "
			    "--no-sandbox, or by an older version?", more);
	else
		doctor_find(findings, "capabilities", "ok", "%s", rights->capabilities ? "CAP_DAC_OVERRIDE" : "none");
	doctor_find(findings, "no_new_privs", rights->no_new_privs ? "ok" : "wrong", "%d", rights->no_new_privs);
	doctor_find(findings, "seccomp", rights->seccomp == SECCOMP_FILTER ? "ok" : "wrong", "%s",
		    rights->seccomp == SECCOMP_FILTER ? "on" : "off: was it started with --no-sandbox?");
	doctor_find(findings, "landlock", json_is_true(landlock) ? "ok" : "note", "%s", json_is_true(landlock) ? "on" :
		    "off: it may open any file (" IMAGE_DIRECTORIES_DEFAULT " switches it on)");
	doctor_find(findings, "core file", core ? "note" : "ok", "%s", core ? "would hold a guest's data" : "none");
	doctor_find(findings, "open files", files < 0 || files > CONFINE_MAX_FILES ? "note" : "ok", "at most %lld%s", files,
		    files < 0 || files > CONFINE_MAX_FILES ? ": was it started by an older version?" : "");
}

json_t *doctor_process(int pid)
{
	json_t *findings = json_array(), *reply = NULL, *landlock, *opener;
	long long core = read_limit(pid, "Max core file size"), files = read_limit(pid, "Max open files");
	struct error_text text = { "" };
	struct rights rights;
	int error = call_tapdisk(pid, call_request("list", -1), TIMEOUT_MS, &reply, &text);

	read_rights(&rights, pid);
	landlock = json_object_get(reply, "landlock");
	if (error)
		doctor_find(findings, "answer", "wrong", "%s", text.text);
	opener = json_object_get(reply, "opener");
	if (rights.threads)
		judge(findings, &rights, json_integer_value(opener), core, files, landlock);
	opener = judge_opener(findings, (int)json_integer_value(opener));
	landlock = json_boolean(json_is_true(landlock));
	json_decref(reply);
	return json_pack("{s:i, s:i, s:i, s:I, s:I, s:b, s:i, s:o, s:o, s:I, s:I, s:o}", "pid", pid, "uid", rights.uid,
			 "threads", (int)rights.threads, "capabilities", (json_int_t)rights.capabilities,
			 "bounding_set", (json_int_t)rights.bounding, "no_new_privs", rights.no_new_privs, "seccomp", rights.seccomp,
			 "landlock", landlock, "opener", opener, "core_bytes", (json_int_t)core, "open_files", (json_int_t)files, "findings", findings);
}
