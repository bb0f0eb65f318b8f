/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_confine.c - the privileges that tapdisk drops at its start. Each test
 * drops them in a child process, since that cannot be undone.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"
#include "image_directories.h"
#include "in_child.h"
#include "protocol.h"
#include "scratch.h"

static char inside[128], outside[128], run[128], state[128], list[128];

static void confined(void)
{
	struct error_text warning = { "" }, text = { "" };
	int error = confine(&warning, &text);

	if (error)
		fprintf(stderr, "# %s\n", text.text);
	require(!error);
	require(!warning.text[0]);
}

static void write_list(const char *text)
{
	FILE *file = fopen(list, "we");

	require(file && fputs(text, file) >= 0 && !fclose(file));
	setenv(IMAGE_DIRECTORIES_ENV, list, 1);
}

static void one_capability(void)
{
	struct rlimit core;

	unsetenv(IMAGE_DIRECTORIES_ENV);
	confined();
	require(status_is(getpid(), "CapEff:", geteuid() ? "0000000000000000" : "0000000000000002"));
	require(status_is(getpid(), "CapPrm:", geteuid() ? "0000000000000000" : "0000000000000002"));
	require(status_is(getpid(), "CapInh:", "0000000000000000"));
	require(status_is(getpid(), "CapAmb:", "0000000000000000"));
	require(status_is(getpid(), "CapBnd:", "0000000000000002") || geteuid());
	require(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	require(!getrlimit(RLIMIT_CORE, &core) && !core.rlim_cur && !core.rlim_max);
}

static void no_root_powers(void)
{
	char node[200];

	snprintf(node, sizeof(node), "%s/node", outside);
	if (geteuid())
		return;
	unsetenv(IMAGE_DIRECTORIES_ENV);
	confined();
	require(syscall(SYS_setuid, 65534) < 0 && errno == EPERM);
	require(chroot("/") < 0 && errno == EPERM);
	require(mknod(node, S_IFBLK | 0600, 0) < 0 && errno == EPERM);
	require(chown(outside, 1, 1) < 0 && errno == EPERM);
	require(socket(AF_PACKET, SOCK_RAW, 0) < 0 && errno == EPERM);
	/* the rights that are left work */
	require(!chmod(outside, 0));
	require(open(outside, O_RDONLY | O_CLOEXEC) >= 0);
	require(!chmod(outside, 0700));
}

/* The state of root's tapdisk that has an opener. */
static void another_user(void)
{
	struct confine_user user;
	struct error_text text = { "" };
	gid_t groups[1];
	uid_t uids[3];		/* or groups */

	if (geteuid() || getenv("KEEP_USER"))
		return;
	require(confine_has_user(&user) && user.uid && user.gid);
	require(!confine_to_user(&user, false, &text));
	require(!getresuid(&uids[0], &uids[1], &uids[2]) && uids[0] == user.uid && uids[1] == user.uid && uids[2] == user.uid);
	require(!getresgid(&uids[0], &uids[1], &uids[2]) && uids[0] == user.gid && uids[1] == user.gid && uids[2] == user.gid);
	require(!getgroups(1, groups));
	require(status_is(getpid(), "CapEff:", "0000000000000000") && status_is(getpid(), "CapPrm:", "0000000000000000"));
	require(status_is(getpid(), "CapInh:", "0000000000000000") && status_is(getpid(), "CapAmb:", "0000000000000000"));
	require(status_is(getpid(), "CapBnd:", "0000000000000000"));
	require(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
#ifndef __SANITIZE_ADDRESS__	/* the sanitizer traces the process */
	require(!prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
#endif
	require(setuid(0) < 0 && errno == EPERM);
	require(open(inside, O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
	require(open("/proc/locks", O_RDONLY | O_CLOEXEC) >= 0);
}

/* Not even files that everybody may open. */
static void another_user_has_no_files(void)
{
	struct confine_user user;

	if (geteuid() || getenv("KEEP_USER"))
		return;
	require(confine_has_user(&user) && !confine_to_user(&user, false, NULL));
	require(open("/etc/passwd", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
	require(open("/dev/null", O_RDWR | O_CLOEXEC) < 0 && errno == EACCES);
	require(open("/tmp/nobodys", O_RDWR | O_CREAT | O_CLOEXEC, 0600) < 0 && errno == EACCES);
}

static bool opens(const char *directory, const char *name, int flags)
{
	char path[300];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return open(path, flags | O_CLOEXEC, 0600) >= 0;
}

static void only_the_directories(void)
{
	char text[300];

	snprintf(text, sizeof(text), "# images\n\n%s\n/not/there\n", inside);
	write_list(text);
	confined();
	require(opens(inside, "image", O_RDWR));
	require(opens(inside, "new", O_RDWR | O_CREAT | O_TRUNC));
	require(opens(run, "new", O_RDWR | O_CREAT));
	require(opens(state, "new", O_RDWR | O_CREAT));
	require(opens("/proc", "locks", O_RDONLY));
	require(!opens(outside, "image", O_RDONLY) && errno == EACCES);
	require(!opens(outside, "new", O_RDWR | O_CREAT) && errno == EACCES);
	require(!opens(inside, "link", O_RDONLY) && errno == EACCES);		/* leads outside */
	require(!opens("/etc", "passwd", O_RDONLY) && errno == EACCES);
	require(!opens("/proc", "sys/kernel/printk", O_WRONLY) && errno == EACCES);
	require(!opens("/sys", "power/state", O_WRONLY));
	require(!opens("/dev", "null", O_RDWR) && errno == EACCES);
}

static void directories_are_compared_whole(void)
{
	struct error_text text = { "" };
	char lines[300], path[300];

	snprintf(lines, sizeof(lines), "%s\n", inside);
	write_list(lines);
	snprintf(path, sizeof(path), "%s/image", inside);
	require(!image_directories_check(path, NULL));
	snprintf(path, sizeof(path), "%s/new/file", inside);	/* whose directory does not exist */
	require(image_directories_check(path, NULL) == -EPERM);
	snprintf(path, sizeof(path), "%s/new.cow", inside);
	require(!image_directories_check(path, NULL));
	snprintf(path, sizeof(path), "%s/../%s/image", inside, strrchr(outside, '/') + 1);
	require(image_directories_check(path, &text) == -EPERM);
	require(strstr(text.text, "in none of the directories"));
	require(strstr(text.text, list));
	snprintf(path, sizeof(path), "%s/link", inside);
	require(image_directories_check(path, NULL) == -EPERM);
	snprintf(path, sizeof(path), "%s-too/image", inside);
	require(image_directories_check(path, NULL) == -EPERM);
}

static void a_list_that_is_none(void)
{
	struct error_text warning = { "" }, text = { "" };

	write_list("srv/images\n");
	require(confine(&warning, &text) == -EINVAL);
	require(strstr(text.text, "line 1: \"srv/images\" is not an absolute path"));
	require(image_directories_check(inside, NULL) == -EINVAL);
}

/* All images are refused, instead of all allowed. */
static void an_empty_list(void)
{
	write_list("# nothing\n");
	require(image_directories_check(inside, NULL) == -EPERM);
	confined();
	require(!opens(inside, "image", O_RDONLY) && errno == EACCES);
}

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

static void test_capabilities(void **unused) { in_child(one_capability); }
static void test_no_root_powers(void **unused) { in_child(no_root_powers); }
static void test_compared_whole(void **unused) { in_child(directories_are_compared_whole); }
static void test_bad_list(void **unused) { in_child(a_list_that_is_none); }

static void test_another_user(void **unused) { in_child(another_user); }

static void test_no_files(void **unused)
{
	if (!has_landlock())
		skip();
	in_child(another_user_has_no_files);
}

static void test_directories(void **unused)
{
	if (!has_landlock())
		skip();
	in_child(only_the_directories);
}

static void test_empty_list(void **unused)
{
	if (!has_landlock())
		skip();
	in_child(an_empty_list);
}

static int setup(void **unused)
{
	char link[200], target[200], similar[128];

	scratch_directory(inside, "images");
	scratch_directory(similar, "images-too");
	scratch_directory(outside, "secrets");
	scratch_directory(run, "run");
	scratch_directory(state, "state");
	setenv(RUN_DIR_ENV, run, 1);
	setenv(STATE_DIR_ENV, state, 1);
	snprintf(list, sizeof(list), "%s/list", scratch_dir);
	snprintf(link, sizeof(link), "%s/link", inside);
	snprintf(target, sizeof(target), "%s/image", outside);
	return symlink(target, link);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_no_root_powers),
		cmocka_unit_test(test_another_user),
		cmocka_unit_test(test_no_files),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_compared_whole),
		cmocka_unit_test(test_bad_list),
		cmocka_unit_test(test_empty_list),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, setup, NULL);
}
