/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * opener.c - opens files for an unprivileged tapdisk (path.h).
 *
 *   tapdisk, root ── opener_start() ──┬── opener: root, CAP_DAC_OVERRIDE, Landlock by the list of image directories
 *                                     │     ▲ names    │ descriptors
 *                                     └── tapdisk: an unprivileged user, no capability
 *
 * The client, tapdisk, may be controlled by a guest. Invariants:
 *  1. A request is checked completely before anything is done: its operation,
 *     its lengths, no zero byte in a name, only known flags and modes.
 *  2. It only opens regular files, block devices, directories (to read) and
 *     Xen's event channels; the type of the very file is checked before it is
 *     opened. Files of the kernel's own file systems are refused: some of them
 *     give rights.
 *  3. It never blocks on sending a reply, and keeps no descriptor that was sent
 *     or opened.
 *  4. Landlock (confine.c), not this file, limits it to directories.
 *  5. Its threads are alike, share only a socket, and start before the filter:
 *     each may block in the kernel on the file of its request. There are more
 *     of them than threads of tapdisk that may wait for them (probe.h). Two of
 *     them have a separate socket, for tapdisk's own directories: tapdisk waits
 *     for those without a limit, so they must not wait for images that do not
 *     answer.
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

#include "array.h"
#include "confine.h"
#include "descriptors.h"
#include "opener_protocol.h"
#include "path.h"
#include "probe.h"
#include "processor.h"
#include "sandbox.h"
#include "thread.h"

#define THREADS (PROBE_MAX + 4)
#define OWN_THREADS 2		/* of those, for tapdisk's own directories */
#define EVENT_CHANNELS "/dev/xen/evtchn"
#define OWN_NAME "tapdisk-opener"
#define XENFS_MAGIC 0xabba1974
#define CONFIGFS_MAGIC 0x62656570

#define KNOWN_FLAGS (O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_NOCTTY | O_NONBLOCK | O_DIRECT | O_NOFOLLOW | O_DIRECTORY | O_LARGEFILE)
#define FILE_MODES 0644		/* nothing executable, nothing that others write to */
#define DIRECTORY_MODES 0755

static pid_t opener;		/* in tapdisk: its opener */
static pid_t tapdisk;		/* in the opener: its tapdisk */

struct asked {
	struct path_request request;
	char path[PATH_MAX], to[PATH_MAX];
	int answer, about;		/* received descriptors; -1: none */
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
	for (size_t i = 0; i < ARRAY_SIZE(kernels); i++) {
		if ((unsigned long)fs.f_type == kernels[i])
			return true;
	}
	return false;
}

/* @fd may be open with O_PATH only. */
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
	ret = check_kind(fd, path, flags);	/* another process may have made it first */
	if (!ret)
		return fd;
	close(fd);
	return ret;
}

/* Xen's driver names interrupts after the thread that opens it: use the name of the tapdisk (processor.h). */
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

/* Check operation, flags, mode and which parts are there. */
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

/* A name of the sender's own descriptor: replace the number by that of the received one. */
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

/* Take the names from @bytes (@length of them) and check the request. */
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
		descriptor_send(asked->answer, ret, MSG_NOSIGNAL | MSG_DONTWAIT);	/* dropped if not read */
		close(ret);
		ret = 0;
	}
	if (asked->about >= 0)
		close(asked->about);
	reply.error = ret;
	parts[1].iov_len = reply.length;
	sendmsg(asked->answer, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* False when the other end is closed. */
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

/* Close all inherited descriptors (log, --ready-fd) except the sockets. The second socket has the higher number. */
static int leave_files(int sockets[2])
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return -errno;
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		if (dup2(null, fd) < 0)
			return -errno;
	}
	for (int i = 0; i < 2; i++) {
		sockets[i] = dup2(sockets[i], STDERR_FILENO + 1 + i);
		if (sockets[i] < 0)
			return -errno;
	}
	return close_range(sockets[1] + 1, ~0u, 0) ? -errno : 0;
}

static sem_t started;

static void __attribute__((noreturn)) end(void)
{
	syscall(SYS_exit_group, 0);	/* in _exit() AddressSanitizer checks for leaks, with calls that the filter forbids */
	__builtin_unreachable();
}

static void *thread_main(void *arg)
{
	sem_post(&started);		/* libc's setup of the thread is done, which the filter would forbid */
	opener_serve(*(const int *)arg);
	end();
}

/* In addition to the first thread. @sockets must stay valid. */
static int start_threads(const int sockets[2])
{
	unsigned count = 1;
	int error = sem_init(&started, 0, 0) ? -errno : 0;

	for (; !error && count < THREADS; count++)
		error = thread_start(NULL, thread_main, (void *)&sockets[count <= OWN_THREADS]);
	while (!error && --count)
		while (sem_wait(&started) && errno == EINTR)
			;
	return error;
}

static void be_opener(int sockets[2], const struct sock_fprog *filter)
{
	static struct opener_report report;
	int error = leave_files(sockets);

	if (error)
		error_set(&report.text, error, "the opener: %s", strerror(-error));
	/* it ends with tapdisk, which needs it for its cleanup */
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	tapdisk = getppid();
	prctl(PR_SET_NAME, OWN_NAME);
	if (!error)
		error = confine(&report.warning, &report.text);
	report.landlocked = confine_has_landlock();
	if (!error) {
		error = start_threads(sockets);
		if (error)
			error_set(&report.text, error, "the opener's threads: %s", strerror(-error));
	}
	if (!error)
		error = sandbox_enter(filter, &report.text);
	report.error = error;
	if (send(sockets[0], &report, sizeof(report), MSG_NOSIGNAL) != sizeof(report) || error)
		_exit(1);
	opener_serve(sockets[0]);
	end();
}

static void close_both(const int sockets[2])
{
	close(sockets[0]);
	close(sockets[1]);
}

/* false: with errno. */
static bool make_sockets(int ours[2], int theirs[2])
{
	int pair[2];

	for (int i = 0; i < 2; i++) {
		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
			if (i) {
				close(ours[0]);
				close(theirs[0]);
			}
			return false;
		}
		ours[i] = pair[0];
		theirs[i] = pair[1];
	}
	return true;
}

int opener_start(const struct sock_fprog *filter, struct opener_report *report)
{
	int ours[2], theirs[2], error;

	memset(report, 0, sizeof(*report));
	if (!make_sockets(ours, theirs))
		return report->error = error_set(&report->text, -errno, "the opener: %s", strerror(errno));
	signal(SIGCHLD, SIG_IGN);	/* no wait() for it */
	opener = fork();
	if (!opener) {
		close_both(ours);
		be_opener(theirs, filter);
	}
	error = opener < 0 ? -errno : 0;
	close_both(theirs);
	if (!error && recv(ours[0], report, sizeof(*report), 0) != sizeof(*report))
		error = -ECONNRESET;
	if (error)
		error_set(&report->text, error, "the opener: %s", strerror(-error));
	report->error = error ? error : report->error;
	if (report->error)
		close_both(ours);
	else
		path_set_opener(ours, geteuid());
	return report->error;
}

pid_t opener_pid(void)
{
	return opener > 0 ? opener : 0;
}
