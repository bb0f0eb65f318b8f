/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * confine.c - gives up root's powers.
 *
 * Invariants of a tapdisk that was started by root:
 *  1. It runs as an unprivileged user without capabilities. Its opener
 *     (opener.h) runs as root with one, CAP_DAC_OVERRIDE, to open images that
 *     belong to other users. No capability can be regained: the bounding set
 *     has at most that one, and no_new_privs is set.
 *  2. It opens nothing by name except world-readable files in /proc and /sys.
 *     If the administrator has listed the image directories
 *     (image_directories.h), the opener can open only those and the ones named
 *     below, by whatever name, and whatever was mounted or linked since.
 *     Landlock enforces this. Files that are already open, and descriptors
 *     sent by a client, are not affected.
 *  3. It leaves no core file, which would hold a guest's data. Other processes
 *     of its user, such as other tapdisks, cannot inspect it.
 *  The same holds for tapdisk-tls' sessions, which have all their files open.
 *
 * A tapdisk that cannot change its user, because a unit or a container has
 * removed that right, has no opener and confines itself like one.
 */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "array.h"
#include "image_directories.h"
#include "path.h"

/* of Linux 6.2; missing in the headers of 6.1 */
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ull << 14)
#endif

#define READING (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITING (READING | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_REMOVE_FILE | \
		 LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | \
		 LANDLOCK_ACCESS_FS_MAKE_SOCK)
/* the rights that a rule for a file, not a directory, can have */
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)
#define EVERYTHING (WRITING | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_FIFO | \
		    LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)

static bool landlocked;

bool confine_has_landlock(void)
{
	return landlocked;
}

/* The rights above that Landlock of this version knows. */
static uint64_t known_rights(int version)
{
	return EVERYTHING & ~(version < 2 ? LANDLOCK_ACCESS_FS_REFER : 0) & ~(version < 3 ? LANDLOCK_ACCESS_FS_TRUNCATE : 0);
}

/* Ignores a path that does not exist. */
static int allow(int rules, const char *path, uint64_t rights)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = rights };
	struct stat st;
	int ret = 0;

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstat(rule.parent_fd, &st))
		ret = -errno;
	else if (!S_ISDIR(st.st_mode))
		rule.allowed_access &= OF_FILES;
	if (!ret && syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		ret = -errno;
	close(rule.parent_fd);
	return ret;
}

/* @paths: terminated by NULL. */
static int allow_each(int rules, const char *const *paths, uint64_t rights, struct error_text *text)
{
	int ret = 0;

	for (; !ret && *paths; paths++) {
		ret = allow(rules, *paths, rights);
		if (ret)
			error_set(text, ret, "%s: cannot add a Landlock rule: %s", *paths, strerror(-ret));
	}
	return ret;
}

/* World-readable files, which a tapdisk with an opener opens itself. */
static int allow_public(int rules, uint64_t known, struct error_text *text)
{
	static const char *const paths[] = {
		"/proc",		/* locks, mounts */
		"/sys",			/* properties of devices */
		"/etc/localtime",	/* the log's time stamps */
		NULL
	};

	return allow_each(rules, paths, READING & known, text);
}

static int allow_all(int rules, char *const *directories, uint64_t known, struct error_text *text)
{
	const char *const own[] = {
		path_run_dir(),		/* sockets, markers */
		path_state_dir(),	/* decisions, records of devices */
		"/dev/shm",		/* counters for xentop */
		"/dev/xen",		/* grants and event channels, opened for each frontend */
		NULL
	};
	int ret = allow_each(rules, own, WRITING & known, text);

	if (!ret)
		ret = allow_each(rules, (const char *const *)directories, WRITING & known, text);
	return ret ? ret : allow_public(rules, known, text);
}

static int landlock_version(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

/* @directories: NULL to permit only world-readable files. */
static int restrict_files(int version, char *const *directories, struct error_text *text)
{
	struct landlock_ruleset_attr attr = { .handled_access_fs = known_rights(version) };
	int rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0), ret;

	if (rules < 0)
		return error_set(text, -errno, "Landlock: %s", strerror(errno));
	ret = directories ? allow_all(rules, directories, attr.handled_access_fs, text) :
		allow_public(rules, attr.handled_access_fs, text);
	if (!ret && syscall(SYS_landlock_restrict_self, rules, 0))
		ret = error_set(text, -errno, "Landlock: %s", strerror(errno));
	close(rules);
	return ret;
}

static int confine_files(char *const *directories, struct error_text *warning, struct error_text *text)
{
	int version = landlock_version(), ret;

	if (version < 0) {
		error_set(warning, 0, "this kernel has no Landlock (%s): only tapdisk's own path checks enforce "
			  "the image directories, which is no boundary", strerror(errno));
		return 0;
	}
	/* a rule needs an existing directory; without this they would be made later */
	ret = path_make_run_dir(text);
	if (!ret)
		ret = path_make_state_dir(NULL, text);
	if (!ret)
		ret = restrict_files(version, directories, text);
	landlocked = !ret;
	return ret;
}

/* @permitted: the first 32 capabilities, as bits. */
static int get_capabilities(uint32_t *permitted)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct now[2];

	if (syscall(SYS_capget, &header, now))
		return -errno;
	*permitted = now[0].permitted;
	return 0;
}

/* @bit: the capability that stays, 0 for none. */
static int bound_capabilities(uint32_t bit, struct error_text *text)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		/* EPERM: without CAP_SETPCAP there is nothing to bound */
		if ((cap > 31 || bit != 1u << cap) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) && errno != EPERM)
			return error_set(text, -errno, "capabilities: %s", strerror(errno));
	}
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return error_set(text, -errno, "capabilities: %s", strerror(errno));
	return 0;
}

static int keep_capabilities(uint32_t bit, struct error_text *text)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct kept[2] = { { 0 } };
	uint32_t permitted = 0;
	int error = get_capabilities(&permitted);

	if (error)
		return error_set(text, error, "capget: %s", strerror(-error));
	kept[0].effective = kept[0].permitted = permitted & bit;
	if (syscall(SYS_capset, &header, kept))
		return error_set(text, -errno, "capset: %s", strerror(errno));
	return 0;
}

static int give_up_gains(struct error_text *text)
{
	const struct rlimit none = { 0, 0 };

	if (setrlimit(RLIMIT_CORE, &none) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return error_set(text, -errno, "cannot give up rights: %s", strerror(errno));
	return 0;
}

int confine(struct error_text *warning, struct error_text *text)
{
	char *const *directories;
	int ret = image_directories(&directories, text);

	if (!ret)
		ret = give_up_gains(text);
	if (!ret && directories)
		ret = confine_files(directories, warning, text);
	if (!ret)
		ret = bound_capabilities(1u << CAP_DAC_OVERRIDE, text);
	return ret ? ret : keep_capabilities(1u << CAP_DAC_OVERRIDE, text);
}

/* Read /etc/passwd, where systemd-sysusers adds the user: other name services may block, or be on a disk of ours. */
static void find_user(struct confine_user *user)
{
	FILE *file = fopen("/etc/passwd", "re");
	struct passwd *entry;

	*user = (struct confine_user){ CONFINE_NOBODY, CONFINE_NOBODY };
	while (file && (entry = fgetpwent(file))) {
		if (!strcmp(entry->pw_name, CONFINE_USER) && entry->pw_uid && entry->pw_gid)
			*user = (struct confine_user){ entry->pw_uid, entry->pw_gid };
	}
	if (file)
		fclose(file);
}

bool confine_has_user(struct confine_user *user)
{
	const uint32_t needed = 1u << CAP_SETUID | 1u << CAP_SETGID;
	uint32_t permitted = 0;

	find_user(user);
#ifdef KEEP_USER
	return false;
#endif
	return !geteuid() && !get_capabilities(&permitted) && (permitted & needed) == needed;
}

static int change_user(const struct confine_user *user, struct error_text *text)
{
	/* the limit would count the processes of all tapdisks together */
	const struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_NPROC, &all);
	if (setgroups(0, NULL) || setresgid(user->gid, user->gid, user->gid) || setresuid(user->uid, user->uid, user->uid))
		return error_set(text, -errno, "cannot become user %u: %s", user->uid, strerror(errno));
	return 0;
}

static int hide(struct error_text *text)
{
#ifdef __SANITIZE_ADDRESS__	/* its leak check traces this process */
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
#else
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ? error_set(text, -errno, "dumpable: %s", strerror(errno)) : 0;
#endif
}

/* @user: NULL to keep the current user. */
static int give_up_all(const struct confine_user *user, struct error_text *text)
{
	int version = landlock_version(), ret = give_up_gains(text);

	if (!ret && version > 0)
		ret = restrict_files(version, NULL, text);
	if (!ret)
		ret = bound_capabilities(0, text);
	if (!ret && user)
		ret = change_user(user, text);
	if (!ret)
		ret = hide(text);
	return ret ? ret : keep_capabilities(0, text);
}

int confine_to_user(const struct confine_user *user, bool opener_landlocked, struct error_text *text)
{
	landlocked = opener_landlocked;
	return give_up_all(user, text);
}

/* A session needs about a megabyte; the rest is for the largest certificates that a client can send. */
static int limit_session(struct error_text *text)
{
	static const struct {
		int resource;
		rlim_t most;
	} limits[] = {
		{ RLIMIT_NPROC, 0 }, { RLIMIT_FSIZE, 0 }, { RLIMIT_NOFILE, 32 },
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)	/* their own memory would count */
		{ RLIMIT_DATA, 64 << 20 },
#endif
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		const struct rlimit limit = { limits[i].most, limits[i].most };

		if (setrlimit(limits[i].resource, &limit))
			return error_set(text, -errno, "cannot set limits: %s", strerror(errno));
	}
	return 0;
}

int confine_to_session(struct error_text *text)
{
	static const struct confine_user nobody = { CONFINE_NOBODY, CONFINE_NOBODY };
	int ret = give_up_all(geteuid() ? NULL : &nobody, text);

	return ret ? ret : limit_session(text);
}
