/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * control.c - the control socket: listening, and letting clients in.
 *
 * The socket is bound and listened on under another name and renamed, so
 * that one with the final name that refuses connections is a dead process's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control_connection.h"
#include "log.h"
#include "path.h"

#define MAX_CONNECTIONS 256
#define BACKLOG 64
#define ACCEPT_RETRY_MS 1000

#define TOO_MANY "{\"ok\": false, \"errno\": 11, \"error\": \"tapdisk has too many control connections\"}\n"
#define NOT_OURS "{\"ok\": false, \"errno\": 13, \"error\": \"only root and tapdisk's own user may control it\"}\n"

static void refuse_connection(int fd, const char *line)
{
	/* a fresh socket has room for a line; when it has not, the end of the connection must do */
	if (send(fd, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_control("control: refusal not sent: %s", strerror(errno));
	close(fd);
}

/* The socket's mode keeps others away; somebody may have changed that. An unprivileged user that was root is not its own
 * friend: other tapdisks are the same. */
static bool is_ours(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) && (!peer.uid || (peer.uid == geteuid() && !path_has_opener()));
}

static void resume_accepting(void *arg)
{
	struct control *control = arg;

	control->retry = NULL;
	if (loop_modify_fd(control->source, EPOLLIN))
		log_error("control: no connections are accepted any more");
}

/* Out of descriptors or memory: the connection stays in the queue, so look again later instead of spinning. */
static void pause_accepting(struct control *control, int error)
{
	log_error("control: cannot accept a connection: %s", strerror(error));
	if (!loop_add_timer(control->loop, &control->retry, ACCEPT_RETRY_MS, resume_accepting, control))
		loop_modify_fd(control->source, 0);
}

static void accept_ready(void *arg, uint32_t events)
{
	struct control *control = arg;
	int fd, error;

	fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			pause_accepting(control, errno);
		return;
	}
	if (control->nr_connections >= MAX_CONNECTIONS) {
		log_warning("control: more than %d connections; one refused", MAX_CONNECTIONS);
		refuse_connection(fd, TOO_MANY);
		return;
	}
	if (!is_ours(fd)) {
		log_warning("control: a connection of another user was refused");
		refuse_connection(fd, NOT_OURS);
		return;
	}
	error = control_connection_create(control, fd);
	if (error)
		log_error("control: new connection: %s", strerror(-error));
}

/* Bind and listen as @path.new, then give it its name. */
static int listen_on(int fd, const char *path, struct error_text *text)
{
	char fresh[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
	int length = snprintf(fresh, sizeof(fresh), "%s.new", path);
	int error;

	if (length < 0 || (size_t)length >= sizeof(fresh))
		return error_set(text, -ENAMETOOLONG, "%s: too long for the path of a socket", path);
	path_remove(fresh);	/* of a process that had our pid and died right here */
	if (path_bind(fd, fresh))
		return error_set(text, -errno, "%s: %s", path, strerror(errno));
	if (!listen(fd, BACKLOG) && !path_rename(fresh, path))
		return 0;
	error = -errno;
	path_remove(fresh);
	return error_set(text, error, "%s: %s", path, strerror(-error));
}

static int open_socket(struct control *control, struct error_text *text)
{
	if (path_mkdir(path_run_dir(), 0755) && errno != EEXIST)
		return error_set(text, -errno, "%s: cannot make the directory: %s", path_run_dir(), strerror(errno));
	if (asprintf(&control->path, CONTROL_SOCKET_FORMAT, path_run_dir(), getpid()) < 0) {
		control->path = NULL;
		return error_set(text, -ENOMEM, "out of memory");
	}
	control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (control->fd < 0)
		return error_set(text, -errno, "socket: %s", strerror(errno));
	return listen_on(control->fd, control->path, text);
}

int control_start(struct control **control, struct loop *loop, const struct control_ops *ops, void *arg,
		  struct error_text *text)
{
	struct control *made = calloc(1, sizeof(*made));
	int error;

	*control = NULL;
	if (!made)
		return error_set(text, -ENOMEM, "out of memory");
	made->loop = loop;
	made->ops = ops;
	made->arg = arg;
	made->fd = -1;
	error = open_socket(made, text);
	if (error)
		goto out;
	error = loop_add_fd(loop, &made->source, made->fd, EPOLLIN, accept_ready, made);
	if (error) {
		path_remove(made->path);
		error_set(text, error, "epoll: %s", strerror(-error));
		goto out;
	}
	*control = made;
	return 0;
out:
	if (made->fd >= 0)
		close(made->fd);
	free(made->path);
	free(made);
	return error;
}

void control_stop(struct control *control)
{
	if (!control)
		return;
	path_remove(control->path);
	control->ops = NULL;
	while (control->connections)
		control_connection_end(control->connections);
	loop_remove(control->source);
	loop_remove(control->retry);
	close(control->fd);
	free(control->path);
	free(control);
}
