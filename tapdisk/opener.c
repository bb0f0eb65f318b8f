/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * opener.c - opens files for a tapdisk that has no right to (path.h).
 *
 *   tapdisk, root ── opener_start() ──┬── opener: root, CAP_DAC_OVERRIDE, Landlock by the list of image directories
 *                                     │     ▲ names    │ descriptors
 *                                     └── tapdisk: an unprivileged user, no capability
 *
 * Who asks may have been taken over by a guest. Invariants:
 *  1. A request is looked at as a whole before anything is done: its operation,
 *     its lengths, no zero byte in a name, none but the known flags and modes.
 *  2. Nothing but regular files, block devices and directories (to read) is opened,
 *     and Xen's event channels; what it is is known before it is opened, of the
 *     very file. Nothing of the kernel's own file systems is: some of their
 *     files are rights in themselves.
 *  3. No answer is waited for, and no descriptor is kept that was sent or opened.
 *  4. Which directories it is held to is Landlock's doing (confine.c), not this file's.
 *  5. Its threads are alike, share nothing but the socket, and were there before
 *     the filter: each waits in the kernel for whatever its request is about.
 *     Of those that tapdisk's threads wait for (probe.h) fewer than there are.
 */
#include "opener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"
#include "descriptors.h"
#include "opener_protocol.h"
#include "path.h"
#include "probe.h"
#include "processor.h"
#include "sandbox.h"
#include "thread.h"

#define THREADS (PROBE_MAX + 4)
#define EVENT_CHANNELS "/dev/xen/evtchn"
#define OWN_NAME "tapdisk-opener"
#define XENFS_MAGIC 0xabba1974
#define CONFIGFS_MAGIC 0x62656570

#define KNOWN_FLAGS (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | O_NONBLOCK | O_DIRECT | O_NOFOLLOW | O_DIRECTORY | O_LARGEFILE)
#define FILE_MODES 0644		/* nothing executable, nothing that others write to */
#define DIRECTORY_MODES 0755

static pid_t opener;		/* of the process that has one */
static pid_t tapdisk;		/* of the one that is it */

struct asked {
	struct path_request request;
	char path[PATH_MAX], to[PATH_MAX];
	int answer, about;		/* -1: none came */
};

/* The kernel's own files are not images. */
static bool is_kernels(int fd)
{
	static const unsigned long kernels[] = {
		PROC_SUPER_MAGIC, SYSFS_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC, SECURITYFS_MAGIC, CGROUP_SUPER_MAGIC,
		CGROUP2_SUPER_MAGIC, EFIVARFS_MAGIC, BPF_FS_MAGIC, XENFS_MAGIC, CONFIGFS_MAGIC,
	};
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return true;
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		if ((unsigned long)fs.f_type == kernels[i])
			return true;
	}
	return false;
}

/* @fd is open, perhaps as no more than a name (O_PATH). */
static int check_kind(int fd, const char *path, int flags)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISBLK(st.st_mode))
		return 0;
	if (S_ISCHR(st.st_mode))
		return strcmp(path, EVENT_CHANNELS) ? -EACCES : 0;
	if (S_ISLNK(st.st_mode))
		return -ELOOP;		/* O_NOFOLLOW */
	if (S_ISDIR(st.st_mode) && (flags & (O_ACCMODE | O_CREAT)) != O_RDONLY)
		return -EISDIR;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -EACCES;
	return is_kernels(fd) ? -EACCES : 0;
}

static int open_new(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags, mode), ret;

	if (fd < 0)
		return -errno;
	ret = check_kind(fd, path, flags);	/* somebody was faster */
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

/* Xen's driver calls the interrupts after the thread that opens it: they get the name of whose they are. */
static int open_channels(const char *path, int flags)
{
	char name[16];
	int fd;

	processor_channel_name(name, tapdisk);
	prctl(PR_SET_NAME, name);
	fd = open(path, flags);
	prctl(PR_SET_NAME, OWN_NAME);
	return fd;
}

static int open_file(const char *path, int flags, mode_t mode)
{
	int name = open(path, O_PATH | O_CLOEXEC | (flags & O_NOFOLLOW)), ret;
	char same[64];

	flags |= O_CLOEXEC;
	if (name < 0)
		return errno == ENOENT && flags & O_CREAT ? open_new(path, flags, mode) : -errno;
	ret = check_kind(name, path, flags);
	if (!ret && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		ret = -EEXIST;
	if (!ret) {
		snprintf(same, sizeof(same), PATH_OWN_FD "%d", name);
		flags &= ~(O_CREAT | O_NOFOLLOW);
		ret = strcmp(path, EVENT_CHANNELS) ? open(same, flags) : open_channels(same, flags);
		ret = ret < 0 ? -errno : ret;
	}
	close(name);
	return ret;
}

static int real_name(const char *path, struct path_reply *reply, char real[PATH_MAX])
{
	if (!realpath(path, real))
		return -errno;
	reply->length = (uint32_t)strlen(real);
	return 0;
}

#define RESULT(call) ((call) ? -errno : 0)

/* 0 or -errno, or for PATH_OPEN a descriptor. */
static int do_it(struct asked *asked, struct path_reply *reply, char real[PATH_MAX])
{
	const struct path_request *request = &asked->request;
	const char *path = asked->path;

	switch ((enum path_operation)request->operation) {
	case PATH_OPEN:
		return open_file(path, request->flags, request->mode);
	case PATH_STAT:
		return RESULT(stat(path, &reply->st));
	case PATH_LSTAT:
		return RESULT(lstat(path, &reply->st));
	case PATH_STATFS:
		return RESULT(statfs(path, &reply->fs));
	case PATH_REAL:
		return real_name(path, reply, real);
	case PATH_MKDIR:
		return RESULT(mkdir(path, request->mode));
	case PATH_RMDIR:
		return RESULT(rmdir(path));
	case PATH_REMOVE:
		return RESULT(unlink(path));
	case PATH_RENAME:
		return RESULT(rename(path, asked->to));
	case PATH_BIND:
		return RESULT(path_bind(asked->about, path));
	}
	return -EINVAL;
}

/* Whether it is a request at all. */
static int check_request(const struct asked *asked)
{
	const struct path_request *request = &asked->request;
	uint32_t operation = request->operation;

	if (operation < PATH_OPEN || operation > PATH_BIND || (operation == PATH_BIND) != (asked->about >= 0 &&
	    strncmp(asked->path, PATH_OWN_FD, strlen(PATH_OWN_FD))))
		return -EINVAL;
	if (request->flags & ~(operation == PATH_OPEN ? KNOWN_FLAGS : 0) || (request->flags & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	if (request->mode & ~(operation == PATH_OPEN ? FILE_MODES : operation == PATH_MKDIR ? DIRECTORY_MODES : 0))
		return -EINVAL;
	return (operation == PATH_RENAME) == (request->length[1] > 0) ? 0 : -EINVAL;
}

/* The sender's own descriptor has another number here. */
static int name_descriptor(struct asked *asked)
{
	if (strncmp(asked->path, PATH_OWN_FD, strlen(PATH_OWN_FD)))
		return 0;
	if (asked->about < 0 || asked->request.operation > PATH_REAL)
		return -EINVAL;
	snprintf(asked->path, sizeof(asked->path), PATH_OWN_FD "%d", asked->about);
	return 0;
}

static int take_name(char name[PATH_MAX], const char *bytes, size_t length)
{
	memcpy(name, bytes, length);
	name[length] = '\0';
	return memchr(name, '\0', length) ? -EINVAL : 0;
}

/* The names in @bytes, @length of them. */
static int take_names(struct asked *asked, const char *bytes, size_t length)
{
	const uint16_t *lengths = asked->request.length;
	int ret;

	if (!lengths[0] || lengths[0] >= PATH_MAX || lengths[1] >= PATH_MAX || length != (size_t)lengths[0] + lengths[1])
		return -EINVAL;
	ret = take_name(asked->path, bytes, lengths[0]);
	if (!ret)
		ret = take_name(asked->to, bytes + lengths[0], lengths[1]);
	if (!ret)
		ret = check_request(asked);
	return ret ? ret : name_descriptor(asked);
}

static void answer_request(struct asked *asked, int ret)
{
	char real[PATH_MAX];
	struct path_reply reply;
	struct iovec parts[] = { { &reply, sizeof(reply) }, { real, 0 } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };

	memset(&reply, 0, sizeof(reply));
	if (!ret)
		ret = do_it(asked, &reply, real);
	if (ret >= 0 && asked->request.operation == PATH_OPEN) {
		descriptor_send(asked->answer, ret, MSG_NOSIGNAL | MSG_DONTWAIT);	/* who does not take it has nothing */
		close(ret);
		ret = 0;
	}
	if (asked->about >= 0)
		close(asked->about);
	reply.error = ret;
	parts[1].iov_len = reply.length;
	sendmsg(asked->answer, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* False when nobody can ask any more. */
static bool serve_one(int socket)
{
	struct asked asked;
	char names[2 * PATH_MAX];
	union descriptors room;
	struct iovec parts[] = { { &asked.request, sizeof(asked.request) }, { names, sizeof(names) } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	int fds[2], ret = -EINVAL;
	ssize_t length;

	descriptors_expect(&message, &room, 2);
	length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	if (length <= 0)
		return length < 0 && errno == EINTR;
	descriptors_take(&message, fds, 2);
	asked.answer = fds[0];
	asked.about = fds[1];
	if (length > (ssize_t)sizeof(asked.request) && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		ret = take_names(&asked, names, (size_t)length - sizeof(asked.request));
	if (asked.answer >= 0) {
		answer_request(&asked, ret);
		close(asked.answer);
	}
	return true;
}

void opener_serve(int socket)
{
	while (serve_one(socket))
		;
}

/* Keep nothing of what the other one has: where it is logged, who waits for it. */
static int leave_files(int *socket)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return -errno;
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		if (dup2(null, fd) < 0)
			return -errno;
	}
	*socket = dup2(*socket, STDERR_FILENO + 1) < 0 ? -1 : STDERR_FILENO + 1;
	if (*socket < 0 || close_range(*socket + 1, ~0u, 0))
		return -errno;
	return 0;
}

static sem_t started;

static void __attribute__((noreturn)) end(void)
{
	syscall(SYS_exit_group, 0);	/* AddressSanitizer would look for leaks in _exit(), with calls that are not allowed */
	__builtin_unreachable();
}

static void *thread_main(void *arg)
{
	sem_post(&started);		/* what libc does for a new thread is done, which the filter would not let it */
	opener_serve(*(const int *)arg);
	end();
}

/* Besides the first one. @socket stays where it is. */
static int start_threads(const int *socket)
{
	unsigned count = 1;
	int error = sem_init(&started, 0, 0) ? -errno : 0;

	for (; !error && count < THREADS; count++)
		error = thread_start(NULL, thread_main, (void *)socket);
	while (!error && --count)
		while (sem_wait(&started) && errno == EINTR)
			;
	return error;
}

static void be_opener(int socket, const struct sock_fprog *filter)
{
	static struct opener_report report;
	int error = leave_files(&socket);

	if (error)
		error_set(&report.text, error, "the opener: %s", strerror(-error));
	/* it ends when the other one does, who has things to clear away */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	tapdisk = getppid();
	prctl(PR_SET_NAME, OWN_NAME);
	if (!error)
		error = confine(&report.warning, &report.text);
	report.landlocked = confine_has_landlock();
	if (!error) {
		error = start_threads(&socket);
		if (error)
			error_set(&report.text, error, "the opener's threads: %s", strerror(-error));
	}
	if (!error)
		error = sandbox_enter(filter, &report.text);
	report.error = error;
	if (send(socket, &report, sizeof(report), MSG_NOSIGNAL) != sizeof(report) || error)
		_exit(1);
	opener_serve(socket);
	end();
}

int opener_start(const struct sock_fprog *filter, struct opener_report *report)
{
	int pair[2], error;

	memset(report, 0, sizeof(*report));
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return report->error = error_set(&report->text, -errno, "the opener: %s", strerror(errno));
	signal(SIGCHLD, SIG_IGN);	/* nobody waits for it */
	opener = fork();
	if (!opener) {
		close(pair[0]);
		be_opener(pair[1], filter);
	}
	error = opener < 0 ? -errno : 0;
	close(pair[1]);
	if (!error && recv(pair[0], report, sizeof(*report), 0) != sizeof(*report))
		error = -ECONNRESET;
	if (error)
		error_set(&report->text, error, "the opener: %s", strerror(-error));
	report->error = error ? error : report->error;
	if (report->error)
		close(pair[0]);
	else
		path_set_opener(pair[0], geteuid());
	return report->error;
}

pid_t opener_pid(void)
{
	return opener > 0 ? opener : 0;
}
