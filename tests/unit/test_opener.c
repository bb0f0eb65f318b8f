/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * test_opener.c - the process that opens tapdisk's files: requests that it
 * serves, that it refuses, and malformed ones. Each test has an opener of its
 * own, a child process with the filter on, which serves a socket of the test.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "confine.h"
#include "hanging_fs.h"
#include "image_directories.h"
#include "in_child.h"
#include "opener.h"
#include "opener_protocol.h"
#include "path.h"
#include "probe.h"
#include "protocol.h"
#include "sandbox.h"
#include "scratch.h"

static char inside[128], outside[128], state[128], run[128];

static struct opener_report started;

/* In a process with an opener, which may open only files in @inside when @listed. */
static void with_opener(bool listed, void (*body)(void))
{
	struct sock_fprog filter;
	char list[200], line[200];
	int status, fd;
	pid_t pid;

	snprintf(list, sizeof(list), "%s/list", scratch_dir);
	fd = open(list, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_true(dprintf(fd, "%s\n", inside) > 0);
	close(fd);
	snprintf(line, sizeof(line), "%s/%s", scratch_dir, listed ? "list" : "no-list");
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		setenv(IMAGE_DIRECTORIES_ENV, line, 1);
		umask(077);
		require(!sandbox_prepare(&filter, SANDBOX_OPENER, NULL));
		require(!opener_start(&filter, &started));
		free(filter.filter);
		body();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static const char *in(const char *directory, const char *name)
{
	static char paths[4][300];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

static void serves(void)
{
	struct stat mine, theirs;
	char real[PATH_MAX], bytes[5] = "";
	struct statfs fs;
	int fd = path_open(in(inside, "image"), O_RDWR, 0);
	DIR *dir;

	require(fd >= 0);
	require(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	require(pwrite(fd, "hello", 5, 0) == 5 && pread(fd, bytes, 5, 0) == 5 && !memcmp(bytes, "hello", 5));
	require(!fstat(fd, &mine) && !path_stat(in(inside, "image"), &theirs) && mine.st_ino == theirs.st_ino);
	require(!path_lstat(in(inside, "link"), &theirs) && S_ISLNK(theirs.st_mode));
	require(!path_statfs(inside, &fs) && fs.f_bsize);
	require(path_real(in(inside, "../images/image"), real) && !strcmp(real, in(inside, "image")));
	require(!path_mkdir(in(inside, "directory"), 0700));
	require(!path_rename(in(inside, "directory"), in(inside, "other")));
	require(!path_rmdir(in(inside, "other")));
	require((fd = path_open(in(inside, "new"), O_WRONLY | O_CREAT | O_EXCL, 0600)) >= 0);
	require(!fstat(fd, &mine) && mine.st_uid == path_uid() && (mine.st_mode & 07777) == 0600);
	require_errno(path_open(in(inside, "new"), O_WRONLY | O_CREAT | O_EXCL, 0600), EEXIST);
	require(path_open(in(inside, "new"), O_WRONLY | O_CREAT | O_TRUNC, 0600) >= 0);
	require(!path_remove(in(inside, "new")));
	require_errno(path_open(in(inside, "new"), O_RDONLY, 0), ENOENT);
	require_errno(path_stat(in(inside, "new"), &theirs), ENOENT);
	require((dir = path_opendir(inside)) && readdir(dir) && !closedir(dir));
	require(path_open(inside, O_RDONLY | O_DIRECTORY, 0) >= 0);
}

/* Returns the number of threads of the opener. */
static unsigned each_thread(void (*body)(pid_t thread))
{
	struct dirent *entry;
	unsigned count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", opener_pid());
	require((dir = opendir(path)));
	for (; (entry = readdir(dir)); count += entry->d_name[0] != '.') {
		if (entry->d_name[0] != '.')
			body(atoi(entry->d_name));
	}
	closedir(dir);
	return count;
}

static cpu_set_t one_processor;

static void hold_back(pid_t thread)
{
	const struct sched_param none = { 0 };

	require(!sched_setaffinity(thread, sizeof(one_processor), &one_processor) && !sched_setscheduler(thread, SCHED_IDLE, &none));
}

/*
 * A lock taken on a descriptor from the opener ends with that descriptor, at once: also on a single
 * processor where the opener only runs when no other process wants to.
 */
static void keeps_no_descriptor(void)
{
	const struct sched_param none = { 0 };

	CPU_ZERO(&one_processor);
	CPU_SET(sched_getcpu(), &one_processor);
	require(!sched_setaffinity(0, sizeof(one_processor), &one_processor));
	require(each_thread(hold_back) > PROBE_MAX);
	sched_setscheduler(0, SCHED_OTHER, &none);
	for (int i = 0; i < 1000; i++) {
		int fd = path_open(in(inside, "image"), O_RDWR, 0), other;

		require(fd >= 0);
		require(!flock(fd, LOCK_EX | LOCK_NB));
		close(fd);
		other = open(in(inside, "image"), O_RDWR | O_CLOEXEC);
		require(!flock(other, LOCK_EX | LOCK_NB));
		close(other);
	}
}

static void own_descriptor(void)
{
	int fd = open(in(inside, "image"), O_RDONLY | O_CLOEXEC), again;
	struct stat one, other;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	require(!unlink(in(inside, "image")));
	again = path_open(path, O_RDWR, 0);
	require(again >= 0 && !fstat(fd, &one) && !fstat(again, &other) && one.st_ino == other.st_ino);
	require(!path_stat(path, &other) && one.st_ino == other.st_ino);
	require_errno(path_remove(path), EINVAL);
	close(open(in(inside, "image"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static void sockets(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct ucred peer;
	socklen_t length = sizeof(peer);
	struct stat st;
	char long_name[120];

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", in(inside, "socket"));
	require(!path_bind(fd, address.sun_path) && !listen(fd, 1));
	require(!stat(address.sun_path, &st) && (st.st_mode & 07777) == 0600);
	require(!connect(client, (struct sockaddr *)&address, sizeof(address)));
	/* a listening socket belongs to its user */
	require(!getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &length) && peer.pid == getpid());
	require_errno(path_bind(fd, in(inside, "again")), EINVAL);
	require_errno(path_bind(client, address.sun_path), EADDRINUSE);
	memset(long_name, 'a', sizeof(long_name) - 1);
	long_name[sizeof(long_name) - 1] = '\0';
	require_errno(path_bind(fd, long_name), ENAMETOOLONG);
	require(!path_remove(address.sun_path));
}

static void not_images(void)
{
	require_errno(path_open("/dev/null", O_RDWR, 0), EACCES);
	require_errno(path_open("/dev/mem", O_RDONLY, 0), access("/dev/mem", F_OK) ? ENOENT : EACCES);
	require_errno(path_open(in(inside, "fifo"), O_RDWR, 0), EACCES);
	require_errno(path_open("/proc/self/status", O_RDONLY, 0), EACCES);
	require_errno(path_open("/proc/sys/kernel/core_pattern", O_WRONLY, 0), EACCES);
	require_errno(path_open("/sys/power/state", O_WRONLY, 0), access("/sys/power/state", F_OK) ? ENOENT : EACCES);
	require_errno(path_open(inside, O_RDWR, 0), EISDIR);
	require_errno(path_open(in(inside, "link"), O_RDONLY | O_NOFOLLOW, 0), ELOOP);
	require_errno(path_open(in(inside, "nowhere/image"), O_RDWR | O_CREAT, 0600), ENOENT);
}

static void odd_wishes(void)
{
	static char name[PATH_MAX + 10];

	require_errno(path_open(in(inside, "image"), O_RDWR | O_PATH, 0), EINVAL);
	require_errno(path_open(in(inside, "image"), O_RDWR | O_ASYNC, 0), EINVAL);
	require_errno(path_open(inside, O_RDWR | O_TMPFILE, 0600), EINVAL);
	require_errno(path_open(in(inside, "image"), O_ACCMODE, 0), EINVAL);
	require_errno(path_open(in(inside, "program"), O_RDWR | O_CREAT, 0755), EINVAL);
	require_errno(path_open(in(inside, "program"), O_RDWR | O_CREAT, 04600), EINVAL);
	require_errno(path_mkdir(in(inside, "directory"), 01777), EINVAL);
	require_errno(path_open("", O_RDONLY, 0), EINVAL);
	memset(name, 'a', sizeof(name) - 1);
	require_errno(path_open(name, O_RDONLY, 0), ENAMETOOLONG);
	require(access(in(inside, "program"), F_OK) && access(in(inside, "directory"), F_OK));
}

static void only_the_directories(void)
{
	int fd = open(in(outside, "image"), O_RDONLY | O_CLOEXEC);
	char path[64];

	require(started.landlocked);
	require(path_open(in(inside, "image"), O_RDWR, 0) >= 0);
	require(path_open(in(state, "new"), O_RDWR | O_CREAT, 0600) >= 0);
	require_errno(path_open(in(outside, "image"), O_RDONLY, 0), EACCES);
	require_errno(path_open(in(inside, "link"), O_RDONLY, 0), EACCES);		/* leads outside */
	require_errno(path_open(in(inside, "../secrets/image"), O_RDONLY, 0), EACCES);
	require_errno(path_open(in(outside, "new"), O_RDWR | O_CREAT, 0600), EACCES);
	require_errno(path_open("/etc/passwd", O_RDONLY, 0), EACCES);
	require_errno(path_remove(in(outside, "image")), EACCES);
	require_errno(path_mkdir(in(outside, "directory"), 0700), EACCES);
	require_errno(path_rename(in(outside, "image"), in(outside, "image2")), EACCES);
	require(path_rename(in(inside, "image"), in(outside, "image2")) < 0);
	/* nor through a directory that it was given */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	require_errno(path_open(path, O_RDWR, 0), EACCES);
}

/* ---- requests that path.c does not make ---- */

static int raw_socket;

static void start_raw(void)
{
	int pair[2];

	require(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	if (!fork()) {
		close(pair[0]);
		opener_serve(pair[1]);
		_exit(0);
	}
	close(pair[1]);
	raw_socket = pair[0];
}

/* Sends @length bytes, with @answer and @about if they are not -1. Returns the error of the answer, 1 without one. */
static int ask_raw(const void *bytes, size_t length, bool with_answer, int extra)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(10 * sizeof(int))];
	} control = { 0 };
	struct iovec part = { (void *)bytes, length };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
	int pair[2], fds[10], count = 0;
	struct path_reply reply = { .error = 1 };

	require(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
	if (with_answer)
		fds[count++] = pair[1];
	while (extra--)
		fds[count++] = pair[0];
	if (count) {
		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
	}
	require(sendmsg(raw_socket, &message, MSG_NOSIGNAL) == (ssize_t)length);
	close(pair[1]);
	if (recv(pair[0], &reply, sizeof(reply), 0) < (ssize_t)sizeof(reply))
		reply.error = 1;
	close(pair[0]);
	return reply.error;
}

struct raw {
	struct path_request request;
	char names[2 * PATH_MAX + 100];
};

static int ask_named(uint32_t operation, const char *name, size_t first, size_t second, size_t sent)
{
	static struct raw raw;

	memset(&raw, 0, sizeof(raw));
	raw.request.operation = operation;
	raw.request.length[0] = (uint16_t)first;
	raw.request.length[1] = (uint16_t)second;
	memcpy(raw.names, name, strlen(name));
	return ask_raw(&raw, sizeof(raw.request) + sent, true, 0);
}

static void no_requests(void)
{
	static struct raw raw;
	const char *image = in(inside, "image");
	size_t length = strlen(image);

	start_raw();
	require(ask_named(PATH_STAT, image, length, 0, length) == 0);
	require(ask_named(0, image, length, 0, length) == -EINVAL);
	require(ask_named(PATH_BIND + 1, image, length, 0, length) == -EINVAL);
	require(ask_named(~0u, image, length, 0, length) == -EINVAL);
	require(ask_named(PATH_STAT, image, length, 0, length + 1) == -EINVAL);	/* longer than it says */
	require(ask_named(PATH_STAT, image, length + 1, 0, length) == -EINVAL);	/* shorter */
	require(ask_named(PATH_STAT, image, length + 1, 0, length + 1) == -EINVAL);	/* a zero byte in it */
	require(ask_named(PATH_STAT, image, 0, length, length) == -EINVAL);
	require(ask_named(PATH_STAT, image, length, 1, length + 1) == -EINVAL);	/* two names in place of one */
	require(ask_named(PATH_RENAME, image, length, 0, length) == -EINVAL);
	require(ask_named(PATH_STAT, image, PATH_MAX, 0, PATH_MAX) == -EINVAL);
	require(ask_named(PATH_STAT, image, UINT16_MAX, 0, length) == -EINVAL);
	require(ask_named(PATH_BIND, image, length, 0, length) == -EINVAL);		/* which socket? */
	require(ask_named(PATH_STAT, "/proc/self/fd/0", 15, 0, 15) == -EINVAL);	/* its own files must not be reached */
	require(ask_raw(&raw, sizeof(raw), true, 0) == -EINVAL);			/* more than it accepts */
	require(ask_raw(&raw, 3, true, 0) == -EINVAL);
	require(ask_raw(&raw, sizeof(raw.request), true, 9) == -EINVAL);	/* too many descriptors */
	require(ask_raw(&raw, sizeof(raw.request), false, 0) == 1);
	for (unsigned i = 0; i < sizeof(raw); i++)
		((uint8_t *)&raw)[i] = (uint8_t)(i * 167 + 13);
	for (unsigned i = 1; i < 2000; i += 7)
		require(ask_raw(&raw, i, true, i % 2) == -EINVAL);
	/* and it still works */
	require(ask_named(PATH_STAT, image, length, 0, length) == 0);
}

/* ---- what the opener is, and its end ---- */

static void thread_has_little(pid_t thread)
{
	require(status_is(thread, "Seccomp:", "2"));
	require(status_is(thread, "NoNewPrivs:", "1"));
	require(status_is(thread, "CapPrm:", geteuid() ? "0000000000000000" : "0000000000000002"));
	require(status_is(thread, "CapBnd:", "0000000000000002") || geteuid());
}

static void has_little(void)
{
	char path[64], target[64] = "";

#ifdef __SANITIZE_THREAD__	/* each process has its own, opened before */
	thread_has_little(opener_pid());
#else
	each_thread(thread_has_little);
#endif
	for (int fd = 0; fd < 3; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", opener_pid(), fd);
		require(readlink(path, target, sizeof(target) - 1) > 0 && !strcmp(target, "/dev/null"));
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/5", opener_pid());
	require_errno(readlink(path, target, sizeof(target) - 1), ENOENT);	/* 3 and 4 are its sockets */
}

/* ---- files that do not answer ---- */

static char mnt[128];

struct opening {
	pthread_t thread;
	char path[200];
	int fd;
};

static void *open_without_timeout(void *arg)
{
	struct opening *opening = arg;

	path_no_timeout();
	opening->fd = path_open(opening->path, O_RDONLY, 0);
	return NULL;
}

/* A client that waits for ever does not delay others, and gets its file in the end. */
static void serves_beside(void)
{
	struct opening openings[PROBE_MAX] = { 0 };
	struct stat st;

	for (unsigned i = 0; i < PROBE_MAX; i++) {
		snprintf(openings[i].path, sizeof(openings[i].path), "%s/open", mnt);
		require(!pthread_create(&openings[i].thread, NULL, open_without_timeout, &openings[i]));
	}
	require(hanging_wait_held(PROBE_MAX));
	serves();
	require(!path_stat(in(mnt, "good"), &st));
	hanging_set(false);
	for (unsigned i = 0; i < PROBE_MAX; i++) {
		require(!pthread_join(openings[i].thread, NULL));
		require(openings[i].fd >= 0 && !close(openings[i].fd));
	}
	require(hanging_wait_open(0));
}

/* However many images do not answer: tapdisk's work in its own directories does not wait for them. */
static void serves_own_directories(void)
{
	struct opening openings[PROBE_MAX + 4] = { 0 };
	const char *const own[] = { run, state, "/dev/shm" };
	char name[64];
	struct stat st;

	path_timeout_ms = 1000;		/* not while the threads read it */
	for (unsigned i = 0; i < PROBE_MAX + 4; i++) {
		snprintf(openings[i].path, sizeof(openings[i].path), "%s/open", mnt);
		require(!pthread_create(&openings[i].thread, NULL, open_without_timeout, &openings[i]));
	}
	require(hanging_wait_held(PROBE_MAX + 2));
	require_errno(path_stat(in(inside, "image"), &st), ETIMEDOUT);	/* that many do delay other opens */
	snprintf(name, sizeof(name), "td3-%d", (int)getpid());
	for (unsigned i = 0; i < 3; i++) {
		require(!path_stat(own[i], &st));
		require(!path_mkdir(in(own[i], name), 0700) && !path_rmdir(in(own[i], name)));
	}
	require(!path_rename(in(run, "image"), in(run, "other")) && !path_rename(in(run, "other"), in(run, "image")));
	hanging_set(false);
	for (unsigned i = 0; i < PROBE_MAX + 4; i++) {
		require(!pthread_join(openings[i].thread, NULL));
		require(openings[i].fd >= 0 && !close(openings[i].fd));
	}
	require(hanging_wait_open(0));
}

/* The opener's descriptors: 0 to 2 and its sockets. */
static bool has_only(unsigned number)
{
	unsigned count = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", opener_pid());
	require((dir = opendir(path)));
	for (struct dirent *entry; (entry = readdir(dir));)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count == number;
}

/* A client that does not wait gets nothing, not even later. */
static void has_a_limit(void)
{
	struct stat st;

	path_timeout_ms = 300;
	require_errno(path_open(in(mnt, "open"), O_RDONLY, 0), ETIMEDOUT);
	require_errno(path_stat(in(mnt, "lookup"), &st), ETIMEDOUT);
	require(!path_stat(in(inside, "image"), &st));
	hanging_set(false);
	require(hanging_wait_open(0));
	require(hanging_eventually(has_only, 5));
	require(path_open(in(mnt, "open"), O_RDONLY, 0) >= 0);
}

static void dead_opener(void)
{
	struct stat st;

	require(!kill(opener_pid(), SIGTERM) && path_open(in(inside, "image"), O_RDWR, 0) >= 0);
	require(!kill(opener_pid(), SIGKILL));
	/* it fails as soon as nobody can answer, whether the request was read or not */
	require_errno(path_open(in(inside, "image"), O_RDWR, 0), ECONNRESET);
	require_errno(path_stat(in(inside, "image"), &st), ECONNRESET);
}

static int ending[2];

static void tell_pid(void)
{
	pid_t pid = opener_pid();

	/* A child that exits while we do must not be reaped by the kernel at once: our parent waits for it. */
	signal(SIGCHLD, SIG_DFL);
	require(write(ending[1], &pid, sizeof(pid)) == sizeof(pid));
}

static void test_serves(void **unused) { with_opener(false, serves); }
static void test_no_descriptor(void **unused) { with_opener(false, keeps_no_descriptor); }
static void test_own_descriptor(void **unused) { with_opener(false, own_descriptor); }
static void test_sockets(void **unused) { with_opener(false, sockets); }
static void test_not_images(void **unused) { with_opener(false, not_images); }
static void test_odd_wishes(void **unused) { with_opener(false, odd_wishes); }
static void test_no_requests(void **unused) { with_opener(false, no_requests); }
static void test_has_little(void **unused) { with_opener(false, has_little); }
static void test_dead_opener(void **unused) { with_opener(false, dead_opener); }

static void with_hanging_files(void (*body)(void))
{
	snprintf(mnt, sizeof(mnt), "%s/mnt", scratch_dir);
	if (!hanging_start(mnt))
		skip();
	hanging_set(true);
	with_opener(false, body);
	hanging_stop();
}

static void test_beside(void **unused) { with_hanging_files(serves_beside); }
static void test_own_directories(void **unused) { with_hanging_files(serves_own_directories); }
static void test_limit(void **unused) { with_hanging_files(has_a_limit); }

static void test_directories(void **unused)
{
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) <= 0)
		skip();
	with_opener(true, only_the_directories);
}

/* The client has died: the opener, now our child, exits. */
static void test_ends(void **unused)
{
	int status;
	pid_t pid;

	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	assert_int_equal(pipe2(ending, O_CLOEXEC), 0);
	with_opener(false, tell_pid);
	assert_int_equal(read(ending[0], &pid, sizeof(pid)), sizeof(pid));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

static int setup(void **unused)
{
	scratch_directory(inside, "images");
	scratch_directory(outside, "secrets");
	scratch_directory(run, "run");
	scratch_directory(state, "state");
	setenv(RUN_DIR_ENV, run, 1);
	setenv(STATE_DIR_ENV, state, 1);
	return symlink(in(outside, "image"), in(inside, "link")) || mkfifo(in(inside, "fifo"), 0600);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_serves),
		cmocka_unit_test(test_no_descriptor),
		cmocka_unit_test(test_own_descriptor),
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_not_images),
		cmocka_unit_test(test_odd_wishes),
		cmocka_unit_test(test_directories),
		cmocka_unit_test(test_no_requests),
		cmocka_unit_test(test_has_little),
		cmocka_unit_test(test_beside),
		cmocka_unit_test(test_own_directories),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_dead_opener),
		cmocka_unit_test(test_ends),
	};

	scratch_init();
	return cmocka_run_group_tests(tests, setup, NULL);
}
