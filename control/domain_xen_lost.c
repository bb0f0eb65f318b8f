/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * domain_xen_lost.c - detects that xenstored has died. It cannot be restarted
 * without its data, so the host must be.
 *
 * libxenstore does not report it: its pollable descriptor is its own pipe,
 * which then stays silent, so libxl waits for its deadlines of a minute and
 * more. So we keep an idle connection, which is closed when xenstored dies.
 * If xenstored runs in its own domain there is no socket, and this detects
 * nothing.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <xenstore.h>
#include <xen/io/xs_wire.h>

#include "domain.h"
#include "domain_xen_lost.h"

#define AGAIN_MS 100
#define ANSWER_S 5		/* a xenstored that takes longer is alive, but busy */

static bool is_socket(const char *path)
{
	struct stat info;

	return !stat(path, &info) && S_ISSOCK(info.st_mode);
}

void xenstored_by_socket_only(void)
{
	const char *path = xs_daemon_socket();

	if (is_socket(path))
		setenv("XENSTORED_PATH", path, 0);
}

/* *@fd is -1: there is no socket. */
static int connect_idle(int *fd, struct error_text *text)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = xs_daemon_socket();
	int error = 0;

	*fd = -1;
	if (strlen(path) >= sizeof(address.sun_path) || !is_socket(path))
		return 0;
	strcpy(address.sun_path, path);
	*fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	while (*fd >= 0 && (error = connect(*fd, (struct sockaddr *)&address, sizeof(address)) ? -errno : 0) == -EINTR)
		;
	if (*fd < 0 || error)
		error = error_set(text, -errno, "cannot reach xenstored at %s: %s", path, strerror(errno));
	return error;
}

bool xen_lost(const struct xen_watchdog *watchdog)
{
	struct pollfd poll_fd = { .fd = watchdog->fd, .events = POLLIN };

	return watchdog->lost || poll(&poll_fd, 1, 0) > 0;
}

static void wake(struct xen_watchdog *watchdog, atomic_bool *why)
{
	atomic_store(why, true);
	eventfd_write(watchdog->event, 1);
}

static bool ended(int error)
{
	return error == ECONNREFUSED || error == ECONNRESET || error == EPIPE || error == ENOENT;
}

/* Send a request whose answer does not matter. False only if it is certain that no answer will come. */
static bool answers(int fd)
{
	static const struct {
		struct xsd_sockmsg header;
		char domid[2];
	} question = { { .type = XS_GET_DOMAIN_PATH, .len = sizeof(question.domid) }, "0" };
	const size_t length = sizeof(question.header) + sizeof(question.domid);
	struct timeval most = { .tv_sec = ANSWER_S };
	ssize_t got;
	char byte;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof(most)))
		return true;
	if (send(fd, &question, length, MSG_NOSIGNAL) < 0)
		return !ended(errno);
	while ((got = recv(fd, &byte, 1, 0)) < 0 && errno == EINTR)
		;
	return got > 0 || (got < 0 && !ended(errno));
}

bool xen_lost_now(struct xen_watchdog *watchdog)
{
	int fd, error;

	if (watchdog->fd < 0 || xen_lost(watchdog))
		return watchdog->fd >= 0;
	error = connect_idle(&fd, NULL);
	if (ended(-error) || (!error && (fd < 0 || !answers(fd))))
		wake(watchdog, &watchdog->lost);
	if (fd >= 0)
		close(fd);
	return watchdog->lost;
}

/* Calls give_up() repeatedly: what it aborts may start just after a call. */
static void *watch(void *arg)
{
	struct xen_watchdog *watchdog = arg;
	struct pollfd poll_fds[] = { { .fd = watchdog->event, .events = POLLIN }, { .fd = watchdog->fd, .events = POLLIN } };
	bool barks = false;
	eventfd_t count;

	while (!watchdog->over) {
		poll(poll_fds, 2, barks ? AGAIN_MS : -1);
		if (poll_fds[0].revents)
			eventfd_read(watchdog->event, &count);
		if (poll_fds[1].revents)
			poll_fds[1].fd = -1;
		barks = poll_fds[1].fd != watchdog->fd || watchdog->told || watchdog->lost;
		if (barks && !watchdog->over)
			watchdog->give_up(watchdog->owner);
	}
	return NULL;
}

void xen_watchdog_bark(struct xen_watchdog *watchdog)
{
	wake(watchdog, &watchdog->told);
}

int xen_watchdog_start(struct xen_watchdog *watchdog, void (*give_up)(void *owner), void *owner, struct error_text *text)
{
	int error;

	*watchdog = (struct xen_watchdog){ .fd = -1, .give_up = give_up, .owner = owner };
	watchdog->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	error = watchdog->event < 0 ? error_set(text, -errno, "eventfd: %s", strerror(errno)) : connect_idle(&watchdog->fd, text);
	if (error)
		return error;
	error = -pthread_create(&watchdog->thread, NULL, watch, watchdog);
	watchdog->started = !error;
	return error ? error_set(text, error, "%s", strerror(-error)) : 0;
}

void xen_watchdog_stop(struct xen_watchdog *watchdog)
{
	if (watchdog->started) {
		wake(watchdog, &watchdog->over);
		pthread_join(watchdog->thread, NULL);
	}
	if (watchdog->event >= 0)
		close(watchdog->event);
	if (watchdog->fd >= 0)
		close(watchdog->fd);
}
