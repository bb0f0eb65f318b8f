/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * path.c - operations by name, here or in the opener (path.h).
 *
 * Invariants:
 * 1. Each call has its own socket for the answer, so it gets no other call's
 *    answer, and fails when the opener dies.
 * 2. A descriptor that is returned is the only one of its file: its locks are
 *    released when the caller closes it.
 */
#include "opener_protocol.h"
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "array.h"
#include "descriptors.h"
#include "protocol.h"

static int openers[2] = { -1, -1 };
static uid_t opener_uid;
static _Thread_local bool no_timeout;

unsigned path_timeout_ms = 10000;

void path_no_timeout(void)
{
	no_timeout = true;
}

void path_set_opener(const int sockets[2], uid_t uid)
{
	memcpy(openers, sockets, sizeof(openers));
	opener_uid = uid;
}

bool path_has_opener(void)
{
	return openers[0] >= 0;
}

uid_t path_uid(void)
{
	return path_has_opener() ? opener_uid : geteuid();
}

struct call {
	struct path_request request;
	const char *path, *to;		/* @to: NULL if there is only one name */
	int about;			/* descriptor that the operation applies to; -1: none */
	struct path_reply reply;
	char *name;			/* room for PATH_MAX, or NULL */
	int fd;				/* the opened file */
};

static bool is_own(const char *path)
{
	const char *const directories[] = { path_run_dir(), path_state_dir(), "/dev/shm" };

	for (size_t i = 0; i < ARRAY_SIZE(directories); i++) {
		size_t length = strlen(directories[i]);

		if (!strncmp(path, directories[i], length) && (!path[length] || path[length] == '/'))
			return true;
	}
	return false;
}

static int send_request(struct call *call, int answer)
{
	int opener = openers[is_own(call->path)];
	struct iovec parts[] = {
		{ &call->request, sizeof(call->request) },
		{ (char *)call->path, call->request.length[0] },
		{ (char *)call->to, call->request.length[1] },
	};
	const int fds[2] = { answer, call->about };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = call->to ? 3 : 2 };
	union descriptors room;

	descriptors_attach(&message, &room, fds, call->about < 0 ? 1 : 2);
	while (sendmsg(opener, &message, MSG_NOSIGNAL) < 0) {
		if (errno != EINTR)
			return errno == EPIPE ? -ECONNRESET : -errno;
	}
	return 0;
}

/* Receive one message of the answer: 1 for the last. */
static int receive(struct call *call, int socket)
{
	union descriptors room;
	struct iovec parts[] = { { &call->reply, sizeof(call->reply) }, { call->name, call->name ? PATH_MAX - 1 : 0 } };
	struct msghdr message = { .msg_iov = parts, .msg_iovlen = 2 };
	ssize_t length;

	descriptors_expect(&message, &room, 1);
	while ((length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC)) < 0) {
		if (errno != EINTR)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
	}
	if (length == 1 && call->fd < 0) {
		descriptors_take(&message, &call->fd, 1);
		return call->fd < 0 ? -EMFILE : 0;	/* this process has no free descriptor */
	}
	if (length < (ssize_t)sizeof(call->reply) || length != (ssize_t)sizeof(call->reply) + call->reply.length)
		return -ECONNRESET;
	if (call->name)
		call->name[call->reply.length] = '\0';
	return 1;
}

static bool changes_something(const struct path_request *request)
{
	return request->operation > PATH_REAL || request->flags & (O_CREAT | O_TRUNC);
}

/* Limit the time to wait for data on @socket. */
static int limit_wait(const struct call *call, int socket)
{
	const struct timeval limit = { path_timeout_ms / 1000, path_timeout_ms % 1000 * 1000 };

	if (no_timeout || changes_something(&call->request))
		return 0;
	return setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) ? -errno : 0;
}

static int call_opener(struct call *call)
{
	int pair[2], ret;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -errno;
	ret = limit_wait(call, pair[0]);
	if (!ret)
		ret = send_request(call, pair[1]);
	close(pair[1]);
	while (!ret)
		ret = receive(call, pair[0]);
	close(pair[0]);
	ret = ret < 0 ? ret : call->reply.error;
	if (ret && call->fd >= 0) {
		close(call->fd);
		call->fd = -1;
	}
	return ret;
}

/* Send the call to the opener. Returns as libc does: 0 or -1 and errno. */
static int ask(struct call *call)
{
	size_t length = strlen(call->path), to_length = call->to ? strlen(call->to) : 0;
	int ret = -ENAMETOOLONG;

	call->fd = -1;
	call->request.length[0] = (uint16_t)length;
	call->request.length[1] = (uint16_t)to_length;
	if (!strncmp(call->path, PATH_OWN_FD, strlen(PATH_OWN_FD)))
		call->about = (int)strtol(call->path + strlen(PATH_OWN_FD), NULL, 10);
	if (length < PATH_MAX && to_length < PATH_MAX)
		ret = call_opener(call);
	errno = ret ? -ret : errno;
	return ret ? -1 : 0;
}

#define CALL(what, ...) { .request = { .operation = (what) }, .about = -1, .fd = -1, __VA_ARGS__ }

static int ask_about(enum path_operation operation, const char *path)
{
	struct call call = CALL(operation, .path = path);

	return ask(&call);
}

int path_open(const char *path, int flags, mode_t mode)
{
	struct call call = CALL(PATH_OPEN, .path = path);

	if (!path_has_opener())
		return open(path, flags | O_CLOEXEC, mode);
	call.request.flags = flags & ~O_CLOEXEC;
	call.request.mode = mode;
	return ask(&call) ? -1 : call.fd;
}

DIR *path_opendir(const char *path)
{
	int fd = path_open(path, O_RDONLY | O_DIRECTORY, 0), error;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (fd < 0 || dir)
		return dir;
	error = errno;
	close(fd);
	errno = error;
	return NULL;
}

static int ask_stat(enum path_operation operation, const char *path, struct stat *st)
{
	struct call call = CALL(operation, .path = path);
	int ret = ask(&call);

	if (!ret)
		*st = call.reply.st;
	return ret;
}

int path_stat(const char *path, struct stat *st)
{
	return path_has_opener() ? ask_stat(PATH_STAT, path, st) : stat(path, st);
}

int path_lstat(const char *path, struct stat *st)
{
	return path_has_opener() ? ask_stat(PATH_LSTAT, path, st) : lstat(path, st);
}

int path_statfs(const char *path, struct statfs *fs)
{
	struct call call = CALL(PATH_STATFS, .path = path);
	int ret;

	if (!path_has_opener())
		return statfs(path, fs);
	ret = ask(&call);
	if (!ret)
		*fs = call.reply.fs;
	return ret;
}

char *path_real(const char *path, char real[PATH_MAX])
{
	struct call call = CALL(PATH_REAL, .path = path, .name = real);

	if (!path_has_opener())
		return realpath(path, real);
	return ask(&call) ? NULL : real;
}

int path_mkdir(const char *path, mode_t mode)
{
	struct call call = CALL(PATH_MKDIR, .path = path);

	call.request.mode = mode;
	return path_has_opener() ? ask(&call) : mkdir(path, mode);
}

int path_rmdir(const char *path)
{
	return path_has_opener() ? ask_about(PATH_RMDIR, path) : rmdir(path);
}

int path_remove(const char *path)
{
	return path_has_opener() ? ask_about(PATH_REMOVE, path) : unlink(path);
}

int path_rename(const char *from, const char *to)
{
	struct call call = CALL(PATH_RENAME, .path = from, .to = to);

	return path_has_opener() ? ask(&call) : rename(from, to);
}

int path_bind(int socket, const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct call call = CALL(PATH_BIND, .path = path);

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	call.about = socket;
	if (path_has_opener())
		return ask(&call);
	strcpy(address.sun_path, path);
	if (bind(socket, (struct sockaddr *)&address, sizeof(address)))
		return -1;
	if (!chmod(path, 0600))
		return 0;
	unlink(path);
	return -1;
}

bool path_same_image(const char *one, const char *other)
{
	struct stat a, b;

	if (path_stat(one, &a) || path_stat(other, &b))
		return false;
	if (S_ISBLK(a.st_mode) && S_ISBLK(b.st_mode))
		return a.st_rdev == b.st_rdev;
	return S_ISREG(a.st_mode) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

int path_sync(const char *path)
{
	int fd = path_open(path, O_RDONLY, 0), ret = fd < 0 || fsync(fd) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return ret;
}

int path_sync_name(const char *path)
{
	char copy[PATH_MAX];

	if (snprintf(copy, sizeof(copy), "%s", path) >= (int)sizeof(copy))
		return -ENAMETOOLONG;
	return path_sync(dirname(copy));
}

static const char *directory_said(const char *name, const char *otherwise)
{
	const char *directory = getenv(name);

	return directory && *directory ? directory : otherwise;
}

const char *path_run_dir(void)
{
	return directory_said(RUN_DIR_ENV, RUN_DIR_DEFAULT);
}

const char *path_state_dir(void)
{
	return directory_said(STATE_DIR_ENV, STATE_DIR_DEFAULT);
}

static int make_directory(const char *path, mode_t mode, struct error_text *text)
{
	if (!path_mkdir(path, mode) || errno == EEXIST)
		return 0;
	return error_set(text, -errno, "%s: cannot create the directory: %s", path, strerror(errno));
}

int path_make_run_dir(struct error_text *text)
{
	return make_directory(path_run_dir(), 0755, text);
}

int path_make_lasting_directory(const char *path, struct error_text *text)
{
	int error = make_directory(path, 0700, text);

	if (error)
		return error;
	error = path_sync_name(path);
	return error ? error_set(text, error, "%s: its directory cannot be made durable: %s", path, strerror(-error)) : 0;
}

int path_make_state_dir(const char *below, struct error_text *text)
{
	int error = path_make_lasting_directory(path_state_dir(), text);
	char path[PATH_MAX];

	if (error || !below)
		return error;
	if (snprintf(path, sizeof(path), "%s/%s", path_state_dir(), below) >= (int)sizeof(path))
		return error_set(text, -ENAMETOOLONG, "%s: too long", path_state_dir());
	return path_make_lasting_directory(path, text);
}
